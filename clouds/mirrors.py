"""Read from this computer's apt which mirrors of Debian's and Ubuntu's archives it uses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from clouds.home import read_text

_OWN = Path(__file__).resolve().parents[1] / "templates/base"
"""Our templates, which have the sources of Debian and of Ubuntu itself."""
_SUITES = re.compile(r"(bullseye|bookworm|trixie|forky|sid|stable|testing|unstable)(-updates|-security)?")
_UBUNTU_SUITES = re.compile(r"[a-z]+-(updates|security)")
"""The suites by which a mirror of Ubuntu's archive is known: other archives that end with /ubuntu, such as PPAs, have none."""
_DISABLED = ("no", "false", "without", "off", "disable", "0")
"""What apt takes for a no (StringToBool in apt-pkg/contrib/strutl.cc)."""


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The URLs of Debian's and Ubuntu's archives and of their security updates; "" if not configured on this computer."""

    debian: str = ""
    security: str = ""
    ubuntu: str = ""
    ubuntu_security: str = ""

    def of(self, distribution: str) -> tuple[str, str]:
        """Return the URLs of the archive of `debian` or `ubuntu`, and of its security updates; "" for another distribution."""
        known = {"debian": (self.debian, self.security), "ubuntu": (self.ubuntu, self.ubuntu_security)}
        return known.get(distribution, ("", ""))

    def each(self, change: Callable[[str], str]) -> Mirrors:
        """Return them with each URL changed."""
        return Mirrors(*(change(url) for url in astuple(self)))


def host_mirrors() -> Mirrors:
    """Return the mirrors that this computer uses, or Debian's and Ubuntu's own."""
    own = [path.read_text(encoding="utf-8") for path in sorted(_OWN.glob("*/root/etc/apt/sources.list.d/*.sources"))]
    found, default = mirrors(_apt_sources()), mirrors([text.replace("@SUITE@", "stable") for text in own])
    return Mirrors(*(ours or others for ours, others in zip(astuple(found), astuple(default), strict=True)))


def mirrors(sources: Iterable[str]) -> Mirrors:
    """Find the mirrors of Debian and Ubuntu in apt's sources, in one-line or deb822 format."""
    found: dict[str, str] = {}
    for text in sources:
        for urls, suites, components in _entries(text):
            if "main" not in components:
                continue
            for url in filter(None, map(_resolve, urls)):
                for archive in _archives(url, [suite.rstrip("/") for suite in suites]):
                    found.setdefault(archive, url.rstrip("/"))
    return Mirrors(**found)


def _archives(url: str, suites: Iterable[str]) -> set[str]:
    """Return for which archives, fields of `Mirrors`, a URL with these suites is a mirror."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    if last == "ubuntu":
        names = {"updates": "ubuntu", "security": "ubuntu_security"}
        return {names[match[1]] for suite in suites if (match := _UBUNTU_SUITES.fullmatch(suite))}
    names = {"debian": "debian", "debian-security": "security"}
    return {names[last]} if last in names and any(map(_SUITES.fullmatch, suites)) else set()


def _apt_sources() -> list[str]:
    folder = Path("/etc/apt/sources.list.d")
    parts = [path for path in sorted(folder.glob("*")) if path.suffix in (".list", ".sources")] if folder.is_dir() else []
    return [read_text(path) for path in (Path("/etc/apt/sources.list"), *parts)]


def is_http(url: str) -> bool:
    """Return whether a URL is http or https, which a guest can fetch too."""
    return url.startswith(("http://", "https://"))


def _entries(text: str) -> Iterable[tuple[list[str], list[str], list[str]]]:
    """Yield (URLs, suites, components) of each binary source in a text of either format."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in lines:
        if match := re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s+(.+)", line):
            yield [match[1]], [match[2]], match[3].split()
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            key.strip().lower(): value.split() for key, value in re.findall(r"^(\S+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and " ".join(fields.get("enabled", ())).lower() not in _DISABLED:
            yield fields.get("uris", []), fields.get("suites", []), fields.get("components", [])


def _resolve(url: str) -> str:
    """Return a URL, or the first one of a mirror list file (used by Debian's cloud images); "" if it is not http(s)."""
    if url.startswith("mirror+file:"):
        lines = read_text(Path(url.removeprefix("mirror+file:"))).split()
        url = next((word for word in lines if is_http(word)), "")
    return url if is_http(url) else ""
