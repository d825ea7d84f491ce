"""The user names and passwords of package indexes that are not in their URLs: those in uv's variables and in netrc.

uv takes the URL's own first, then these (docs.astral.sh/uv/concepts/indexes, docs.astral.sh/uv/concepts/authentication/http).
It also asks a keyring, and its own store (`uv auth login`); these are not read here.
"""

from __future__ import annotations

import netrc
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(https?:.*)", re.DOTALL)


def split_name(index: str) -> tuple[str, str]:
    """Return the name ("" if it has none) and the URL of an index as in UV_INDEX: NAME=URL, or a URL."""
    found = _NAMED.fullmatch(index)
    return (found[1], found[2]) if found else ("", index)


def with_variables(url: str, name: str, environ: Mapping[str, str]) -> str:
    """Return the URL of a named index with the user name and password of UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD."""
    key = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
    return _with_login(url, environ.get(f"{key}_USERNAME", ""), environ.get(f"{key}_PASSWORD", "")) if name else url


def with_netrc(url: str, environ: Mapping[str, str]) -> str:
    """Return a URL with the user name and password that netrc has for its host, if it has none of its own."""
    host = urlsplit(url).hostname
    try:
        hosts = netrc.netrc(environ.get("NETRC") or str(Path.home() / ".netrc")).hosts
    except (OSError, ValueError, netrc.NetrcParseError):  # uv ignores such a file, too
        return url
    found = hosts.get(host) or hosts.get("default") if host else None
    return _with_login(url, found[0], found[2]) if found else url


def _with_login(url: str, user: str, password: str) -> str:
    """Put a user name and a password into a URL, unless it has a password or another user name."""
    parts = urlsplit(url)
    own = unquote(parts.username or "")
    if parts.password is not None or not (user or password) or (own and user and own != user):
        return url
    login = f"{quote(user or own, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))
