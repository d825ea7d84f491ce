"""The known vulnerabilities of Python packages, as PyPI reports them for each version (docs.pypi.org/api/json).

Only pypi.org is asked, whichever index this computer installs from: mirrors have the simple API that installers use, which has no
vulnerabilities. So the names and versions of all Python packages of an image are sent there, those of private ones too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from clouds.errors import BakehouseError
from launcher.command.at_once import at_once
from launcher.security.fetching import NEXT, fetch, session

if TYPE_CHECKING:
    from requests import Session

ADDRESS = "https://pypi.org/pypi"
DEADLINE_S = 60
"""How long all requests together may take, in seconds."""
_THREADS = 8
_BYTES_MAX = 8 * 2**20

Vulnerability = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids of a vulnerability, the first one PyPI's own, and the versions that fix it."""


def vulnerabilities(
    packages: Sequence[tuple[str, str]], *, address: str = ADDRESS, deadline_s: float = DEADLINE_S
) -> list[list[Vulnerability] | BakehouseError]:
    """Return the vulnerabilities of each package, (name, version), or why they are not known; NotFoundError: it is not on PyPI."""
    with session() as through:
        actions = [partial(_of, through, address, name, version) for name, version in packages]
        return at_once(actions, threads=_THREADS, deadline_s=deadline_s)


def _of(through: Session, address: str, name: str, version: str) -> list[Vulnerability]:
    """Look up a package. PyPI has no local versions: 2.8.0+cpu is a build of 2.8.0 (packaging.python.org, version specifiers)."""
    public = version.partition("+")[0]
    url = f"{address}/{quote(name, safe='')}/{quote(public, safe='')}/json"
    text = fetch(through, url, bytes_max=_BYTES_MAX)
    try:
        found = json.loads(text)["vulnerabilities"]
        return [_read(one) for one in found if not one.get("withdrawn")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BakehouseError("PyPI's answer cannot be read", next_step=NEXT) from error


def _read(one: dict[str, Any]) -> Vulnerability:
    return (str(one["id"]), *map(str, one.get("aliases") or ())), tuple(map(str, one.get("fixed_in") or ()))
