"""User names, passwords and tokens in URLs, which no message, script or log may show."""

from __future__ import annotations

import re

CREDENTIALS = re.compile(r"//[^/\s\"']+@")
_WITH_SLASH = re.compile(r"//[^/\s@\"'\[]*:(?!\d*/)[^\s\"']*@")
"""A password with a slash, which should have been written as %2F; not a port, after which a path may have an @."""
_TOKEN = re.compile(r"(https?://[^\s\"']+?)/t/[^/\s\"']+")
"""The token of a private conda channel, in its path."""


def has_credentials(url: str) -> bool:
    """Return whether a URL contains a user name or a password; the user of SSH is none."""
    found = CREDENTIALS.search(url)
    return bool(found) and not ("ssh://" in url and ":" not in found[0])  # type: ignore[index]


def without_credentials(text: str) -> str:
    """Return a text in which no URL contains a user name or a password."""
    return CREDENTIALS.sub("//***@", text)


def plain(text: str) -> str:
    """Return a text in which no URL contains a user name, a password (even with a slash) or the token of a conda channel."""
    return _TOKEN.sub(r"\1/t/***", without_credentials(_WITH_SLASH.sub("//***@", text)))
