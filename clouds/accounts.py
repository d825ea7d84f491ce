"""Accounts: what this computer knows of a cloud is kept apart by the account (project) that it was made in.

Its files bear the key `CLOUD.ACCOUNT`, such as `gcp.research-123`, or `CLOUD` alone where a cloud has no accounts. Releases before
wrote `CLOUD` alone for all accounts: their files are read where there is none of the key, and never removed for another account.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote

_SEPARATOR = "."


class HasAccount(Protocol):
    """A cloud, as far as its account goes."""

    name: str

    @property
    def account(self) -> str:
        """The account that machines and images belong to; "" where a cloud has no accounts."""


def account_key(cloud: HasAccount) -> str:
    """Return the key of an account, fit for the name of a file."""
    family = cloud_of(cloud.name)
    return f"{family}{_SEPARATOR}{quote(cloud.account, safe='')}" if cloud.account else family


def cloud_of(name: str) -> str:
    """Return the cloud of a key, or of what settings call an account (`gcp.research`)."""
    return name.partition(_SEPARATOR)[0]


def account_of(name: str) -> str:
    """Return what settings call the account in `gcp.research`; "" in `gcp`."""
    return name.partition(_SEPARATOR)[2]
