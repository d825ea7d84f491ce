"""The verb `prune`: list the images that stay and those that go, ask, and delete the latter, on one cloud or on all."""

from __future__ import annotations

import time
from dataclasses import dataclass

from clouds.driver import Cloud
from clouds.ledger import Ledger
from launcher.command import hints
from launcher.command.multi_cloud import ALL, visit
from launcher.command.terminal import Terminal
from launcher.prune import Rules, Survey, collect, survey


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found on a cloud; `region` is set if several regions of it are visited."""

    cloud: str
    region: str
    survey: Survey

    @property
    def count(self) -> int:
        """The number of images and snapshots that will be deleted."""
        return len(self.survey.goes) + len(self.survey.left)

    def lines(self) -> list[str]:
        """Return the lines to print before the user is asked."""
        return [
            *(f"keep image {image.name!r}: {reason}" for image, reason in self.survey.stays),
            *(f"delete image {image.name!r}" for image in self.survey.goes),
            *(f"delete {one.kind} {one.name!r}: of an image that is deleted" for one in self.survey.left),
        ]


def prune(name: str | None, rules: Rules, ledger: Ledger, terminal: Terminal, *, yes: bool, region: str | None = None) -> int:
    """Delete the images that the rules do not keep; return the exit code."""
    now = time.time()

    def look(cloud: Cloud, where: str) -> _Found:
        return _Found(cloud.name, where, survey(cloud, rules, now=now))

    found, complete = visit(name, look, terminal.tell, region=region)
    for one in found:
        for line in one.lines():
            terminal.tell(_placed(hints.write(line, one.cloud if name == ALL else "", one.region), one, name))
    count, complete = sum(one.count for one in found), complete and not any(one.survey.missing for one in found)
    if not count:
        is_known = not rules.recipe or any(one.survey.stays for one in found)
        terminal.tell("no images to delete" if is_known else f"no images to delete: none of the recipe {rules.recipe!r} found")
        return 0 if complete else 1
    terminal.confirm("Continue?", yes=yes)
    surveys = {(one.cloud, one.region): one for one in found}

    def clean(cloud: Cloud, where: str) -> int:
        one = surveys.get((cloud.name, where))
        changed = collect(cloud, ledger, one.survey) if one else []  # without: it could not be listed, which was reported
        for image in changed:
            terminal.tell(f"image {image.name!r} has changed since it was listed; kept")
        return one.count - len(changed) if one else 0

    deleted, done = visit(name, clean, terminal.tell, region=region)
    number, noun = sum(deleted), "resource" if any(one.survey.left for one in found) else "image"
    terminal.tell(f"deleted {number} {noun}{'' if number == 1 else 's'}")
    return 0 if complete and done else 1


def _placed(line: str, one: _Found, name: str | None) -> str:
    """Return a line with the cloud and region that it is about, if several are visited."""
    places = [*([one.cloud] if name == ALL else []), *([one.region] if one.region else [])]
    return f"{' in '.join(places)}: {line}" if places else line
