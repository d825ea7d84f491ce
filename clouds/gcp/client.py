"""Send requests to Compute Engine with Google's library: with a request id, retries while Google is busy, and our own errors.

The only module that decides on retries: after throttling, no answer, or 5xx; with the same request id, so that a retry never
creates a second machine. The library's own retries are off, and each request has a time limit.
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
"""Time limit of one request."""
WAIT_S = 150.0
"""Time limit of an operation's method `wait`, which answers within two minutes."""
RETRY_S = 60.0
"""How long a request is retried while Google is busy or unreachable."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGE_SIZE = 500


@dataclass(slots=True)
class Client:
    """A client of one project. `endpoint` is the URL of another server (plain http on loopback only), "" for Google's.

    `adapter` replaces the network.
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
                f"BAKEHOUSE_GCE_ENDPOINT {self.endpoint!r} is not a plain http URL on loopback",
                next_step="Set it to http://127.0.0.1:PORT, or unset it to use Google's service.",
            )

    @property
    def services(self) -> sdk.Services:
        """The clients of Google's library. DeniedError: there are no credentials."""
        if self._services is None:
            self._services = _connect(self.endpoint, self.adapter)
        return self._services

    def ask(self, what: str, send: Callable[..., T], *, timeout_s: float = REQUEST_S, **request: Any) -> T:
        """Send a request and return its answer. `what` names its subject in errors; `send` is a method of the library.

        `request` holds the fields of the request message; `project` defaults to ours.
        """
        fields = {"project": self.project, **request}
        busy: list[ThrottledError] = []

        def attempt() -> tuple[T]:
            try:
                return (sent(what, partial(send, fields, retry=None, timeout=timeout_s)),)
            except ThrottledError as error:
                busy.append(error)
                raise

        try:
            return until(attempt, what=what, timeout_s=self.retry_s, sleep=self.sleep, clock=self.clock)[0]
        except TimedOutError:
            raise busy[-1] from None

    def pages(self, what: str, send: Callable[..., Any], expression: str) -> Iterator[Any]:
        """Yield the pages of a filtered list, each requested with its own retries."""
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
        """Request a change and return its operation; the same `request_id` marks a repeated request."""
        return self.relabel(what, send, request_id=request_id or str(uuid.uuid4()), **request)

    def relabel(self, what: str, send: Callable[..., sdk.compute.Operation], **request: Any) -> sdk.compute.Operation:
        """Request new labels and return the operation, without a request id: images support none, and the fingerprint suffices.

        ForeignError: the answer is JSON, but not an operation.
        """
        operation = self.ask(what, send, **request)
        if not operation.self_link:
            raise failures.foreign(what, 200, "not an operation")
        return operation

    def wait(self, what: str, reference: str) -> sdk.compute.Operation:
        """Return an operation (`zones/us-central1-a/operations/NAME`) once it has ended, or after two minutes."""
        kind, *scope, _, name = reference.split("/")
        if kind == "zones":
            return self.ask(what, self.services.zone_operations.wait, timeout_s=WAIT_S, zone=scope[0], operation=name)
        if kind == "regions":
            return self.ask(what, self.services.region_operations.wait, timeout_s=WAIT_S, region=scope[0], operation=name)
        return self.ask(what, self.services.global_operations.wait, timeout_s=WAIT_S, operation=name)


def _connect(endpoint: str, adapter: BaseAdapter | None) -> sdk.Services:
    """Return the clients of all services, which share connections and token."""
    from requests.adapters import HTTPAdapter

    from clouds.gcp import session

    prepare = partial(session.prepare, adapter=adapter or HTTPAdapter(), is_local=bool(endpoint))
    return sdk.Services(session.credentials(anonymous=bool(endpoint)), endpoint, prepare)


def sent(what: str, send: Callable[[], T]) -> T:
    """Send one request and return its answer; every error is a CloudError."""
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
        raise failures.foreign(what, 200, "unexpected format") from error
    except (InvalidSchema, InvalidURL) as error:  # about the proxy, since our own URLs are valid
        raise InvalidError(
            f"{what}: cannot use the proxy ({type(error).__name__})",
            next_step="Set HTTPS_PROXY to http://HOST:PORT; SOCKS is not supported.",
        ) from error
    except (RequestException, TransportError, OSError) as error:
        raise _unanswered(what, error) from error
    except GoogleAuthError as error:
        raise DeniedError(
            f"{what}: Google rejected your credentials", next_step="Log in: gcloud auth application-default login"
        ) from error


def _unanswered(what: str, error: Exception) -> CloudError:
    return ThrottledError(
        f"{what}: no answer from Compute Engine ({type(error).__name__})",
        next_step="Check that this computer is online; try again.",
    )
