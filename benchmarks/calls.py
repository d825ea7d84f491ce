"""Count the requests and seconds of a bake and of a launch on Google Cloud: Bakehouse beside the gcloud commands of the tutorials.

    sudo .venv/bin/python benchmarks/calls.py [--runs 3] [--latency-ms 100]

Both talk to the strict server of the tests, with latency added to each request, and get the same machines: they follow a script,
and say all that they have to say the moment they boot. So what is told is the client's own time, and no machine's. Needs gcloud,
and root, for something that greets as SSH does on port 22 of a loopback address, which is that of all machines. The search of the
disk, which Bakehouse does over SSH, finds an empty one. Bakehouse runs as its users run it, one process a command, in a project
and a store that have been in use. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shlex
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bakery.recipe.recipe import load
from bakery.script.render import render, render_tests
from bakery.script.resolve import resolve
from clouds import markers, names
from clouds.gcp.instances import FACTS, SCRIPT, write_facts
from launcher.access.password import generate
from tests.fake_guest import read_script
from tests.servers.gce.server import Gce, serve
from tests.servers.guests import played
from tests.servers.vm import ScriptedVms

PROJECT = Path(__file__).parents[1]
ADDRESS = "127.22.0.1"
"""Where every machine is reached."""
ZONE = ("--zone=us-central1-a",)
POLL_S = 5
_FAKE_SSH = "#!/bin/sh\ncat >/dev/null\n"


@dataclass(frozen=True, slots=True)
class Run:
    """What one bake or launch took of its client: requests by method, wall and CPU seconds, processes."""

    requests: Counter[str]
    wall_s: float
    cpu_s: float
    commands: int


@dataclass
class Bench:
    """A server, and the two clients in turn."""

    server: Gce
    folder: Path
    commands: int = 0
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "bin/ssh").write_text(_FAKE_SSH)
        (self.folder / "bin/ssh").chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "BAKEHOUSE_HOME": str(self.folder / "home"),
            "BAKEHOUSE_CONFIG": os.devnull,
            "BAKEHOUSE_GCE_ENDPOINT": self.server.url,
            "GOOGLE_CLOUD_PROJECT": self.server.cloud.project,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{self.server.url}/compute/v1/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CONFIG": str(self.folder / "gcloud"),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_PROJECT": self.server.cloud.project,
        }

    def run(self, *words: str) -> str:
        """Run a command and return what it prints."""
        self.commands += 1
        done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(words)}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def gcloud(self, *words: str) -> str:
        """Run a command of `gcloud compute` and return what it prints."""
        return self.run("gcloud", "compute", *words)

    def measure(self, work: Callable[[], object]) -> Run:
        """Do something once, and return what it took."""
        self.server.calls.clear()
        self.commands, cpu_s, began = 0, children_s(), time.monotonic()
        work()
        wall_s = time.monotonic() - began
        requests = Counter(call.method.removeprefix("compute.") for call in self.server.calls)
        return Run(requests, wall_s, children_s() - cpu_s, self.commands)

    # Bakehouse

    def bake(self) -> None:
        """Bake the recipe `minimal`, as `./inv bake` does."""
        inv = (sys.executable, "-P", "-m", "invoke", "--search-root", str(PROJECT))
        self.run(*inv, "bake", "--recipe", "minimal", "--cloud", "gcp", "--force")

    def launch(self, name: str) -> None:
        """Launch a machine from it, without Invoke."""
        self.run(sys.executable, "-P", "-m", "launcher", "launch", "--cloud", "gcp", "--recipe", "minimal", "--name", name)

    # gcloud

    def bake_by_hand(self, script: str, tests: str, image: str) -> None:
        """Bake the same script, and try the image with the same tests, by the commands of the tutorials."""
        self.create("by-hand", "--image-family=debian-13", "--image-project=debian-cloud", metadata={SCRIPT: script})
        self.poll("by-hand", script)
        self.gcloud("instances", "stop", "by-hand", *ZONE)
        self.gcloud("images", "create", image, "--source-disk=by-hand", "--source-disk-zone=us-central1-a", "--family=by-hand")
        self.gcloud("instances", "delete", "by-hand", *ZONE)
        self.create("trial", f"--image={image}", metadata={SCRIPT: tests})
        self.poll("trial", tests)
        self.gcloud("instances", "delete", "trial", *ZONE)

    def launch_by_hand(self, name: str) -> None:
        """Launch from the newest image of the family, open SSH to the caller, and find out where it answers."""
        nonce = names.new_nonce()
        rule = ("--allow=tcp:22", f"--source-ranges={ADDRESS}/32", f"--target-tags={name}")
        self.gcloud("firewall-rules", "create", f"{name}-ssh", *rule)
        facts = write_facts({"MACHINE": name, "NONCE": nonce, "AUTHORIZED_KEY": "ssh-ed25519 AAAA", "PASSWORD_HASH": generate()})
        self.create(name, "--image-family=by-hand", f"--tags={name}", metadata={FACTS: facts})
        self.poll(name, until=f"{nonce} fact host-key")
        self.gcloud("instances", "describe", name, *ZONE, "--format=get(networkInterfaces[0].accessConfigs[0].natIP)")

    def create(self, name: str, *words: str, metadata: Mapping[str, str]) -> None:
        """Create a machine; long metadata comes from files."""
        files = []
        for key, value in metadata.items():
            (self.folder / f"{name}-{key}").write_text(value)
            files.append(f"{key}={self.folder / f'{name}-{key}'}")
        self.gcloud(
            "instances", "create", name, *ZONE, *words, "--machine-type=e2-small", f"--metadata-from-file={','.join(files)}"
        )

    def poll(self, name: str, script: str = "", *, until: str = "") -> None:
        """Read the console again and again until it says that the script is done."""
        while True:
            text = self.gcloud("instances", "get-serial-port-output", name, *ZONE)
            if until in text if until else is_done(text, script):
                return
            time.sleep(POLL_S)


def children_s() -> float:
    """Return the CPU seconds of all processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def is_done(console: str, script: str) -> bool:
    """Say whether a console holds the marker of the last checkpoint of a script."""
    watched = read_script(script)
    found = [markers.parse(line, watched.nonce) for line in console.splitlines()]
    return markers.advance(markers.Progress(watched.names), [marker for marker in found if marker]).done


