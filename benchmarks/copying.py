"""Copy 1,500 small files and one of 300 MB to a machine with `./inv copy`, with rsync and with tar over ssh, in turn.

    .venv/bin/python benchmarks/copying.py [--rounds 5]

Needs a baked `jupyter` (it has rsync) and rsync on this computer. Seconds of the whole command, to a folder that does not exist
yet, on a machine that runs nothing else; what has been written is checked afterwards. Prints Markdown: medians and their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from clouds.home import home

PROJECT = Path(__file__).parents[1]
INV = str(PROJECT / "inv")
SSH = ("ssh", "-F", str(home() / "ssh/config"))
THERE = "copied"
WAYS = ("`./inv copy`", "rsync over ssh", "tar over ssh")
SMALL_FILES = 1500
SMALL_BYTES = 4096
LARGE_BYTES = 300_000_000


def command(way: str, folder: Path, machine: str) -> str:
    """Return the shell command that copies a folder to `THERE` on a machine, with modes and times."""
    here, ssh = shlex.quote(str(folder)), shlex.join(SSH)
    return {
        "`./inv copy`": f"{shlex.quote(INV)} copy {here} {machine}:{THERE}",
        "rsync over ssh": f"rsync --archive --rsh={shlex.quote(ssh)} {here}/ {machine}:{THERE}/",
        "tar over ssh": f"tar -C {here} -c . | {ssh} {machine} 'mkdir {THERE} && tar -C {THERE} -x'",
    }[way]


def measure(way: str, folder: Path, machine: str) -> float:
    """Copy a folder in one way; return the seconds. SystemExit: something is missing on the machine."""
    began = time.monotonic()
    subprocess.run(["bash", "-o", "pipefail", "-c", command(way, folder, machine)], check=True, capture_output=True)
    seconds = time.monotonic() - began
    count = f"cd {THERE} && find . -type f -printf '%s\\n' | awk '{{ files++; bytes += $1 }} END {{ print files, bytes }}'"
    printed = subprocess.run([*SSH, machine, f"{count} && rm -r ~/{THERE} && sync"], check=True, capture_output=True, text=True)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    if printed.stdout.split() != [str(len(sizes)), str(sum(sizes))]:
        raise SystemExit(f"{way}: {len(sizes)} files of {sum(sizes)} bytes; on the machine: {printed.stdout}")
    return seconds


def fill(folder: Path) -> dict[str, Path]:
    """Write the folders to copy, with content that cannot be compressed and has no holes."""
    content = random.Random(0)  # noqa: S311 - no secret
    small, large = folder / "small", folder / "large"
    for number in range(SMALL_FILES):
        path = small / f"{number // 100:02}" / f"{number:04}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.randbytes(SMALL_BYTES))
    large.mkdir()
    (large / "file").write_bytes(b"".join(content.randbytes(1_000_000) for _ in range(LARGE_BYTES // 1_000_000)))
    os.sync()
    return {f"{SMALL_FILES:,} files of {SMALL_BYTES} bytes": small, f"one file of {LARGE_BYTES // 1_000_000} MB": large}


@contextmanager
def launched() -> Iterator[tuple[str, str]]:
    """Launch a machine of `jupyter`; give its name and accelerator."""
    done = subprocess.run([INV, "launch", "--recipe", "jupyter", "--json"], check=True, capture_output=True, text=True)
    machine = json.loads(done.stdout.splitlines()[-1])
    try:
        yield machine["name"], machine["accelerator"]
    finally:
        subprocess.run([INV, "delete", machine["name"], "--yes"], check=True, capture_output=True)


def table(what: str, seconds: dict[str, list[float]], accelerator: str) -> str:
    """Return the medians and ratios as Markdown."""
    medians = {way: statistics.median(runs) for way, runs in seconds.items()}
    rows = [f"| {what} ({accelerator}) | median | runs | times as long |", "|---|---|---|---|"]
    for way, runs in seconds.items():
        every = ", ".join(f"{run:.2f}" for run in runs)
        rows.append(f"| {way} | {medians[way]:.2f} s | {every} | {medians[way] / medians[WAYS[0]]:.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch, launched() as (machine, accelerator):
        folders = fill(Path(scratch))
        seconds: dict[str, dict[str, list[float]]] = {what: {way: [] for way in WAYS} for what in folders}
        for _ in range(rounds):
            for what, folder in folders.items():
                for way in WAYS:
                    seconds[what][way].append(measure(way, folder, machine))
                    print(f"{what}, {way}: {seconds[what][way][-1]:.2f} s", file=sys.stderr)
    print("\n\n".join(table(what, runs, accelerator) for what, runs in seconds.items()))


if __name__ == "__main__":
    main()
