"""Read apt's options from this computer, and write them and its mirrors for another apt."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

from clouds.local.base.definition import Definition
from clouds.mirrors import Mirrors


def apt_options(dump: str) -> dict[str, str]:
    """Return the proxies and CA bundles from the output of `apt-config dump`."""
    pattern = re.compile(
        r'^(Acquire::(?:https?|ftp)::(?:[^"\s]*::)?(?:Proxy|CAInfo)(?:::\S+)?) "(.+)";$', re.MULTILINE | re.IGNORECASE
    )
    return dict(pattern.findall(dump))


def sources_list(found: Mirrors, definition: Definition) -> str:
    """Return apt's sources for the suite of a base and its updates."""
    (archive, security), suite = found.of(definition.distribution.folder), definition.base.suite
    urls = {f"{suite} {suite}-updates": archive, f"{suite}-security": security}
    same = f"Components: {definition.distribution.components}\nSigned-By: {definition.signed_by}\n"
    return "\n".join(f"Types: deb\nURIs: {url}\nSuites: {suites}\n{same}" for suites, url in urls.items())


def mirror_rules(found: Mirrors) -> str:
    """Return a script for `sed --regexp-extended` that puts mirrors in place of the distributions' own servers.

    The servers: debian.org/mirror/list, and deb.debian.org and security.debian.org (wiki.debian.org/SourcesList);
    archive.ubuntu.com, its countries and security.ubuntu.com (launchpad.net/ubuntu/+archivemirrors).
    """
    servers = {
        r"(deb|ftp|ftp\.[a-z]+|cdn-fastly\.deb)\.debian\.org/debian": found.debian,
        r"((deb|cdn-fastly\.deb)\.debian\.org/debian-security|security\.debian\.org(/debian-security)?)": found.security,
        r"([a-z]+\.)?archive\.ubuntu\.com/ubuntu": found.ubuntu,
        r"security\.ubuntu\.com/ubuntu": found.ubuntu_security,
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


def apt_config() -> str:
    """Return all options of this computer's apt; "" without apt."""
    try:
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
