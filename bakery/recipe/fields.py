"""The types of a recipe's values, with error messages that say what to write instead."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import AfterValidator, BeforeValidator, Field, Strict
from pydantic_core import PydanticCustomError

from bakery.recipe.credentials import plain
from clouds import ranges

APT_URI = '"https://deb.example.org/debian"'
"""An example for messages."""


def wrong(what: str, instead: str) -> PydanticCustomError:
    """Return the error of a validator, as `WHAT (INSTEAD)`."""
    return PydanticCustomError("recipe", "{what} ({instead})", {"what": what, "instead": instead})


def _matching(pattern: str, what: str, instead: str) -> AfterValidator:
    """Return a validator that matches the whole text; its error reads `is not WHAT (write INSTEAD)`."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise wrong(f"is not {what}", f"write {instead}")
        return text

    return AfterValidator(check)


def _script(text: str) -> str:
    if "\0" in text:
        raise wrong("contains a NUL character, which shells do not support", "remove it")
    if not text.strip():
        raise wrong("is empty", "write at least one command")
    return text


def _requirement(text: str) -> str:
    try:
        parsed = Requirement(text)
    except InvalidRequirement:
        raise wrong("is not a Python package requirement", 'write one such as "numpy" or "pandas>=2"') from None
    if not text.isprintable():
        raise wrong("is more than one plain requirement", 'write one such as "numpy" or "pandas>=2"')
    if parsed.url and "@" in parsed.url.partition("//")[2].partition("/")[0]:
        raise wrong("contains a user name, which would stay in the image's log", "write a URL that needs none")
    return text


def _web_address(text: str) -> str:
    return _checked_url(text, '"https://example.org/data.csv"')


def _checked_url(text: str, example: str) -> str:
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable() and " " not in text
    except ValueError:
        is_good = False
    if not is_good:
        raise wrong("is not a URL", f"write one such as {example}")
    if parts.username is not None:
        raise wrong("contains a user name, which would stay in the image's log", "write a URL that needs none")
    return text


def conda_package(text: str) -> str:
    """Return a conda package, unless it is wrong."""
    if re.match(r"pip\s*:|pip3?\s+install\b", text):
        name = re.split(r":|\binstall\b", text, maxsplit=1)[1].strip(" :") or "numpy"
        raise wrong("is a package for pip", f'write "{plain(name)}" if a channel has it; else below `pip:` in an environment.yml')
    if text.startswith("__"):
        raise wrong(
            "is a virtual package, which no channel has", "remove it: docs/recipes.md says for which system packages are solved"
        )
    if not re.fullmatch(r"(?!.*//)[A-Za-z0-9_][^\x00-\x1f\x7f]*", text):
        raise wrong("is not a conda package", 'write one such as "r-base" or "numpy>=2"')
    return text


def conda_channel(text: str) -> str:
    """Return a conda channel, a name or a URL, unless it is wrong or needs a password or token."""
    instead = 'write one such as "conda-forge" or "https://conda.example.org/lab"'
    if plain(text) != text:
        raise wrong(
            "contains a user name, a password or a token, which would stay in the image's log", "write a URL that needs none"
        )
    if re.match(r"file:|[/.~]|[A-Za-z]:\\", text):
        raise wrong("is on this computer, where the builder cannot read it", instead)
    if "://" in text and not text.startswith(("http://", "https://")):
        raise wrong(f"is an address with {text.partition(':')[0]}://, which a builder does not read", instead)
    if "://" in text:
        return _checked_url(text, '"https://conda.example.org/lab"')
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", text):
        raise wrong("is not a conda channel", instead)
    return text


def _lifetime(hours: float) -> float:
    shortest, longest = ranges.LIFETIME_H
    if hours != 0 and not shortest <= hours <= longest:  # so is nan
        raise wrong("is not a lifetime in hours", f"write a number from {shortest} to {longest}, or 0 for no limit")
    return hours


def _apt_uri(text: str) -> str:
    is_folder = re.fullmatch(r"file:(//)?/[^\x00-\x20\x7f]*", text)
    return text if is_folder else _checked_url(text, APT_URI)


