"""Count the requests and seconds of a bake and of a launch: Bakehouse beside the commands of the tutorials.

    sudo .venv/bin/python benchmarks/calls.py [--cloud gcp] [--runs 3] [--latency-ms 100]

Those are gcloud's, or the AWS CLI's (`--cloud aws`), which is compared with a bake by Packer's builder amazon-ebs, too. All clients
talk to the strict server of the tests, with latency added to each request, and get the same machines: they follow a script, and
print all their output the moment they boot. So what is measured is the client's own time, and no machine's. Needs gcloud (for
gcp) or Packer (for aws: Debian's package packer), and root, for something that greets as SSH does on port 22 of a loopback
address, which is that of all machines. The search of the disk, which Bakehouse does over SSH, finds an
empty one. Bakehouse runs as its users run it, one process a command, in a project and a store that have been in use. Prints
tables in Markdown.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bakery.recipe.recipe import load
from bakery.script.render import render, render_tests
from bakery.script.resolve import resolve
from benchmarks.by_hand import AwsCli, ByHand, Gcloud, Packer
from clouds import names
from tests.servers.ec2_asking import environment
from tests.servers.guests import played, played_on_ec2
from tests.servers.vm import ScriptedVms

PROJECT = Path(__file__).parents[1]
ADDRESS = "127.22.0.1"
"""Where every machine is reached."""
_FAKE_SSH = "#!/bin/sh\ncat >/dev/null\n"


@dataclass(frozen=True, slots=True)
class Run:
    """What one bake or launch took of its client: requests by method, wall and CPU seconds, processes.

    `test_s` are the seconds of a bake of Bakehouse in which it tested the image, as it says itself: part of `wall_s`.
    """

    requests: Counter[str]
    wall_s: float
    cpu_s: float
    commands: int
    test_s: float = 0.0


@dataclass
class Bench:
    """A server of a cloud, and the clients in turn. `reach` are the variables with which they reach the server."""

    cloud: str
    server: Any
    folder: Path
    reach: Mapping[str, str]
    commands: int = 0
    test_s: float = 0.0
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
            **self.reach,
        }
        self.by_hand: ByHand = _TOOLS[self.cloud](self.run, self.folder, f"{ADDRESS}/32")
        self.packer = Packer(self.run, self.folder) if self.cloud == "aws" else None

    def run(self, *words: str) -> str:
        """Run a command and return what it prints."""
        self.commands += 1
        done = subprocess.run(words, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(words)}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def measure(self, work: Callable[[], object]) -> Run:
        """Do something once, and return what it took."""
        self.server.calls.clear()
        self.commands, self.test_s, cpu_s, began = 0, 0.0, children_s(), time.monotonic()
        work()
        wall_s = time.monotonic() - began
        requests = Counter(method_of(call) for call in self.server.calls)
        return Run(requests, wall_s, children_s() - cpu_s, self.commands, self.test_s)

    def bake(self) -> None:
        """Bake the recipe `minimal`, as `./inv bake` does."""
        inv = (sys.executable, "-P", "-m", "invoke", "--search-root", str(PROJECT))
        self.run(*inv, "bake", "--recipe", "minimal", "--cloud", self.cloud, "--force")
        results = (self.folder / "home/bakes").glob("*/result.json")
        last = max(results, key=lambda path: path.stat().st_mtime_ns)
        self.test_s = json.loads(last.read_text())["seconds"]["test"]

    def launch(self, name: str) -> None:
        """Launch a machine from it, without Invoke."""
        self.run(sys.executable, "-P", "-m", "launcher", "launch", "--cloud", self.cloud, "--recipe", "minimal", "--name", name)

    def delete(self) -> None:
        """Delete the machines of both."""
        self.run(sys.executable, "-P", "-m", "launcher", "delete", "mine", "--yes", "--cloud", self.cloud)
        self.by_hand.delete("theirs")


def method_of(call: Any) -> str:
    """Return the name of a request that a server has served: `instances.insert`, `RunInstances`."""
    return str(call.action if hasattr(call, "action") else call.method.removeprefix("compute."))


def children_s() -> float:
    """Return the CPU seconds of all processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Greeter(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-benchmark\r\n")


def greet() -> None:
    """Answer at the machines' address as an SSH server does, until this process ends."""
    server = socketserver.ThreadingTCPServer((ADDRESS, 22), _Greeter)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def compare(bench: Bench, runs: int) -> dict[str, list[Run]]:
    """Bake and launch with all, in turn; the first run of each is not counted, since it makes what all later ones find."""
    recipe = load("minimal")
    script = render(recipe, resolve(recipe, bench.folder / "resolved", refresh=False), cloud=bench.cloud)
    tests = render_tests(recipe)
    assert tests is not None
    found: dict[str, list[Run]] = {}
    for number in range(runs + 1):
        filled = [one.for_boot(names.new_nonce(), deadline_s=7200) for one in (script, tests)]
        for name, work in works(bench, *filled, f"by-hand-{number}").items():
            run = bench.measure(work)
            print(
                f"{number} {name}: {sum(run.requests.values())} requests, {run.wall_s:.1f} s, {run.cpu_s:.2f} s CPU",
                file=sys.stderr,
            )
            found.setdefault(name, []).extend([run] if number else [])
        bench.delete()
    return found


def works(bench: Bench, script: str, tests: str, image: str) -> dict[str, Callable[[], None]]:
    """Return what is measured, in order: `bake` and `launch`, each followed by the same by others, such as `bake by gcloud`."""
    tool, packer = bench.by_hand.tool, bench.packer
    bakes: dict[str, Callable[[], None]] = {
        "bake": bench.bake,
        f"bake by {tool}": lambda: bench.by_hand.bake(script, tests, image),
    }
    if packer:
        bakes["bake by Packer"] = lambda: packer.bake(script, f"packer-{image}")
    return bakes | {"launch": lambda: bench.launch("mine"), f"launch by {tool}": lambda: bench.by_hand.launch("theirs")}


def tables(found: Mapping[str, list[Run]]) -> str:
    """Return the results as Markdown: medians with each run, the ratios of the medians, then the requests by method."""
    rows = ["| | requests | seconds | CPU seconds | commands |", "|---|---|---|---|---|"]
    for name, runs in found.items():
        requests = statistics.median(sum(run.requests.values()) for run in runs)
        wall, cpu = told(run.wall_s for run in runs), told(run.cpu_s for run in runs)
        rows.append(f"| {name} | {requests:.0f} | {wall} | {cpu} | {runs[0].commands} |")
    tests = [f"{told(run.test_s for run in runs)} of {name}" for name, runs in found.items() if any(run.test_s for run in runs)]
    for other in (name for name in found if " by " in name):
        work = other.partition(" by ")[0]
        ours, theirs = found[work], found[other]
        ratios = [
            statistics.median(map(figure, ours)) / statistics.median(map(figure, theirs))
            for figure in (lambda run: sum(run.requests.values()), lambda run: run.wall_s, lambda run: run.cpu_s)
        ]
        rows.append(f"| {work} : {other} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " | |")
    rows += ["", f"Seconds of the test of the image: {', '.join(tests)}"]
    rows += ["", f"| method | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for method in sorted({method for runs in found.values() for method in runs[-1].requests}):
        counts = [runs[-1].requests[method] for runs in found.values()]
        rows.append(f"| {method} | " + " | ".join(str(count or "") for count in counts) + " |")
    return "\n".join(rows)


def told(seconds: Iterable[float]) -> str:
    """Return the median, and all in brackets."""
    every = list(seconds)
    return f"{statistics.median(every):.1f} ({', '.join(f'{one:.1f}' for one in every)})"


@contextmanager
def google(folder: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Run a server of Compute Engine, and yield it with the variables for both clients."""
    from tests.servers.gce.server import serve

    enough = dict.fromkeys(("CPUS", "INSTANCES", "IN_USE_ADDRESSES"), 1000.0)  # for benchmarks/many_bakes.py
    with serve(vms=ScriptedVms(played([])), quotas=enough, addresses=itertools.repeat(ADDRESS)) as server:
        reach = {
            "BAKEHOUSE_GCE_ENDPOINT": server.url,
            "GOOGLE_CLOUD_PROJECT": server.cloud.project,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{server.url}/compute/v1/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_PROJECT": server.cloud.project,
        }
        yield server, reach


@contextmanager
def amazon(folder: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Run a server of EC2, and yield it with the variables for both clients."""
    from tests.servers.ec2 import serve

    with serve(vms=ScriptedVms(played_on_ec2([])), addresses=itertools.repeat(ADDRESS)) as server:
        yield server, environment(server)


SERVERS = {"gcp": google, "aws": amazon}
_TOOLS: Mapping[str, type[ByHand]] = {"gcp": Gcloud, "aws": AwsCli}


def main() -> None:
    """Run both and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cloud", choices=("gcp", "aws"), default="gcp")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--latency-ms", type=int, default=100)
    given = parser.parse_args()
    greet()
    with tempfile.TemporaryDirectory() as folder, SERVERS[given.cloud](Path(folder)) as (server, reach):
        bench = Bench(given.cloud, server, Path(folder), reach)
        server.latency_s = given.latency_ms / 1000
        found = compare(bench, given.runs)
        if server.crashes:
            raise SystemExit(json.dumps(server.crashes, indent=2))
    print(tables(found))


if __name__ == "__main__":
    main()
