"""The commands in hints, as records: parsed from a text, and printed with the `--cloud` and `--region` that they need.

A command in a text is `./inv VERB WORDS` and ends its clause: what follows is the end of the line or one of `,;.:()&|`.
tests/test_hints.py checks this for every text of the source, and checks every command against the table of verbs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

OF_A_CLOUD = frozenset(
    {
        "bake",
        "bakes",
        "plan",
        "launch",
        "machines",
        "images",
        "packages",
        "diff",
        "pin",
        "unpin",
        "prune",
        "ssh",
        "check-machine",
        "open",
        "copy",
        "password",
    }
    | {"stop", "start", "delete", "delete-image", "delete-disk", "delete-address", "log", "gc", "doctor"}
)
"""The verbs that take `--cloud` and `--region`."""
_WORD = r"(?:[^\s,;()&|.:]|[.:](?=\S))+"
_COMMAND = re.compile(rf"\./inv (?P<verb>[a-z][a-z-]*)(?P<words>(?: (?!\./inv ){_WORD})*)(?![^\s,;()&|.:])")


@dataclass(frozen=True, slots=True)
class Command:
    """A Bakehouse command; `cloud` and `region` are the values of its `--cloud` and `--region`, "" if it needs none."""

    verb: str
    words: tuple[str, ...] = ()
    cloud: str = ""
    region: str = ""

    def __str__(self) -> str:
        cut = self.words.index("--") if "--" in self.words else len(self.words)
        flags = {"--cloud": self.cloud, "--region": self.region} if self.verb in OF_A_CLOUD else {}
        place = [word for flag, value in flags.items() if value for word in (flag, value)]
        return " ".join(("./inv", self.verb, *self.words[:cut], *place, *self.words[cut:]))

    def in_place(self, cloud: str, region: str) -> Command:
        """Return the command with `--cloud` and `--region`; it keeps its own region, and is unchanged if it has its own cloud."""
        return self if self.cloud else replace(self, cloud=cloud, region=self.region or region)


def read(text: str) -> Iterator[str | Command]:
    """Yield a text in parts: its prose unchanged, and each command in it."""
    at = 0
    for found in _COMMAND.finditer(text):
        yield text[at : found.start()]
        yield _command(found["verb"], found["words"].split())
        at = found.end()
    yield text[at:]


def write(text: str, cloud: str, region: str = "") -> str:
    """Add `--cloud` and `--region` to the commands of a text (`Command.in_place`). If both are "", return the text unchanged."""
    if not (cloud or region):
        return text
    return "".join(str(part.in_place(cloud, region) if isinstance(part, Command) else part) for part in read(text))


def _command(verb: str, words: list[str]) -> Command:
    cloud, words = _without("--cloud", words)
    region, words = _without("--region", words)
    return Command(verb, tuple(words), cloud, region)


def _without(flag: str, words: list[str]) -> tuple[str, list[str]]:
    """Return the value of a flag ("": it is absent), and the other words."""
    if flag not in words[:-1]:
        return "", words
    at = words.index(flag)
    return words[at + 1], [*words[:at], *words[at + 2 :]]
