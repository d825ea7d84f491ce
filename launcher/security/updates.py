"""The security updates that Debian and Ubuntu have published: the newest version of each package in SUITE-security.

They come from the mirror that this computer's apt uses, or from the distribution's own. A list of packages must have the SHA-256
that the suite's InRelease names, and InRelease must not have expired: a file that is cut, mixed up or out of date is an error. The
signature of InRelease is not checked, since not every computer has the keys. So who can change what a mirror sends can hide an
update or invent one; what apt installs, and an image contains, is checked by apt as always.
Formats: wiki.debian.org/DebianRepository/Format
"""

from __future__ import annotations

import hashlib
import lzma
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from clouds.errors import BakehouseError
from clouds.mirrors import Mirrors
from launcher.command.at_once import at_once
from launcher.packages import is_newer
from launcher.security.fetching import NEXT, fetch, session

DEADLINE_S = 60
"""How long the lists of a suite may take. Those of noble-security are 4 MB, of trixie-security 0.3 MB (November 2026)."""
_RELEASE_BYTES_MAX = 4 * 2**20
_LIST_BYTES_MAX = 32 * 2**20
_UNPACKED_BYTES_MAX = 256 * 2**20
"""The longest is Ubuntu's restricted: 11 MB."""
_XZ_MEMORY_BYTES = 256 * 2**20
_FIELDS = re.compile(r"^(Package|Source|Version|Architecture): *(\S+)", re.MULTILINE)

Key = tuple[str, str, str]
"""A package: its source package, its name, its architecture."""


class Updates:
    """The security updates of suites. Each suite is fetched once, and not again if that fails."""

    def __init__(self, mirrors: Mirrors, *, deadline_s: float = DEADLINE_S) -> None:
        self._mirrors, self._deadline_s = mirrors, deadline_s
        self._found: dict[tuple[str, str], Mapping[Key, str] | BakehouseError] = {}

    def of(self, suite: str, arch: str) -> Mapping[Key, str]:
        """Return the newest version of each package that SUITE-security has for an architecture, and for all.

        `suite` is such as debian/trixie. BakehouseError: its archive is not known, or does not answer as it should.
        """
        if (suite, arch) not in self._found:
            [self._found[suite, arch]] = at_once([lambda: self._fetch(suite, arch)], deadline_s=self._deadline_s)
        found = self._found[suite, arch]
        if isinstance(found, BakehouseError):
            raise found
        return found

    def _fetch(self, suite: str, arch: str) -> dict[Key, str]:
        distribution, _, codename = suite.partition("/")
        _, mirror = self._mirrors.of(distribution)
        if not mirror:
            raise BakehouseError(f"the archive of {distribution} is not known", next_step=NEXT)
        folder = f"{mirror}/dists/{codename}-security"
        with session() as through:
            release = fetch(through, f"{folder}/InRelease", bytes_max=_RELEASE_BYTES_MAX).decode(errors="replace")
            _check_date(release)
            found: dict[Key, str] = {}
            for path, size, digest in _lists(release, arch):
                content = fetch(through, f"{folder}/{_where(release, path, digest)}", bytes_max=size)
                if hashlib.sha256(content).hexdigest() != digest:
                    raise BakehouseError(f"{codename}-security: {path} differs from its SHA-256 in InRelease", next_step=NEXT)
                _add(found, _unpacked(content, path))
        return found


def _check_date(release: str) -> None:
    """Raise BakehouseError if an InRelease has expired: the mirror is not updated. Ubuntu's does not expire."""
    if not (valid := re.search(r"^Valid-Until: *(.+)$", release, re.MULTILINE)):
        return
    try:
        until = parsedate_to_datetime(valid[1]).timestamp()
    except (ValueError, OverflowError):
        until = 0.0
    if until < time.time():
        raise BakehouseError(f"the mirror's list of security updates has expired ({valid[1].strip()})", next_step=NEXT)


def _lists(release: str, arch: str) -> list[tuple[str, int, str]]:
    """Return the lists of packages that an InRelease names, one for each component: path, size in bytes and SHA-256."""
    line = rf"^ ([0-9a-f]{{64}}) +([0-9]{{1,15}}) ([a-z-]+/binary-{re.escape(arch)}/Packages\.xz)$"
    lists = [(path, int(size), digest) for digest, size, path in re.findall(line, release, re.MULTILINE)]
    if not lists or any(size > _LIST_BYTES_MAX for _, size, _ in lists):
        raise BakehouseError(f"InRelease names no lists of packages for {arch}, or too large ones", next_step=NEXT)
    return lists


def _where(release: str, path: str, digest: str) -> str:
    """Return where a list is: by its digest, if the archive has this, since the list itself may be replaced at any time."""
    by_hash = re.search(r"^Acquire-By-Hash: *yes$", release, re.MULTILINE)
    return f"{path.removesuffix('Packages.xz')}by-hash/SHA256/{digest}" if by_hash else path


def _unpacked(content: bytes, path: str) -> str:
    unpacker = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
    try:
        text = unpacker.decompress(content, _UNPACKED_BYTES_MAX)
    except lzma.LZMAError as error:
        raise BakehouseError(f"{path} cannot be unpacked: {error}", next_step=NEXT) from error
    if not unpacker.eof:
        raise BakehouseError(f"{path} is incomplete, or larger than {_UNPACKED_BYTES_MAX} bytes", next_step=NEXT)
    return text.decode(errors="replace")


def _add(found: dict[Key, str], text: str) -> None:
    """Add the packages of a list; of several versions the newest."""
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = dict(_FIELDS.findall(stanza))
        if not {"Package", "Version", "Architecture"} <= fields.keys():
            continue
        key = (fields.get("Source", fields["Package"]), fields["Package"], fields["Architecture"])
        if key not in found or is_newer("deb", found[key], fields["Version"]):
            found[key] = fields["Version"]
