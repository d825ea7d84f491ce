"""HTTP checks of a machine's notebook: whether it responds, and whether it accepts only the right password."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import sys
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlencode, urlsplit

from clouds.errors import CloudError, GuestError

NOTEBOOK_PORT = 8888
"""The port of the notebook in the guest."""

_BODY_MAX_BYTES = 1 << 20
_FAILURES = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    body: str


@dataclass(slots=True)
class Session:
    """An HTTP client with cookies. http.client ignores proxy settings, as it should: a notebook is reached directly.

    With https the certificate must have this fingerprint; who has signed it does not matter.
    """

    url: str
    timeout_s: float = 30.0
    fingerprint: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        """Request a page. Raises OSError or http.client.HTTPException if there is no response."""
        return self._request("GET", path, "")

    def post(self, path: str, form: Mapping[str, str]) -> Answer:
        """Send a form."""
        return self._request("POST", path, urlencode(form))

    def _request(self, method: str, path: str, body: str) -> Answer:
        where = urlsplit(self.url)
        connection = _connection(where.scheme, where.hostname or "", where.port, self.timeout_s, self.fingerprint)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        if body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body.encode(), headers)
            response = connection.getresponse()
            self._keep_cookies(response.headers.get_all("Set-Cookie") or [])
            return Answer(response.status, response.read(_BODY_MAX_BYTES).decode(errors="replace"))
        finally:
            connection.close()

    def _keep_cookies(self, headers: list[str]) -> None:
        for header in headers:
            try:
                self.cookies |= {name: morsel.coded_value for name, morsel in SimpleCookie(header).items()}
            except CookieError:
                continue


class PinnedConnection(http.client.HTTPSConnection):
    """A TLS connection to a server with a pinned certificate. CloudError: it has another one; then nothing is sent."""

    def __init__(self, host: str, port: int | None, *, timeout_s: float, fingerprint: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the pinned fingerprint is stricter than any signature
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._fingerprint = fingerprint

    def connect(self) -> None:
        """Do the TLS handshake and check the certificate's fingerprint."""
        super().connect()
        shown = hashlib.sha256(self.sock.getpeercert(binary_form=True) or b"").hexdigest()
        if shown != self._fingerprint.replace(":", "").lower():
            self.close()
            raise CloudError(
                f"https://{self.host}:{self.port}/: its certificate is not the one that the machine reported on its console",
                next_step="Do not continue there: another computer may have the address now. See: ./inv machines",
            )


def _connection(scheme: str, host: str, port: int | None, timeout_s: float, fingerprint: str) -> http.client.HTTPConnection:
    if scheme == "https":
        return PinnedConnection(host, port, timeout_s=timeout_s, fingerprint=fingerprint)
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def answers(url: str, *, timeout_s: float = 5.0, fingerprint: str = "") -> bool:
    """Return whether a notebook shows its log-in page: status 200, not the one of a reverse proxy while Jupyter starts."""
    try:
        return Session(url, timeout_s, fingerprint).get("/login").status == http.client.OK
    except _FAILURES:
        return False


def login(url: str, password: str, *, timeout_s: float = 30.0) -> Session | None:
    """Log in through the form as a browser does; return the session, or None if the password is rejected."""
    session = Session(url, timeout_s)
    session.get("/login")
    answer = session.post("/login", {"password": password, "_xsrf": session.cookies.get("_xsrf", "")})
    return session if answer.status == http.client.FOUND else None


def check_login(url: str, password: str, *, timeout_s: float = 30.0) -> None:
    """Log in with the right password, a wrong one and none; `timeout_s` is for each response.

    GuestError: the notebook rejects the right one, accepts another, or does not respond.
    """
    try:
        if Session(url, timeout_s).get("/api/kernelspecs").status == http.client.OK:
            raise _failed("its notebook can be used without a password")
        if login(url, f"not {password}", timeout_s=timeout_s):
            raise _failed("its notebook accepts a wrong password")
        session = login(url, password, timeout_s=timeout_s)
        if session is None:
            raise _failed("its notebook rejects its own password")
        _check_kernels(session.get("/api/kernelspecs"))
    except _FAILURES as error:
        raise _failed(f"its notebook stopped responding: {error or type(error).__name__}") from error


def open_url(url: str, *, environ: Mapping[str, str] = os.environ, browse: Callable[[str], object] = webbrowser.open) -> str:
    """Open a notebook in the browser if there is a desktop; return its URL."""
    if sys.platform == "darwin" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        browse(url)
    return url


def _check_kernels(answer: Answer) -> None:
    try:
        kernels = json.loads(answer.body)["kernelspecs"] if answer.status == http.client.OK else None
    except (ValueError, KeyError, TypeError):
        kernels = None
    if kernels is None:
        raise _failed(f"its notebook returned no list of kernels after log-in (status {answer.status})")
    if not kernels:
        raise _failed("its notebook has no kernel")


def _failed(message: str) -> GuestError:
    return GuestError(message, step="notebook", next_step="Check the notebook step of the recipe, and its log.")
