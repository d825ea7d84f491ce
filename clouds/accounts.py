"""Accounts: this computer's records of a cloud are kept separately for each account (project).

Their files are named by the key `CLOUD.ACCOUNT`, such as `gcp.research-123`, or `CLOUD` if the cloud has no accounts. Earlier
releases used `CLOUD` for all accounts: such a file is read if the key has none, and never removed because of another account.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote

_SEPARATOR = "."


class HasAccount(Protocol):
    """The part of a cloud that identifies its account."""

    name: str

    @property
    def account(self) -> str:
        """The account that machines and images belong to; "" where a cloud has no accounts."""


def account_key(cloud: HasAccount) -> str:
    """Return the key of an account, valid as a file name."""
    family = cloud_of(cloud.name)
    return f"{family}{_SEPARATOR}{quote(cloud.account, safe='')}" if cloud.account else family


def cloud_of(name: str) -> str:
    """Return the cloud of a key, or of an account's name in settings (`gcp.research`)."""
    return name.partition(_SEPARATOR)[0]


def account_of(name: str) -> str:
    """Return the account's name in settings: `research` for `gcp.research`, "" for `gcp`."""
    return name.partition(_SEPARATOR)[2]
