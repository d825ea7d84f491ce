"""A finding of the seal: a file that must not be in an image, or a secret in a file; and which findings a recipe allows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

from bakery.recipe.recipe import Allow

_SHOWN_MAX = 100
_COST = 2**14
"""The cost of a fingerprint (scrypt's n: 16 MiB of memory, 50 ms): that of a short password must not give the password away."""


@dataclass(frozen=True)
class Finding:
    """One finding. `line` counts from 1; 0: the file as a whole, which then has no `secret`.

    `is_identity`: it identifies a machine, so no recipe can allow it.
    """

    path: str
    rule: str
    line: int = 0
    secret: str = field(default="", repr=False)
    is_identity: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify this secret in this file, on whatever line; "" without a secret."""
        if not self.secret:
            return ""
        salt, secret = (text.encode(errors="surrogateescape") for text in (self.path, self.secret))
        return hashlib.scrypt(secret, salt=salt, n=_COST, r=8, p=1, dklen=8).hex()

    @property
    def sort_key(self) -> tuple[str, int, str]:
        """The key that sorts by path, then by line."""
        return self.path, self.line, self.rule

    def __str__(self) -> str:
        path = self.path if self.path.isprintable() else ascii(self.path)  # a line break in a name must not forge a message
        place = f"{path}:{self.line}" if self.line else path
        return f"{place}: {self.rule}" + (f" (fingerprint {self.fingerprint})" if self.secret else "")


def not_allowed(findings: Iterable[Finding], allowed: Sequence[Allow]) -> list[Finding]:
    """Return the findings that a recipe does not allow, in the same order."""
    return [one for one in findings if one.is_identity or not any(_allows(entry, one) for entry in allowed)]


def _allows(entry: Allow, finding: Finding) -> bool:
    if entry.path is not None and not PurePosixPath(finding.path).is_relative_to(entry.path):
        return False
    return entry.fingerprint is None or entry.fingerprint == finding.fingerprint


def summary(findings: Sequence[Finding]) -> str:
    """Return a message of limited length that lists the findings."""
    more = len(findings) - _SHOWN_MAX
    lines = [str(one) for one in findings[:_SHOWN_MAX]]
    return "\n".join(["the finished disk is not sealed:", *lines, *([f"and {more} more"] if more > 0 else [])])


def advice(findings: Sequence[Finding], recipe: str, image: str) -> str:
    """Return what to do about findings that a recipe does not allow."""
    is_final = any(one.is_identity for one in findings)
    first = next((one for one in findings if not one.is_identity and (one.secret or one.path.isprintable())), None)
    lines = [f"The image is kept as a candidate that cannot be launched: {image}"]
    if first:
        entry = f'fingerprint = "{first.fingerprint}"' if first.secret else f"path = {json.dumps(first.path, ensure_ascii=False)}"
        again = "bake again" if is_final else "bake again (no step runs again)"
        lines.append(
            f"For a file that contains no secret, add this to the recipe {recipe}, and {again}:\n"
            f'  [[seal.allow]]\n  {entry}\n  reason = "..."'
        )
    lines.append(f"{'Otherwise remove' if first else 'Remove'} the file in the step that creates it, and bake again.")
    lines.append(f"To delete the candidate: ./inv delete-image {image}")
    return "\n".join(lines)
