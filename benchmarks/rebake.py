"""Bake a recipe whole, after a change of its last step, and after a change of its first; with Packer's build of it, in turn.

    .venv/bin/python benchmarks/rebake.py [--rounds 3] [--no-packer]

The recipe is `jupyter` with a small step before its own and one behind them, which are what changes. A full bake runs all steps
(--no-cache), in a builder that has booted once before: the first bake, which is not timed, has kept it. Packer keeps nothing from
one build to the next and repeats all, so that one build of it a round stands beside all three. Needs Debian's package `packer`,
unless told otherwise. No machine of ours runs before a timed command. Prints tables in Markdown: seconds of each run, medians,
their ratios, with and without what Packer has nothing like, and how the seconds divide.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bakery.recipe.recipe import load
from benchmarks.baking import PROJECT, TOLD_APART, bake, own_store, packer
from clouds.home import home
from clouds.local import connect

NAME = "rebake"
FULL, LAST, FIRST = "all of it (--no-cache)", "after a change of the last step", "after a change of the first step"
STEPS = {
    FULL: ("prepare", "leading", "packages", "notebook", "trailing", "seal"),
    LAST: ("trailing", "seal"),
    FIRST: ("leading", "packages", "notebook", "trailing", "seal"),
}
"""The ways to bake, and the steps that each has to run: no more, no less."""
BESIDE = "Packer, all of it"
RATIOS = ((LAST, FULL), (FIRST, FULL), (FULL, BESIDE), (LAST, BESIDE), (FIRST, BESIDE))
_STEP = """\
[[steps]]
name = "{name}"
run = "echo {edition} >/srv/{name}"

"""


@dataclass
class Author:
    """Whoever writes the recipe: the edition of its first step and of its last."""

    folder: Path
    leading: int = 1
    trailing: int = 1

    def write(self) -> str:
        """Write the recipe and return its path."""
        text = (PROJECT / "images/jupyter.toml").read_text(encoding="utf-8").replace('name = "jupyter"', f'name = "{NAME}"', 1)
        head, own, behind = text.partition("[[steps]]")
        steps, tests, rest = (own + behind).partition("[[tests]]")
        first = _STEP.format(name="leading", edition=self.leading)
        last = _STEP.format(name="trailing", edition=self.trailing)
        path = self.folder / f"{NAME}.toml"
        path.write_text(head + first + steps + last + tests + rest, encoding="utf-8")
        return str(path)

    def bake_all(self) -> dict[str, float]:
        """Bake the recipe as it is, all steps."""
        return bake(self.write(), "--no-cache")

    def bake_last(self) -> dict[str, float]:
        """Change the last step and bake."""
        self.trailing += 1
        return bake(self.write())

    def bake_first(self) -> dict[str, float]:
        """Change the first step and bake."""
        self.leading += 1
        return bake(self.write())

    def pack(self) -> dict[str, float]:
        """Build the recipe as it is with Packer."""
        with tempfile.TemporaryDirectory() as folder:
            seconds = packer(load(self.write()), Path(folder))
        return {"whole": seconds, "alike": seconds}


def check(way: str, stages: Iterable[str]) -> None:
    """Stop when a bake has run other steps than it should have: its seconds would mean something else."""
    run = tuple(stage for stage in stages if stage in ("boot", *STEPS[FULL]))
    if run != STEPS[way]:
        raise SystemExit(f"{way}: ran {', '.join(run)}, and not {', '.join(STEPS[way])}")


def medians(runs: list[dict[str, float]], what: str) -> str:
    """Return a median, and what it is the median of."""
    return f"{statistics.median(run[what] for run in runs):.1f} s ({', '.join(f'{run[what]:.1f}' for run in runs)})"


def tables(runs: dict[str, list[dict[str, float]]], accelerator: str) -> str:
    """Return the results as Markdown."""
    apart = f"without {', '.join(TOLD_APART)}"
    rows = [f"| bake ({accelerator}) | {apart} | whole |", "|---|---|---|"]
    rows += [f"| {way} | {medians(found, 'alike')} | {medians(found, 'whole')} |" for way, found in runs.items()]
    rows += ["", f"| ratio of the medians | {apart} | whole |", "|---|---|---|"]
    for one, other in RATIOS:
        if one in runs and other in runs:
            rows.append(
                f"| {one} : {other} | {_ratio(runs[one], runs[other], 'alike')} | {_ratio(runs[one], runs[other], 'whole')} |"
            )
    ways = [way for way in runs if way in STEPS]
    rows += ["", f"| stage, median | {' | '.join(ways)} |", "|---|" + "---|" * len(ways)]
    for stage in (stage for stage in runs[FULL][0] if stage not in ("alike", "whole")):
        rows.append(f"| {stage} | {' | '.join(_stage(runs[way], stage) for way in ways)} |")
    return "\n".join(rows)


def _ratio(one: list[dict[str, float]], other: list[dict[str, float]], what: str) -> str:
    return f"{statistics.median(run[what] for run in one) / statistics.median(run[what] for run in other):.2f}"


def _stage(runs: list[dict[str, float]], stage: str) -> str:
    return f"{statistics.median(run[stage] for run in runs):.1f} s" if stage in runs[0] else "reused"


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-packer", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        author = Author(Path(folder))
        ways: dict[str, Callable[[], dict[str, float]]] = {
            FULL: author.bake_all,
            LAST: author.bake_last,
            FIRST: author.bake_first,
            **({} if given.no_packer else {BESIDE: author.pack}),
        }
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        with own_store(load(author.write())):
            bake(author.write())
            for _ in range(given.rounds):
                for way, run in ways.items():
                    runs[way].append(run())
                    if way in STEPS:
                        check(way, runs[way][-1])
                    print(f"{way}: {runs[way][-1]['alike']:.1f} s, whole {runs[way][-1]['whole']:.1f} s", file=sys.stderr)
            print(tables(runs, connect(home()).accelerator.name))


if __name__ == "__main__":
    main()
