"""One request to Compute Engine at a time: sent with a request id, tried again while Google is busy, refused in our own words.

The only place that decides what is tried again (google-cloud-compute never repeats a write, nor a 403 rateLimitExceeded): what was
throttled, not answered or answered by 5xx, with the same request id, so that a repetition is never a second machine.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from clouds.errors import CloudError, DeniedError, ThrottledError, TimedOutError, UsageError
from clouds.gcp import failures, sdk
from clouds.gcp.failures import Json
from clouds.waiter import until

REQUEST_S = 30.0
"""How long one request may take."""
WAIT_S = 150.0
"""How long the method `wait` may take, which answers within two minutes."""
RETRY_S = 60.0
"""For how long a request is tried again while Google is busy or out of reach."""
_SCOPE = "https://www.googleapis.com/auth/compute"
_PAGE_SIZE = 500


@dataclass(slots=True)
class Calls:
    """The way to one project. `endpoint` is another server's URL (plain http on loopback only), "" for Google's own."""

    project: str
    endpoint: str = ""
    retry_s: float = RETRY_S
    sleep: Callable[[float], None] = time.sleep
    _clients: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = urlsplit(self.endpoint)
        if self.endpoint and (where.scheme, where.hostname) not in {("http", "127.0.0.1"), ("http", "localhost"), ("http", "::1")}:
            raise UsageError(
                f"BAKEHOUSE_GCE_ENDPOINT {self.endpoint!r}: not plain http on this computer's loopback address",
                next_step="Write it as http://127.0.0.1:PORT, or leave it unset for Google's own service.",
            )

    def ask(self, what: str, service: str, method: str, **fields: object) -> dict[str, Any]:
        """Send one request (fields in Google's JSON spelling) and return the answer as JSON; raises the classified CloudError."""
        message = self._message(service, method, fields)
        timeout_s = WAIT_S if method == "wait" else REQUEST_S
        send = partial(getattr(self._client(service), method), request=message, retry=None, timeout=timeout_s)
        return _as_json(self._patiently(what, send))

    def pages(self, what: str, service: str, method: str, **fields: object) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list as JSON."""
        token = ""
        while True:
            message = self._message(service, method, {"maxResults": _PAGE_SIZE, "pageToken": token, **fields})
            send = partial(getattr(self._client(service), method), request=message, retry=None, timeout=REQUEST_S)
            page = _as_json(self._patiently(what, lambda send=send: next(iter(send().pages))))  # type: ignore[misc]
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                return

    def _message(self, service: str, method: str, fields: Json) -> Any:
        from google.protobuf import json_format

        kind = sdk.request_class(service, method)
        known = kind.pb(kind()).DESCRIPTOR.fields_by_name
        whole: dict[str, object] = {"project": self.project, **{key: value for key, value in fields.items() if value != ""}}
        if "request_id" in known and "requestId" not in whole:
            whole["requestId"] = str(uuid.uuid4())
        return kind.wrap(json_format.ParseDict(whole, kind.pb(kind())))

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            from google.api_core.client_options import ClientOptions

            options = ClientOptions(api_endpoint=self.endpoint or None)
            self._clients[service] = sdk.client_class(service)(credentials=self._credentials(), client_options=options)
        return self._clients[service]

    def _credentials(self) -> Any:
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError

        if self.endpoint:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        try:
            return google.auth.default(scopes=[_SCOPE])[0]
        except DefaultCredentialsError as error:
            raise DeniedError(
                "no credentials for Google Cloud", next_step="Log in: gcloud auth application-default login"
            ) from error

    def _patiently(self, what: str, send: Callable[[], Any]) -> Any:
        busy: list[ThrottledError] = []

        def attempt() -> tuple[Any]:
            try:
                return (send(),)  # a message that is empty counts as false
            except Exception as error:
                told = _told(what, error)
                if isinstance(told, ThrottledError):
                    busy.append(told)
                raise told from error

        try:
            return until(attempt, what=what, timeout_s=self.retry_s, sleep=self.sleep)[0]
        except TimedOutError:
            raise busy[-1] from None


def _told(what: str, error: Exception) -> Exception:
    """Return what a user is told of an exception of the library; our own bugs pass as they are."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import RefreshError, TransportError
    from requests.exceptions import RequestException

    if isinstance(error, CloudError):
        return error
    if isinstance(error, GoogleAPICallError):
        body = {"error": {"errors": list(error.errors or ()), "message": error.message}}
        return failures.of_answer(what, int(error.code or 500), body)
    if isinstance(error, RefreshError):
        return DeniedError(
            f"{what}: your Google credentials are refused", next_step="Log in: gcloud auth application-default login"
        )
    if isinstance(error, (TransportError, RequestException)):
        return ThrottledError(
            f"{what}: no answer from Compute Engine ({type(error).__name__})",
            next_step="See that this computer is online; try again.",
        )
    return error


def _as_json(answer: Any) -> dict[str, Any]:
    from google.protobuf import json_format

    found: dict[str, Any] = json_format.MessageToDict(type(answer).pb(answer))
    return found