Cpus = Annotated[int, Strict(), Field(ge=ranges.CPUS[0], le=ranges.CPUS[1])]
MemoryMb = Annotated[int, Strict(), Field(ge=ranges.MEMORY_MB[0], le=ranges.MEMORY_MB[1])]
Images = Annotated[int, Strict(), Field(ge=ranges.IMAGES[0], le=ranges.IMAGES[1])]
Days = Annotated[int, Strict(), Field(ge=ranges.DAYS[0], le=ranges.DAYS[1])]
DiskGb = Annotated[int, Strict(), Field(ge=ranges.DISK_GB[0], le=ranges.DISK_GB[1])]
DiskGbOfMachine = Annotated[int, Strict(), Field(le=ranges.DISK_GB[1])]
"""`bakery.recipe.rules` checks that it is not smaller than the image's disk."""
Minutes = Annotated[float, Strict(), Field(ge=0.05, le=1440, allow_inf_nan=False)]
Hours = Annotated[float, Strict(), AfterValidator(_lifetime)]
Port = Annotated[int, Strict(), Field(ge=ranges.PORT[0], le=ranges.PORT[1])]

Line = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*", "a single line of text", "it on one line")]
Script = Annotated[str, AfterValidator(_script)]
Reason = Annotated[
    str, _matching(r"(?=.*\w.*\w.*\w)[^\x00-\x1f\x7f]+", "a reason", 'why this is no secret, such as "key of the test server"')
]
Fingerprint = Annotated[str, _matching(r"[0-9a-f]{16}", "a fingerprint", "the 16 digits that the bake has printed")]
Name = Annotated[str, _matching(r"[a-z][a-z0-9-]{0,39}", "a name", "at most 40 of a-z, 0-9 and '-', starting with a letter")]
User = Annotated[str, _matching(r"[a-z_][a-z0-9_-]{0,31}", "a user name", '"notebook" or "root"')]
Owner = Annotated[
    str,
    _matching(
        r"[a-z_][a-z0-9_-]{0,31}(:[a-z_][a-z0-9_-]{0,31})?", "an owner", 'a user, "notebook", or user and group, "root:users"'
    ),
]
Mode = Annotated[str, _matching(r"0?[0-7]{3}", "a file mode", 'it in octal, such as "0644"')]
Sha256 = Annotated[str, _matching(r"[0-9a-f]{64}", "a SHA-256", "the 64 digits that sha256sum prints")]
Url = Annotated[str, AfterValidator(_web_address)]
AptUri = Annotated[str, AfterValidator(_apt_uri)]
AptSuite = Annotated[
    str, _matching(r"\.?/|[A-Za-z0-9][A-Za-z0-9._+~/-]*", "a suite", 'one such as "trixie", or "/" for a repository without suites')
]
AptComponent = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9._+~/-]*", "a component", 'one such as "main"')]
GuestPath = Annotated[
    str, _matching(r"(?!.*/\.\.?(/|$))(/[^/\x00-\x1f\x7f]+)+/?", "an absolute path", 'one such as "/opt/data/file.csv"')
]
Source = Annotated[
    str,
    _matching(
        r"(?!/)(?!(.*/)?\.\.(/|$))[^\x00-\x1f\x7f]+", "a path in the recipe's folder", "it relative to that folder, without '..'"
    ),
]
JupyterSettings = Annotated[
    Source, _matching(r".*\.(py|json)", "a file of Jupyter's settings", 'one such as "jupyter.py" or "jupyter.json"')
]
DebianPackage = Annotated[
    str,
    _matching(
        r"[a-z0-9][a-z0-9+.-]*(?<!-)(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+|/[a-z-]+)?",
        "the name of a Debian package",
        'one such as "git"',
    ),
]
Sources = Annotated[
    tuple[Source, ...], Field(min_length=1), BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]
UrlPath = Annotated[str, _matching(r"/[^\x00-\x20\x7f]*", "a path of the notebook server", 'one such as "/lab"')]
PythonPackage = Annotated[str, AfterValidator(_requirement)]
GroupName = Annotated[
    str, _matching(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "the name of a group or an extra", 'one such as "dev"')
]
Module = Annotated[str, _matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "a Python module", 'one such as "matplotlib.pyplot"')]
CondaPackage = Annotated[str, AfterValidator(conda_package)]
Channel = Annotated[str, AfterValidator(conda_channel)]
