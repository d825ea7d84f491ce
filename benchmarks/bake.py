"""Bake the same script from the same base on the same accelerator with Bakehouse and with Packer's qemu builder, in turn.

    .venv/bin/python benchmarks/bake.py [--recipe NAME] [--pairs 3]

Needs Debian's package `packer` (boot_wait 0). Prints a table in Markdown: seconds of each run, medians, the ratio of the medians,
and how the seconds of a bake divide. Each bake runs all steps (--no-cache), in a builder that has booted once before: the first
bake, which is not timed, has kept it. No machine of ours runs before a timed command.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bakery.recipe.recipe import load
from benchmarks.baking import TOLD_APART, bake, own_store, packer
from clouds.home import home
from clouds.local import connect


def table(baked: list[dict[str, float]], packed: list[float], accelerator: str) -> str:
    """Return the results as Markdown."""
    ours, theirs = statistics.median(run["alike"] for run in baked), statistics.median(packed)
    rows = [f"| pair ({accelerator}) | Bakehouse, without {', '.join(TOLD_APART)} | Packer |", "|---|---|---|"]
    rows += [f"| {n} | {run['alike']:.1f} s | {other:.1f} s |" for n, (run, other) in enumerate(zip(baked, packed, strict=True), 1)]
    rows += [f"| median | {ours:.1f} s | {theirs:.1f} s |", "", f"Ratio of the medians: {ours / theirs:.2f}", ""]
    stages = [name for name in baked[0] if name not in ("whole", "alike")]
    rows += ["| stage of a bake | median |", "|---|---|"]
    rows += [f"| {name} | {statistics.median(run[name] for run in baked):.1f} s |" for name in (*stages, "whole")]
    return "\n".join(rows)


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="jupyter")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    recipe = load(given.recipe)
    baked, packed = [], []
    with own_store(recipe):
        bake(given.recipe)
        for _ in range(given.pairs):
            baked.append(bake(given.recipe, "--no-cache"))
            with tempfile.TemporaryDirectory() as folder:
                packed.append(packer(recipe, Path(folder)))
            print(f"Bakehouse {baked[-1]['alike']:.1f} s, Packer {packed[-1]:.1f} s", file=sys.stderr)
        print(table(baked, packed, connect(home()).accelerator.name))


if __name__ == "__main__":
    main()
