"""The commands that a text advises, as records: read from the text, and written with the cloud that they are for.

A command in a text is `./inv VERB WORDS` and ends its clause: what follows is the end of the line or one of `,;.:()&|`.
tests/test_hints.py holds every text of the source to that, and every command to the table of verbs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

OF_A_CLOUD = frozenset(
    {"bake", "plan", "launch", "machines", "images", "ssh", "open", "copy", "password"}
    | {"stop", "start", "delete", "delete-image", "log", "gc"}
)
"""The verbs that take `--cloud`."""
_WORD = r"(?:[^\s,;()&|.:]|[.:](?=\S))+"
_COMMAND = re.compile(rf"\./inv (?P<verb>[a-z][a-z-]*)(?P<words>(?: (?!\./inv ){_WORD})*)(?![^\s,;()&|.:])")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of Bakehouse; `cloud` is the one that it is for, "" where that goes without saying."""

    verb: str
    words: tuple[str, ...] = ()
    cloud: str = ""

    def __str__(self) -> str:
        cut = self.words.index("--") if "--" in self.words else len(self.words)
        cloud = ("--cloud", self.cloud) if self.cloud and self.verb in OF_A_CLOUD else ()
        return " ".join(("./inv", self.verb, *self.words[:cut], *cloud, *self.words[cut:]))

    def in_cloud(self, cloud: str) -> Command:
        """Return the command for a cloud, unless it is for another one already."""
        return self if self.cloud else replace(self, cloud=cloud)


def read(text: str) -> Iterator[str | Command]:
    """Yield a text piece by piece: prose as it stands, and each command in it."""
    at = 0
    for found in _COMMAND.finditer(text):
        yield text[at : found.start()]
        yield _command(found["verb"], found["words"].split())
        at = found.end()
    yield text[at:]


def write(text: str, cloud: str) -> str:
    """Return a text whose commands are for a cloud, but those that name another; "": the text as it stands."""
    return "".join(str(part.in_cloud(cloud) if isinstance(part, Command) else part) for part in read(text)) if cloud else text


def _command(verb: str, words: list[str]) -> Command:
    if "--cloud" not in words[:-1]:
        return Command(verb, tuple(words))
    at = words.index("--cloud")
    return Command(verb, (*words[:at], *words[at + 2 :]), words[at + 1])
