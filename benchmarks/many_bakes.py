"""Bake 1, 10 and 50 images at the same time with `rebuild`: what that takes. Then rebuild when nothing has changed.

    sudo .venv/bin/python benchmarks/many_bakes.py [--cloud gcp] [--counts 1,10,50]

The clouds are the strict servers of the tests with scripted machines, as in benchmarks/calls.py, which says what that needs. Memory
is the proportional set size of all processes of the command (proc(5), smaps_rollup), the largest of samples taken every quarter of
a second. CPU seconds are those of the clients; the seconds depend on the server, too. What has not changed are three recipes
on both clouds. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.calls import SERVERS, Bench, children_s, greet, told

RECIPE = 'name = "{name}"\n[[tests]]\nname = "works"\nrun = "true"\n'
_SAMPLE_S = 0.25


def recipes(folder: Path, name: str, count: int) -> str:
    """Write so many recipes of a name; return their paths, as `--recipe` takes them."""
    paths = [folder / f"{name}-{number}.toml" for number in range(count)]
    for path in paths:
        path.write_text(RECIPE.format(name=path.stem), encoding="utf-8")
    return ",".join(map(str, paths))


def rebuild(environment: Mapping[str, str], folder: Path, *words: str) -> tuple[list[str], float, float]:
    """Run `rebuild`; return how each recipe ended on each cloud, seconds, and the most memory, in MB."""
    command = [sys.executable, "-P", "-m", "invoke", "--search-root", str(Path(__file__).parents[1]), "rebuild", "--json", *words]
    began, most = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env=environment, cwd=folder, text=True, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            most = max(most, memory_mb(process.pid))
            time.sleep(_SAMPLE_S)
        seconds = time.monotonic() - began
        said.seek(0)
        results = next((json.loads(line) for line in said if line.startswith("[")), [])
    return [one["outcome"] for one in results], seconds, most


def bake(bench: Bench, name: str, count: int) -> tuple[int, float, float, float]:
    """Bake so many new recipes at once; return requests, the most memory (in MB), CPU seconds and seconds."""
    named = recipes(bench.folder, name, count)
    bench.server.calls.clear()
    cpu_s = children_s()
    words = ("--recipe", named, "--cloud", bench.cloud, "--jobs", str(count))
    outcomes, seconds, memory = rebuild(bench.environment, bench.folder, *words)
    expect(outcomes, ["baked"] * count)
    return len(bench.server.calls), memory, children_s() - cpu_s, seconds


def nothing_to_bake(folder: Path) -> list[float]:
    """Rebuild three recipes on both clouds when nothing has changed, five times; return the seconds of each."""
    with ExitStack() as stack:
        environment: dict[str, str] = {}
        for cloud, serve in SERVERS.items():
            (folder / cloud).mkdir()
            server, reach = stack.enter_context(serve(folder / cloud))
            environment |= Bench(cloud, server, folder / cloud, reach).environment | environment
        words = ("--recipe", recipes(folder, "same", 3), "--cloud", ",".join(SERVERS))
        expect(rebuild(environment, folder, *words)[0], ["baked"] * 6)
        runs = [rebuild(environment, folder, *words) for _ in range(5)]
    for outcomes, _, _ in runs:
        expect(outcomes, ["unchanged"] * 6)
    return [seconds for _, seconds, _ in runs]


def expect(outcomes: list[str], expected: list[str]) -> None:
    """Exit unless all ended as they should."""
    if outcomes != expected:
        raise SystemExit(f"not all ended well: {outcomes}")


def memory_mb(pid: int) -> float:
    """Return the memory of a process and of all that it has started."""
    total = 0.0
    try:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            try:
                total += process.memory_full_info().pss / 1e6
            except psutil.Error:
                continue
    except psutil.Error:
        pass
    return total


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cloud", choices=sorted(SERVERS), default="gcp")
    parser.add_argument("--counts", default="1,10,50")
    given = parser.parse_args()
    greet()
    print("| bakes at once | requests | memory (MB) | CPU seconds | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, SERVERS[given.cloud](Path(folder)) as (server, reach):
        bench = Bench(given.cloud, server, Path(folder), reach)
        bake(bench, "first", 1)  # makes what all later ones find, such as the network
        for count in map(int, given.counts.split(",")):
            requests, memory, cpu_s, seconds = bake(bench, f"many-{count}", count)
            print(f"| {count} | {requests:,} | {memory:,.0f} | {cpu_s:.1f} | {seconds:.1f} |")
    with tempfile.TemporaryDirectory() as folder:
        print(f"\nNothing to bake, three recipes on two clouds: {told(nothing_to_bake(Path(folder)))}")


if __name__ == "__main__":
    main()
