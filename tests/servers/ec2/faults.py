"""Faults that tests order: an error before or after the effect, an error that shows later in the resource, no answer at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.servers.ec2.errors import ApiError, LateError

POSITIONS = ("before", "after")


class Hang(Exception):  # noqa: N818
    """The connection is held, and closed without an answer."""


class Page(Exception):  # noqa: N818
    """The answer is an HTML page with status 200, as a captive portal sends it in place of the service."""

    def __init__(self, text: str = "<!DOCTYPE html><html><title>Log in</title><p>Log in to use this network.</html>") -> None:
        super().__init__(text)
        self.text = text


Error = ApiError | LateError | Page | Callable[[], None] | Literal["hang"]


@dataclass(slots=True)
class Fault:
    action: str
    when: str
    error: Error
    nth: int | None
    region: str | None = None
    seen: int = 0

    def is_due(self, action: str, region: str) -> bool:
        if action != self.action or self.region not in (None, region):
            return False
        self.seen += 1
        return self.nth is None or self.seen == self.nth

    def strike(self) -> None:
        """Fail now; a LateError strikes later, where the resource is made."""
        if isinstance(self.error, LateError):
            return
        if self.error == "hang":
            raise Hang
        if isinstance(self.error, (ApiError, Page)):
            raise self.error
        assert callable(self.error)
        self.error()
