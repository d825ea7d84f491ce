"""Bake 1, 10 and 50 images at the same time with `rebuild`: requests, memory and seconds.

    sudo .venv/bin/python benchmarks/many_bakes.py [--cloud gcp] [--counts 1,10,50]

The clouds are the strict servers of the tests with scripted machines, as in benchmarks/calls.py, which says what that needs. Memory
is the proportional set size of all processes of the command (proc(5), smaps_rollup), the largest of samples taken every quarter of
a second. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.calls import SERVERS, Bench, greet

RECIPE = 'name = "{name}"\n[[tests]]\nname = "works"\nrun = "true"\n'
_SAMPLE_S = 0.25


def rebuild(bench: Bench, name: str, count: int) -> tuple[int, float, float]:
    """Bake so many recipes of a name at once, none of which has an image; return requests, seconds and the most memory, in MB."""
    recipes = []
    for number in range(count):
        path = bench.folder / f"{name}-{number}.toml"
        path.write_text(RECIPE.format(name=path.stem), encoding="utf-8")
        recipes.append(str(path))
    bench.server.calls.clear()
    words = ("rebuild", "--recipe", ",".join(recipes), "--cloud", bench.cloud, "--jobs", str(count), "--json")
    command = [sys.executable, "-P", "-m", "invoke", "--search-root", str(Path(__file__).parents[1]), *words]
    began, most = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=bench.environment, cwd=bench.folder, text=True, stdout=said, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            most = max(most, memory_mb(process.pid))
            time.sleep(_SAMPLE_S)
        said.seek(0)
        results = next((json.loads(line) for line in said if line.startswith("[")), [])
    if [one["outcome"] for one in results] != ["baked"] * count:
        raise SystemExit(f"not all bakes ended well: {results}")
    return len(bench.server.calls), time.monotonic() - began, most


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
    print("| bakes at once | requests | per bake | memory (MB) | per bake | seconds |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, SERVERS[given.cloud](Path(folder)) as (server, reach):
        bench = Bench(given.cloud, server, Path(folder), reach)
        rebuild(bench, "first", 1)  # makes what all later ones find, such as the network
        for count in map(int, given.counts.split(",")):
            requests, seconds, memory = rebuild(bench, f"many-{count}", count)
            print(f"| {count} | {requests} | {requests / count:.0f} | {memory:.0f} | {memory / count:.0f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
