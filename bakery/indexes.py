"""Check, before a machine starts, that a builder can use the package indexes with which versions were resolved."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit, urlunsplit

from bakery.cache import find_start
from bakery.order import Order
from bakery.script import uv_settings
from clouds.capabilities import SharesIndexes
from clouds.driver import Cloud, Resource, Tell
from clouds.errors import UsageError

_TIMEOUT_S = 10
_UNAUTHORIZED = 401
"""uv asks no other index after this status (docs.astral.sh/uv/concepts/indexes), so a step would fail."""


def check_indexes(cloud: Cloud, order: Order, listed: Iterable[Resource], tell: Tell) -> None:
    """Raise UsageError if an index asks the builder for a user name and a password, and it has none, or wrong ones.

    Where builders use the public index instead of the user's, that is only reported: it may have the same files. `listed` are the
    images of the recipe.
    """
    _check_channels(cloud, order)
    if not any(step.python or step.conda for step in order.recipe.steps):
        return
    if not isinstance(cloud, SharesIndexes):
        if own := uv_settings.indexes(os.environ):
            tell(f"{order.id}: your package indexes are not used on {cloud.name}, but the public one: {', '.join(sorted(own))}")
        return
    indexes = cloud.package_indexes()
    step, package = _first_package(cloud, order, listed) if indexes else ("", "")
    for index in indexes if package else ():
        if _asks_for_password(index, package):
            raise UsageError(
                f"step {step!r}: the package index {_plain(index)} asks the builder for a user name and a password",
                next_step="Write them to ~/.netrc, or into its URL in uv's settings: https://USER:PASSWORD@HOST/...",
            )


def _check_channels(cloud: Cloud, order: Order) -> None:
    """Raise UsageError if conda packages are on a server of this computer, which builders of another computer cannot reach."""
    here = [one.url for one in order.resolution.conda.packages if urlsplit(one.url).hostname in ("localhost", "127.0.0.1", "::1")]
    if here and not isinstance(cloud, SharesIndexes):
        step = next(step.name for step in order.recipe.steps if step.conda)
        where = f"recipe {order.recipe.name!r}: step {step!r}: conda package {here[0]}"
        raise UsageError(
            f"{where}: is on this computer, which a builder on {cloud.name} cannot reach",
            next_step="Write a channel that the builder can reach, or bake on the local cloud.",
        )


def _first_package(cloud: Cloud, order: Order, listed: Iterable[Resource]) -> tuple[str, str]:
    """Return the first step that will install a package from the user's indexes, and that package; "" twice if none does."""
    to_run = {one.step for one in find_start(cloud, order, listed)[1] if not one.reused}
    has_own = any(line.startswith("--index-url ") for line in order.resolution.indexes)
    for step in order.recipe.steps:
        if step.name not in to_run:
            continue
        if step.conda:
            return step.name, "py-rattler"  # installs the conda packages
        if not step.python or (has_own and not step.python.project):
            continue
        for pin in order.resolution.pins[step.name]:
            name, is_version, _ = pin.partition("==")
            if is_version:
                return step.name, name
    return "", ""


def _plain(url: str) -> str:
    """Return a URL without user name, password and final slash."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def _asks_for_password(index: str, package: str) -> bool:
    """Return whether an index refuses the user name and password in its URL, or their absence.

    False if it does not answer: it may still answer the builder.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    parts = urlsplit(index)
    login = b64encode(f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()).decode()
    request = Request(f"{_plain(index)}/{package}/", headers={"Authorization": f"Basic {login}"} if "@" in parts.netloc else {})  # noqa: S310
    try:
        urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310
    except HTTPError as error:
        return error.code == _UNAUTHORIZED
    except (OSError, ValueError, HTTPException):
        pass
    return False
