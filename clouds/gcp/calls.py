"""One request to Compute Engine at a time: sent with a request id, tried again while Google is busy, refused in our own words.

Google's own JSON interface (cloud.google.com/compute/docs/reference/rest/v1) with google-auth's credentials: google-cloud-compute
takes two seconds to be imported even when it is imported in part (docs/benchmarks.md), and hides the codes of errors.

The only place that decides what is tried again: what was throttled, not answered, or answered by 5xx; with the same request id,
so that a repetition is never a second machine.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies

from clouds.errors import DeniedError, ThrottledError, TimedOutError, UsageError
from clouds.gcp import failures
from clouds.waiter import until

GOOGLE = "https://compute.googleapis.com"
REQUEST_S = 30.0
"""How long one request may take."""
WAIT_S = 150.0
"""How long the method `wait` of an operation may take, which answers within two minutes."""
RETRY_S = 60.0
"""For how long a request is tried again while Google is busy or out of reach."""
_SCOPE = "https://www.googleapis.com/auth/compute"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGE_SIZE = 500


class Answer(NamedTuple):
    """An HTTP answer; `retry_after_s` is what its header Retry-After asks for, 0 without one."""

    status: int
    content: bytes
    retry_after_s: float = 0.0


Send = Callable[[str, str, str, "bytes | None", float], Answer]
"""Sends (what it is about, method, URL, body, patience in seconds); returns the answer. Raises CloudError."""


@dataclass(slots=True)
class Calls:
    """The way to one project. `endpoint` is another server's URL (plain http on loopback only), "" for Google's own."""

    project: str
    endpoint: str = ""
    retry_s: float = RETRY_S
    sleep: Callable[[float], None] = time.sleep
    send: Send | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        where = urlsplit(self.endpoint)
        if self.endpoint and not (where.scheme == "http" and where.hostname in _LOOPBACK):
            raise UsageError(
                f"BAKEHOUSE_GCE_ENDPOINT {self.endpoint!r}: not plain http on this computer's loopback address",
                next_step="Write it as http://127.0.0.1:PORT, or leave it unset for Google's own service.",
            )

    def get(self, what: str, path: str, *, project: str = "", **query: str) -> dict[str, Any]:
        """Return a resource. `what` is what errors say it was about; `path` is the part of the URL behind the project."""
        return self._ask(what, "GET", path, None, query, project=project)

    def pages(self, what: str, path: str, expression: str, **more: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of what a filter lists; `more` is the rest of the query."""
        query = {"maxResults": str(_PAGE_SIZE), **more} | ({"filter": expression} if expression else {})
        while True:
            page = self._ask(what, "GET", path, None, query)
            yield page
            if not (token := page.get("nextPageToken")):
                return
            query["pageToken"] = token

    def change(
        self, what: str, path: str, body: Mapping[str, Any] | None = None, *, method: str = "POST", request_id: str = ""
    ) -> dict[str, Any]:
        """Ask for a change and return its operation; `request_id` says that an earlier request was the same."""
        return _operation(what, self._ask(what, method, path, body, {"requestId": request_id or str(uuid.uuid4())}))

    def relabel(self, what: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for new labels and return the operation; their fingerprint tells a repetition, and images take no request id."""
        return _operation(what, self._ask(what, "POST", f"{path}/setLabels", body, {}))

    def wait(self, what: str, operation: str) -> dict[str, Any]:
        """Return an operation when it ends, or after two minutes."""
        return self._ask(what, "POST", f"{operation}/wait", None, {}, timeout_s=WAIT_S)

    def _ask(
        self,
        what: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str],
        *,
        project: str = "",
        timeout_s: float = REQUEST_S,
    ) -> dict[str, Any]:
        url = f"{self.endpoint or GOOGLE}/compute/v1/projects/{project or self.project}/{path}"
        url += f"?{urlencode(query)}" if query else ""
        content = None if body is None else json.dumps(body).encode()
        self.send = send = self.send or sender(anonymous=bool(self.endpoint))
        busy: list[ThrottledError] = []

        def attempt() -> tuple[dict[str, Any]]:
            try:
                return (_answer(what, *send(what, method, url, content, timeout_s)),)
            except ThrottledError as error:
                busy.append(error)
                raise

        try:
            return until(attempt, what=what, timeout_s=self.retry_s, sleep=self.sleep, clock=self.clock)[0]
        except TimedOutError:
            raise busy[-1] from None


def _answer(what: str, status: int, content: bytes, retry_after_s: float = 0.0) -> dict[str, Any]:
    """Return the JSON of a success; raise the error behind anything else. ForeignError: somebody else has answered."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if 200 <= status < 300 and isinstance(body, dict):
        return body
    error = failures.of_answer(what, status, body if isinstance(body, dict) else None)
    if isinstance(error, ThrottledError):
        error.retry_after_s = retry_after_s
    raise error


def _operation(what: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the operation that an accepted change is answered with. ForeignError: the answer is JSON, but not an operation."""
    if "selfLink" not in answer:
        raise failures.foreign(what, 200, "it is not an operation")
    return answer


def retry_after_s(header: str, now: float) -> float:
    """Return the seconds that a header Retry-After asks for: a number, or a date (RFC 9110, 10.2.3). 0: it asks for nothing."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return 0.0


def sender(*, anonymous: bool) -> Send:
    """Return what sends requests: with the user's Google credentials, or `anonymous`, as to a server that is not Google's."""
    import urllib3
    from google.auth.exceptions import GoogleAuthError, TransportError

    proxy = "" if anonymous else getproxies().get("https", "")
    manager = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
    http: Any = manager if anonymous else _authorized(manager)

    def send(what: str, method: str, url: str, body: bytes | None, timeout_s: float) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            answer = http.urlopen(method, url, body=body, headers=headers, timeout=timeout_s, retries=False)
            return Answer(int(answer.status), bytes(answer.data), retry_after_s(answer.headers.get("Retry-After", ""), time.time()))
        except (urllib3.exceptions.HTTPError, TransportError, OSError) as error:
            raise ThrottledError(
                f"{what}: no answer from Compute Engine ({type(error).__name__})",
                next_step="See that this computer is online; try again.",
            ) from error
        except GoogleAuthError as error:
            raise DeniedError(
                f"{what}: Google refuses your credentials", next_step="Log in: gcloud auth application-default login"
            ) from error

    return send


def _authorized(manager: Any) -> Any:
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError
    from google.auth.transport.urllib3 import AuthorizedHttp

    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except DefaultCredentialsError as error:
        raise DeniedError("no credentials for Google Cloud", next_step="Log in: gcloud auth application-default login") from error
    return AuthorizedHttp(credentials, http=manager)  # type: ignore[no-untyped-call]
