"""List the Debian and Python packages of a finished disk with their versions, for the manifest of its image."""

from __future__ import annotations

import re
from collections.abc import Mapping

from clouds.capabilities import DiskFiles

_STATUS = "/var/lib/dpkg/status"
_STATUS_BYTES_MAX = 16 * 1024 * 1024
_DIST_INFO = re.compile(r".*/site-packages/([^/]+)-([^-/]+)\.dist-info/METADATA")
_PACKAGE = re.compile(r"^Package: (\S+)\nStatus: install ok installed$.*?^Version: (\S+)$", re.MULTILINE | re.DOTALL)


def packages(files: DiskFiles) -> dict[str, Mapping[str, str]]:
    """Return `debian` and `python`, each a mapping from package to version, sorted by name."""
    status = files.read([_STATUS], _STATUS_BYTES_MAX).get(_STATUS, b"").decode(errors="replace")
    stanzas = (_PACKAGE.search(stanza) for stanza in status.split("\n\n"))
    dist_infos = (_DIST_INFO.fullmatch(path) for path in files.list())
    return {
        "debian": dict(sorted((match[1], match[2]) for match in stanzas if match)),
        "python": dict(sorted((match[1], match[2]) for match in dist_infos if match)),
    }
