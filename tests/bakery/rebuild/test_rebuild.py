"""`rebuild` as CI runs it: the real command, twice, each time on an empty computer, on scripted Google Cloud and AWS at once.

It takes some 20 s: eight bakes in processes of their own. Something has to greet as SSH does on port 22 of a loopback address.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import ec2, gce
from tests.servers.ec2_asking import environment
from tests.servers.guests import played, played_on_ec2
from tests.servers.vm import ScriptedVms

pytestmark = [pytest.mark.server, pytest.mark.program]

PROJECT = Path(__file__).parents[3]
ADDRESS = f"127.22.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 2}"
"""Where every machine is reached; another run of the tests at the same time has another address."""
FAKE_SSH = "#!/bin/sh\ncat >/dev/null\n"
RECIPE = """
name = "{name}"
[rebuild]
max_age_days = 3650
keep = 1
[[steps]]
name = "tools"
apt = ["{package}"]
[[tests]]
name = "works"
run = "true"
"""


class Greeter(socketserver.BaseRequestHandler):
    """Greets as an SSH server does."""

    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-test\r\n")


class Port(socketserver.ThreadingTCPServer):
    """A port that can be used again at once, though connections of an earlier test are in TIME_WAIT."""

    allow_reuse_address = True
    daemon_threads = True


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command has ended: its exit status, the results by recipe and cloud, and standard error."""

    status: int
    results: dict[str, dict[str, Any]]
    stderr: str


@dataclass(slots=True)
class Place:
    """Two clouds, and computers that reach them."""

    folder: Path
    gcp: Any
    aws: Any
    variables: dict[str, str]
    computers: int = 0

    def recipe(self, name: str, package: str = "git") -> str:
        """Write a recipe, and return its path."""
        path = self.folder / f"{name}.toml"
        path.write_text(RECIPE.format(name=name, package=package), encoding="utf-8")
        return str(path)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `rebuild` on a computer that has no file of Bakehouse."""
        self.computers += 1
        home = {"BAKEHOUSE_HOME": str(self.folder / f"home-{self.computers}"), "GITHUB_STEP_SUMMARY": str(self.summary)}
        command = [sys.executable, "-P", "-m", "invoke", "--search-root", str(PROJECT), "rebuild", "--json", *words]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, env={**self.variables, **home}, cwd=self.folder, text=True, start_new_session=True, **pipes
        )

    def run(self, *words: str) -> Ended:
        """Run it to its end."""
        return self.end(self.start(*words))

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for its end."""
        stdout, stderr = process.communicate(timeout=300)
        rows = json.loads(stdout) if stdout.startswith("[") else []  # else it is an error
        return Ended(process.returncode, {f"{row['recipe']} on {row['cloud']}": row for row in rows}, stderr)

    @property
    def summary(self) -> Path:
        return self.folder / "summary.md"

    def machines(self) -> list[str]:
        """Return the machines and firewall rules that there are."""
        kinds = ("instances ", "firewalls ", "security-groups ", "disks ", "volumes ")
        return [line for server in (self.gcp, self.aws) for line in server.inventory() if line.startswith(kinds)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give two clouds without images."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(FAKE_SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    with ExitStack() as stack:
        greeter = stack.enter_context(Port((ADDRESS, 22), Greeter))
        threading.Thread(target=greeter.serve_forever, daemon=True).start()
        stack.callback(greeter.shutdown)
        addresses = itertools.repeat(ADDRESS)
        google = stack.enter_context(gce.serve(vms=ScriptedVms(played([])), addresses=addresses))
        amazon = stack.enter_context(ec2.serve(vms=ScriptedVms(played_on_ec2([])), addresses=addresses))
        variables = {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "BAKEHOUSE_CONFIG": os.devnull,
            "BAKEHOUSE_GCE_ENDPOINT": google.url,
            "GOOGLE_CLOUD_PROJECT": google.cloud.project,
            **environment(amazon),
        }
        yield Place(tmp_path, google, amazon, variables)
        assert not google.crashes
        assert not amazon.crashes


def outcomes(ended: Ended) -> dict[str, str]:
    return {pair: row["outcome"] for pair, row in ended.results.items()}


def test_the_second_run_finds_nothing_to_do_and_a_changed_recipe_replaces_its_image(place: Place) -> None:
    recipes = ",".join([place.recipe("first"), place.recipe("second")])
    pairs = [f"{name} on {cloud}" for name in ("first", "second") for cloud in ("gcp", "aws")]
    words = ("--recipe", recipes, "--cloud", "gcp,aws")
    due = place.run(*words, "--dry-run")
    assert (due.status, outcomes(due)) == (0, dict.fromkeys(pairs, "due"))
    assert place.machines() == []
    first = place.run(*words)
    assert (first.status, outcomes(first)) == (0, dict.fromkeys(pairs, "baked")), first.stderr
    assert place.machines() == []
    again = place.run(*words)
    assert (again.status, outcomes(again)) == (0, dict.fromkeys(pairs, "unchanged")), again.stderr
    assert {row["image"] for row in again.results.values()} == {"first-0.1.0-1", "second-0.1.0-1"}
    place.recipe("second", package="vim")
    changed = place.run(*words)
    assert outcomes(changed) == {pair: "baked" if "second" in pair else "unchanged" for pair in pairs}
    assert {tuple(row["pruned"]) for pair, row in changed.results.items() if "second" in pair} == {("second-0.1.0-1",)}
    assert "| second | aws | baked | second-0.1.0-2 |" in place.summary.read_text(encoding="utf-8")


def test_a_cloud_that_fails_stops_no_other_and_the_exit_status_tells(place: Place) -> None:
    place.aws.fault("RunInstances", error=ec2.ApiError("UnauthorizedOperation", "You are not authorized."), nth=None)
    ended = place.run("--recipe", place.recipe("first"), "--cloud", "gcp,aws")
    assert (ended.status, outcomes(ended)) == (1, {"first on gcp": "baked", "first on aws": "failed"})
    assert "UnauthorizedOperation" in ended.results["first on aws"]["why"]
    assert place.machines() == []


def test_a_run_that_is_cancelled_leaves_nothing(place: Place) -> None:
    started = threading.Event()
    place.gcp.fault("compute.images.insert", error=started.set)
    process = place.start("--recipe", place.recipe("first"), "--cloud", "gcp,aws")
    assert started.wait(120)
    process.send_signal(signal.SIGTERM)
    ended = place.end(process)
    assert ended.status == 128 + signal.SIGTERM, ended.stderr
    assert place.machines() == []
