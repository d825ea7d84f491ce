"""The rules of `apt_sources`, and the keys of repositories that are files next to the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bakery.recipe.archive import find, is_source
from bakery.recipe.problems import Key, Problem, show

KEYRINGS = {
    "trixie": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "noble": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
"""The keys of the distribution in each suite (packages debian-archive-keyring and ubuntu-keyring)."""

_OWN = ("debian", "ubuntu")
"""The files of the distribution in /etc/apt/sources.list.d."""
_KEY_MAX_BYTES = 64 * 1024
_PUBLIC_KEY = 6
"""The type of the first OpenPGP packet of a public key (RFC 9580, section 5)."""


def broken(steps: Sequence[tuple[int, Mapping[str, Any]]], folder: Path) -> Iterator[Problem]:
    """Yield which rules the sources of raw steps break; their values may be invalid."""
    first: dict[str, str] = {}
    for at, step in steps:
        listed = step.get("apt_sources")
        for index, source in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(source, dict):
                where: Key = ("steps", at, "apt_sources", index)
                yield from _taken_name(source, where, first)
                yield from _wrong_components(source, where)
                yield from _wrong_key(source.get("key"), (*where, "key"), folder)


def _taken_name(source: Mapping[str, Any], where: Key, first: dict[str, str]) -> Iterator[Problem]:
    name = source.get("name")
    if not isinstance(name, str):
        return
    if name in _OWN:
        yield Problem((*where, "name"), f"{show(name)} is a reserved name (write another name)")
    elif name in first:
        yield Problem((*where, "name"), f"{show(name)} is already the name of {first[name]} (write another name)")
    first.setdefault(name, f"steps[{where[1]}].apt_sources[{where[3]}]")


def _wrong_components(source: Mapping[str, Any], where: Key) -> Iterator[Problem]:
    """Yield a problem unless components fit the suite: one that ends with '/' is a path, without components (sources.list(5))."""
    suite = source.get("suite")
    if not isinstance(suite, str) or not suite:
        return
    if suite.endswith("/") and "components" in source:
        yield Problem((*where, "components"), f"does not fit the suite {show(suite)}, which is a path (remove it)")
    if not suite.endswith("/") and "components" not in source:
        yield Problem((*where, "components"), 'is missing (write components = ["main"], or what the repository documents)')


def _wrong_key(key: object, where: Key, folder: Path) -> Iterator[Problem]:
    if not isinstance(key, dict):
        return
    if ("url" in key) == ("file" in key):
        has = "has url and file" if "url" in key else "has neither url nor file"
        yield Problem(where, f'{has} (write {{ url = "...", sha256 = "..." }} or {{ file = "..." }})')
    elif "url" in key and "sha256" not in key:
        yield Problem((*where, "sha256"), "is missing (write the SHA-256 of the key, as sha256sum prints it)")
    elif "file" in key and "sha256" in key:
        yield Problem((*where, "sha256"), "belongs to url, not to file (remove it)")
    source = key.get("file")
    if is_source(source):
        found = find(folder, source)
        trouble = found if isinstance(found, str) else wrong_key(found[0].path)
        if trouble:
            yield Problem((*where, "file"), f"{show(source)} {trouble}")


def wrong_key(path: Path) -> str:
    """Return why a file is not a public key that apt can read, as `what (what to write instead)`; "" if it is one.

    The formats: apt-secure(8) and sources.list(5), Signed-By. GnuPG's own keybox is none of them.
    """
    if not path.is_file():
        return "is a folder (write the path of a key)"
    with path.open("rb") as file:
        content = file.read(_KEY_MAX_BYTES + 1)
    if b"-----BEGIN PGP PRIVATE KEY" in content:
        return "is a private key (export the public one: gpg --armor --export)"
    if len(content) > _KEY_MAX_BYTES or not (b"-----BEGIN PGP PUBLIC KEY BLOCK-----" in content or _is_public_key(content)):
        return "is not an OpenPGP public key (download the key that the repository documents, or: gpg --armor --export)"
    return ""


def _is_public_key(content: bytes) -> bool:
    """Return whether binary content begins with a public key, in either format of a packet's header."""
    first = content[0] if content else 0
    kind = first & 0x3F if first & 0x40 else first >> 2 & 0x0F
    return bool(first & 0x80) and kind == _PUBLIC_KEY
