"""Which wheels a builder can install (packaging.python.org/en/latest/specifications/platform-compatibility-tags)."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import unquote

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

_GLIBC_MINOR = 39
"""Of the C library in the older of the suites (packages.ubuntu.com/noble/libc6)."""


def fitting(wheels: Sequence[Mapping[str, Any]], version: str) -> list[Mapping[str, Any]]:
    """Return the wheels that a builder with Python `version` can install, the best first."""
    ranks = {tag: rank for rank, tag in enumerate(_tags(version))}
    ranked = [(min((ranks[tag] for tag in _tags_of(wheel) if tag in ranks), default=-1), wheel) for wheel in wheels]
    return [wheel for rank, wheel in sorted(ranked, key=lambda one: one[0]) if rank >= 0]


def fits(name: str, version: str) -> bool:
    """Return whether a builder with Python `version` can install the file of a package, by its name."""
    return not name.endswith(".whl") or bool(fitting([{"url": name}], version))


@cache
def _tags(version: str) -> tuple[Tag, ...]:
    numbers = [int(number) for number in version.split(".")]
    interpreter = f"cp{version.replace('.', '')}"
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_MINOR, 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    return (*cpython_tags(numbers, [interpreter], platforms), *compatible_tags(numbers, interpreter, platforms))


def _tags_of(wheel: Mapping[str, Any]) -> frozenset[Tag]:
    name = wheel.get("name") or posixpath.basename(wheel.get("url", "") or wheel.get("path", ""))
    try:
        return parse_wheel_filename(unquote(name))[3]
    except InvalidWheelFilename:
        return frozenset()