class _Greeter(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-benchmark\r\n")


def greet() -> None:
    """Answer at the machines' address as an SSH server does, until this process ends."""
    server = socketserver.ThreadingTCPServer((ADDRESS, 22), _Greeter)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def compare(bench: Bench, runs: int) -> dict[str, list[Run]]:
    """Bake and launch with both, in turn; the first run of each is not counted, since it makes what all later ones find."""
    recipe = load("minimal")
    script, tests = render(recipe, resolve(recipe, bench.folder / "resolved", refresh=False), cloud="gcp"), render_tests(recipe)
    assert tests is not None
    found: dict[str, list[Run]] = {"bake": [], "bake by gcloud": [], "launch": [], "launch by gcloud": []}
    for number in range(runs + 1):
        filled = [one.for_boot(names.new_nonce(), deadline_s=7200) for one in (script, tests)]
        works: dict[str, Callable[[], object]] = {
            "bake": bench.bake,
            "bake by gcloud": lambda filled=filled, number=number: bench.bake_by_hand(*filled, f"by-hand-{number}"),  # type: ignore[misc]
            "launch": lambda: bench.launch("mine"),
            "launch by gcloud": lambda: bench.launch_by_hand("theirs"),
        }
        for name, work in works.items():
            run = bench.measure(work)
            print(
                f"{number} {name}: {sum(run.requests.values())} requests, {run.wall_s:.1f} s, {run.cpu_s:.2f} s CPU",
                file=sys.stderr,
            )
            found[name] += [run] if number else []
        bench.run(sys.executable, "-P", "-m", "launcher", "delete", "mine", "--yes", "--cloud", "gcp")
        bench.gcloud("instances", "delete", "theirs", *ZONE)
        bench.gcloud("firewall-rules", "delete", "theirs-ssh")
    return found


def tables(found: Mapping[str, list[Run]]) -> str:
    """Return the results as Markdown: medians with each run, then the requests by method."""
    rows = ["| | requests | seconds | CPU seconds | commands |", "|---|---|---|---|---|"]
    for name, runs in found.items():
        requests = statistics.median(sum(run.requests.values()) for run in runs)
        wall, cpu = told(run.wall_s for run in runs), told(run.cpu_s for run in runs)
        rows.append(f"| {name} | {requests:.0f} | {wall} | {cpu} | {runs[0].commands} |")
    for work in ("bake", "launch"):
        ours, theirs = found[work], found[f"{work} by gcloud"]
        ratios = [
            statistics.median(map(figure, ours)) / statistics.median(map(figure, theirs))
            for figure in (lambda run: sum(run.requests.values()), lambda run: run.wall_s, lambda run: run.cpu_s)
        ]
        rows.append(f"| {work}: ratio of the medians | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " | |")
    rows += ["", f"| method | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for method in sorted({method for runs in found.values() for method in runs[-1].requests}):
        counts = [runs[-1].requests[method] for runs in found.values()]
        rows.append(f"| {method} | " + " | ".join(str(count or "") for count in counts) + " |")
    return "\n".join(rows)


def told(seconds: Iterable[float]) -> str:
    """Return the median, and all in brackets."""
    every = list(seconds)
    return f"{statistics.median(every):.1f} ({', '.join(f'{one:.1f}' for one in every)})"


def main() -> None:
    """Run both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latency-ms", type=int, default=100)
    given = parser.parse_args()
    greet()
    machines = ScriptedVms(played([]))
    with tempfile.TemporaryDirectory() as folder, serve(vms=machines, addresses=itertools.repeat(ADDRESS)) as server:
        bench = Bench(server, Path(folder))
        server.latency_s = given.latency_ms / 1000
        found = compare(bench, given.runs)
        if server.crashes:
            raise SystemExit(json.dumps(server.crashes, indent=2))
    print(tables(found))


if __name__ == "__main__":
    main()
