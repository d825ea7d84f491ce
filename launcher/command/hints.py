"""The commands in hints, as records: parsed from a text, and printed with the `--cloud` that they need.

A command in a text is `./inv VERB WORDS` and ends its clause: what follows is the end of the line or one of `,;.:()&|`.
tests/test_hints.py checks this for every text of the source, and checks every command against the table of verbs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

OF_A_CLOUD = frozenset(
    {"bake", "plan", "launch", "machines", "images", "ssh", "open", "copy", "password"}
    | {"stop", "start", "delete", "delete-image", "delete-disk", "log", "gc"}
)
"""The verbs that take `--cloud`."""
_WORD = r"(?:[^\s,;()&|.:]|[.:](?=\S))+"
_COMMAND = re.compile(rf"\./inv (?P<verb>[a-z][a-z-]*)(?P<words>(?: (?!\./inv ){_WORD})*)(?![^\s,;()&|.:])")


@dataclass(frozen=True, slots=True)
class Command:
    """A Bakehouse command; `cloud` is the value of its `--cloud`, "" if it needs none."""

    verb: str
    words: tuple[str, ...] = ()
    cloud: str = ""

    def __str__(self) -> str:
        cut = self.words.index("--") if "--" in self.words else len(self.words)
        cloud = ("--cloud", self.cloud) if self.cloud and self.verb in OF_A_CLOUD else ()
        return " ".join(("./inv", self.verb, *self.words[:cut], *cloud, *self.words[cut:]))

    def in_cloud(self, cloud: str) -> Command:
        """Return the command with `--cloud`, unchanged if it has one already."""
        return self if self.cloud else replace(self, cloud=cloud)


def read(text: str) -> Iterator[str | Command]:
    """Yield a text in parts: its prose unchanged, and each command in it."""
    at = 0
    for found in _COMMAND.finditer(text):
        yield text[at : found.start()]
        yield _command(found["verb"], found["words"].split())
        at = found.end()
    yield text[at:]


def write(text: str, cloud: str) -> str:
    """Add `--cloud` to each command of a text that has none. With cloud "", return the text unchanged."""
    return "".join(str(part.in_cloud(cloud) if isinstance(part, Command) else part) for part in read(text)) if cloud else text


def _command(verb: str, words: list[str]) -> Command:
    if "--cloud" not in words[:-1]:
        return Command(verb, tuple(words))
    at = words.index("--cloud")
    return Command(verb, (*words[:at], *words[at + 2 :]), words[at + 1])
