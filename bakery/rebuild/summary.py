"""The result of a rebuild, for people: Markdown for GitHub's page of a run, from which other systems can show it as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clouds.errors import BakehouseError
from launcher import packages
from launcher.images import ImageView
from launcher.packages import Change

VARIABLE = "GITHUB_STEP_SUMMARY"
"""The path of the file for the summary of a step (docs.github.com/en/actions/reference/workflows-and-actions/variables)."""
_CHANGES_SHOWN = 100
_SIGNS = {"added": "+", "removed": "-", "up": "↑", "down": "↓", "changed": "≠"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a recipe on a cloud.

    `outcome` is baked, unchanged, due (with `--dry-run`), failed or cancelled; `why` says why it was baked, or has failed, and
    `next_step` what to do then. `changes` are those of its packages since the image before; None: unknown. `pruned` are the images
    that were deleted, or would be (with `--dry-run`).
    """

    recipe: str
    cloud: str
    outcome: str
    why: str
    next_step: str = ""
    image: str = ""
    seconds: float = 0.0
    size_bytes: int = 0
    changes: Sequence[Change] | None = None
    pruned: Sequence[str] = ()

    def text(self, *, is_dry_run: bool) -> str:
        """Return it as a line."""
        seconds = f" in {self.seconds:.0f} s" if self.seconds else ""
        image = f" {self.image}" if self.image and self.outcome != "due" else ""  # that one is the image before
        packages = f"; packages {counts}" if (counts := _counts(self)) else ""
        pruned = f"; {'would delete' if is_dry_run else 'deleted'} {', '.join(self.pruned)}" if self.pruned else ""
        return f"{self.recipe} on {self.cloud}: {self.outcome}{image}{seconds}: {self.why}{packages}{pruned}"

    def to_json(self) -> dict[str, object]:
        """Return it as plain data."""
        changes = None if self.changes is None else [asdict(change) for change in self.changes]
        return asdict(self) | {"changes": changes, "pruned": list(self.pruned), "seconds": round(self.seconds, 1)}


def changes(home: Path, old: ImageView | None, new: ImageView) -> list[Change] | None:
    """Return how the packages of an image differ from those of the one before; None if one of the lists is not known here."""
    try:
        return packages.diff(*(packages.parse(packages.read(home, image)) for image in (old, new) if image)) if old else None
    except BakehouseError:
        return None


def write(path: Path, results: Sequence[Result]) -> None:
    """Append the summary to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(markdown(results))


def markdown(results: Sequence[Result]) -> str:
    """Return the summary: a table, and the packages that have changed in each new image."""
    rows = [
        [
            _cell(one.recipe),
            one.cloud,
            one.outcome,
            one.image,
            f"{one.seconds:.0f} s",
            _size(one),
            _counts(one),
            _cell(f"{one.why} {one.next_step}"),
        ]
        for one in results
    ]
    head = ["| recipe | cloud | result | image | time | size | packages | why |", "|---|---|---|---|---|---|---|---|"]
    return (
        "\n".join(
            [
                "## Images",
                "",
                *head,
                *(f"| {' | '.join(row)} |" for row in rows),
                "",
                *(line for one in results for line in _details(one)),
            ]
        )
        + "\n"
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _size(result: Result) -> str:
    return f"{result.size_bytes / 1e9:.1f} GB" if result.size_bytes else ""


def _counts(result: Result) -> str:
    counts = Counter[str](change.change for change in result.changes or ())
    return " ".join(f"{_SIGNS[kind]}{counts[kind]}" for kind in _SIGNS if counts[kind])


def _details(result: Result) -> list[str]:
    if not result.changes:
        return []
    shown = [f"- {one.type} {one.name}: {one.old or 'none'} → {one.new or 'none'}" for one in result.changes[:_CHANGES_SHOWN]]
    rest = len(result.changes) - len(shown)
    more = [f"- and {rest} others"] if rest else []
    return ["<details>", f"<summary>Packages of {result.image}</summary>", "", *shown, *more, "", "</details>", ""]
