"""Read Debian's mirrors and apt's options from this computer, and write them for another apt."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from clouds.local.base.definition import TEMPLATES
from clouds.local.host.files import read_text

_DEFAULT = TEMPLATES / "root/etc/apt/sources.list.d/debian.sources"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES = re.compile(r"(bullseye|bookworm|trixie|forky|sid|stable|testing|unstable)(-updates|-security)?")
_DISABLED = ("no", "false", "without", "off", "disable", "0")
"""What apt takes for a no (StringToBool in apt-pkg/contrib/strutl.cc)."""


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The URLs of Debian's archive and of its security updates; "" if not configured on this computer."""

    debian: str = ""
    security: str = ""


def host_mirrors() -> Mirrors:
    """Return the mirrors that this computer uses, or Debian's own."""
    found, default = mirrors(_apt_sources()), mirrors([_DEFAULT.read_text(encoding="utf-8").replace("@SUITE@", "stable")])
    return Mirrors(found.debian or default.debian, found.security or default.security)


def mirrors(sources: Iterable[str]) -> Mirrors:
    """Find Debian's mirrors in apt's sources, in one-line or deb822 format."""
    debian = security = ""
    for text in sources:
        for urls, suites, components in _entries(text):
            if "main" not in components or not any(_SUITES.fullmatch(suite.rstrip("/")) for suite in suites):
                continue
            for url in filter(None, map(_resolve, urls)):
                last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
                if last == "debian":
                    debian = debian or url.rstrip("/")
                elif last == "debian-security":
                    security = security or url.rstrip("/")
    return Mirrors(debian, security)


def apt_options(dump: str) -> dict[str, str]:
    """Return the proxies and CA bundles from the output of `apt-config dump`."""
    pattern = re.compile(
        r'^(Acquire::(?:https?|ftp)::(?:[^"\s]*::)?(?:Proxy|CAInfo)(?:::\S+)?) "(.+)";$', re.MULTILINE | re.IGNORECASE
    )
    return dict(pattern.findall(dump))


def sources_list(found: Mirrors, suite: str) -> str:
    """Return apt's sources for a suite and its updates."""
    archives = ((found.debian, suite), (found.debian, f"{suite}-updates"), (found.security, f"{suite}-security"))
    return "".join(f"deb [signed-by={KEYRING}] {url} {name} main\n" for url, name in archives)


def mirror_rules(found: Mirrors) -> str:
    """Return a script for `sed --regexp-extended` that puts mirrors in place of Debian's own servers in apt's sources.

    The servers: debian.org/mirror/list, and deb.debian.org and security.debian.org (wiki.debian.org/SourcesList).
    """
    servers = {
        r"(deb|ftp|ftp\.[a-z]+|cdn-fastly\.deb)\.debian\.org/debian": found.debian,
        r"((deb|cdn-fastly\.deb)\.debian\.org/debian-security|security\.debian\.org(/debian-security)?)": found.security,
    }
    lines = (
        f"s#https?://{server}/?([[:space:]]|$)#{_replacement(url)}\\{server.count('(') + 1}#g"
        for server, url in servers.items()
        if url
    )
    return "".join(f"{line}\n" for line in lines)


def _replacement(url: str) -> str:
    """Return a URL for the right side of sed's `s###`."""
    return re.sub(r"[\\&#]", r"\\\g<0>", url)


def apt_conf(options: Mapping[str, str]) -> str:
    """Return options in the format of apt.conf."""
    return "".join(f'{key} "{value}";\n' for key, value in options.items())


def _apt_sources() -> list[str]:
    folder = Path("/etc/apt/sources.list.d")
    parts = [path for path in sorted(folder.glob("*")) if path.suffix in (".list", ".sources")] if folder.is_dir() else []
    return [read_text(path) for path in (Path("/etc/apt/sources.list"), *parts)]


def apt_config() -> str:
    """Return all options of this computer's apt; "" without apt."""
    try:
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


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
