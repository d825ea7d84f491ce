"""Requests to Compute Engine by Google's library: with a request id, tried again while Google is busy, refused in our own words.

The only place that decides what is tried again: what was throttled, not answered, or answered by 5xx; with the same request id,
so that a repetition is never a second machine. The library's own retries are off, and each request has a time limit.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from clouds.errors import CloudError, DeniedError, InvalidError, ThrottledError, TimedOutError, UsageError
from clouds.gcp import failures, sdk
from clouds.waiter import until

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

T = TypeVar("T")
REQUEST_S = 30.0
"""How long one request may take."""
WAIT_S = 150.0
"""How long the method `wait` of an operation may take, which answers within two minutes."""
RETRY_S = 60.0
"""For how long a request is tried again while Google is busy or out of reach."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGE_SIZE = 500


@dataclass(slots=True)
class Client:
    """The way to one project. `endpoint` is another server's URL (plain http on loopback only), "" for Google's own.

    `adapter` takes the place of the network.
    """

    project: str
    endpoint: str = ""
    retry_s: float = RETRY_S
    sleep: Callable[[float], None] = time.sleep
    adapter: BaseAdapter | None = None
    clock: Callable[[], float] = time.monotonic
    _services: sdk.Services | None = None

    def __post_init__(self) -> None:
        where = urlsplit(self.endpoint)
        if self.endpoint and not (where.scheme == "http" and where.hostname in _LOOPBACK):
            raise UsageError(
                f"BAKEHOUSE_GCE_ENDPOINT {self.endpoint!r}: not plain http on this computer's loopback address",
                next_step="Write it as http://127.0.0.1:PORT, or leave it unset for Google's own service.",
            )

    @property
    def services(self) -> sdk.Services:
        """The clients of Google's library. DeniedError: there are no credentials."""
        if self._services is None:
            self._services = _connect(self.endpoint, self.adapter)
        return self._services

    def ask(self, what: str, send: Callable[..., T], *, timeout_s: float = REQUEST_S, **request: Any) -> T:
        """Send a request and return its answer. `what` is what errors say it was about; `send` is a method of the library.

        `request` holds the fields of its request message; the project is ours unless another is named.
        """
        fields = {"project": self.project, **request}
        busy: list[ThrottledError] = []

        def attempt() -> tuple[T]:
            try:
                return (_sent(what, partial(send, fields, retry=None, timeout=timeout_s)),)
            except ThrottledError as error:
                busy.append(error)
                raise

        try:
            return until(attempt, what=what, timeout_s=self.retry_s, sleep=self.sleep, clock=self.clock)[0]
        except TimedOutError:
            raise busy[-1] from None

    def pages(self, what: str, send: Callable[..., Any], expression: str) -> Iterator[Any]:
        """Yield the pages of what a filter lists, each asked for with retries of its own."""
        request: dict[str, Any] = {"max_results": _PAGE_SIZE} | ({"filter": expression} if expression else {})
        while True:
            page = self.ask(what, send, **request)
            yield page
            if not page.next_page_token:
                return
            request["page_token"] = page.next_page_token

    def change(
        self, what: str, send: Callable[..., sdk.compute.Operation], *, request_id: str = "", **request: Any
    ) -> sdk.compute.Operation:
        """Ask for a change and return its operation; `request_id` says that an earlier request was the same."""
        return self.relabel(what, send, request_id=request_id or str(uuid.uuid4()), **request)

    def relabel(self, what: str, send: Callable[..., sdk.compute.Operation], **request: Any) -> sdk.compute.Operation:
        """Ask for new labels and return the operation; their fingerprint tells a repetition, and images take no request id.

        ForeignError: the answer is JSON, but not an operation.
        """
        operation = self.ask(what, send, **request)
        if not operation.self_link:
            raise failures.foreign(what, 200, "it is not an operation")
        return operation

    def wait(self, what: str, reference: str) -> sdk.compute.Operation:
        """Return an operation (`zones/us-central1-a/operations/NAME`) when it ends, or after two minutes."""
        kind, *scope, _, name = reference.split("/")
        if kind == "zones":
            return self.ask(what, self.services.zone_operations.wait, timeout_s=WAIT_S, zone=scope[0], operation=name)
        if kind == "regions":
            return self.ask(what, self.services.region_operations.wait, timeout_s=WAIT_S, region=scope[0], operation=name)
        return self.ask(what, self.services.global_operations.wait, timeout_s=WAIT_S, operation=name)


def _connect(endpoint: str, adapter: BaseAdapter | None) -> sdk.Services:
    """Return the clients of all services, which share their connections and the token."""
    from requests.adapters import HTTPAdapter

    from clouds.gcp import session

    prepare = partial(session.prepare, adapter=adapter or HTTPAdapter(), is_local=bool(endpoint))
    return sdk.Services(session.credentials(anonymous=bool(endpoint)), endpoint, prepare)


def _sent(what: str, send: Callable[[], T]) -> T:
    """Send one request and return its answer; every error is one of ours."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from requests.exceptions import InvalidSchema, InvalidURL, RequestException

    from clouds.gcp.session import ForeignAnswerError

    try:
        return send()
    except GoogleAPICallError as error:
        raise failures.of_refusal(what, error) from error
    except ForeignAnswerError as error:
        raise failures.of_foreign(what, error.response, is_json=error.is_json) from None
    except ParseError as error:
        raise failures.foreign(what, 200, "it has not the form of its answers") from error
    except (InvalidSchema, InvalidURL) as error:  # our own URLs are right
        raise InvalidError(
            f"{what}: cannot use the proxy ({type(error).__name__})",
            next_step="Set HTTPS_PROXY to http://HOST:PORT; SOCKS is not supported.",
        ) from error
    except (RequestException, TransportError, OSError) as error:
        raise _unanswered(what, error) from error
    except GoogleAuthError as error:
        raise DeniedError(
            f"{what}: Google refuses your credentials", next_step="Log in: gcloud auth application-default login"
        ) from error


def _unanswered(what: str, error: Exception) -> CloudError:
    return ThrottledError(
        f"{what}: no answer from Compute Engine ({type(error).__name__})", next_step="See that this computer is online; try again."
    )
