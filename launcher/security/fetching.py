"""Fetch small files over HTTP, with limits on time and size."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clouds.errors import BakehouseError, NotFoundError

if TYPE_CHECKING:
    from requests import Session

_READ_S = 10.0
"""How long to wait for a connection, and for each part of an answer, in seconds."""
_PART_BYTES = 65536
_NOT_FOUND = 404
NEXT = "Check the network, http_proxy and https_proxy, and the mirrors in this computer's apt sources; then try again."


def session() -> Session:
    """Return what keeps connections open between requests. It has the proxies and certificates of the environment."""
    from requests import Session  # costs 100 ms

    return Session()


def fetch(through: Session, url: str, *, bytes_max: int) -> bytes:
    """Return what a server has at a URL.

    NotFoundError: nothing (404). BakehouseError: it does not answer, or with more than `bytes_max`. The time for a whole answer is
    not limited: the caller does this (`at_once`).
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    content = bytearray()
    try:
        with through.get(url, timeout=_READ_S, stream=True) as answer:
            if answer.status_code == _NOT_FOUND:
                raise NotFoundError(f"not found on {host}", next_step=NEXT)
            if not answer.ok:
                raise BakehouseError(f"{host} answered with status {answer.status_code}", next_step=NEXT)
            for part in answer.iter_content(_PART_BYTES):
                content += part
                if len(content) > bytes_max:
                    raise BakehouseError(f"{host} sent more than {bytes_max} bytes", next_step=NEXT)
    except (OSError, ValueError) as error:  # requests' own are of these classes
        raise BakehouseError(f"{host} did not answer ({type(error).__name__})", next_step=NEXT) from error
    return bytes(content)
