"""A machine's notebook as its owner meets it: does it answer, does it let in the right password and nobody else."""

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

from clouds.errors import BakeError, CloudError

NOTEBOOK_PORT = 8888
"""The port in the guest on which every notebook answers."""

_BODY_MAX_BYTES = 1 << 20
_FAILURES = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a web server has answered."""

    status: int
    body: str


@dataclass(slots=True)
class Session:
    """A visitor of a notebook, with its cookies. http.client heeds no proxy: a notebook is reached directly.

    Behind https the certificate must be the one with this fingerprint, whoever has signed it.
    """

    url: str
    timeout_s: float = 30.0
    fingerprint: str = ""
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        """Ask for a page. Raises OSError or http.client.HTTPException when nobody answers."""
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
    """A TLS connection to whoever has the key of one certificate. CloudError: another one is shown; nothing is sent then."""

    def __init__(self, host: str, port: int | None, *, timeout_s: float, fingerprint: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the fingerprint says more than any signature would
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._fingerprint = fingerprint

    def connect(self) -> None:
        """Shake hands, and go on only with the right one."""
        super().connect()
        shown = hashlib.sha256(self.sock.getpeercert(binary_form=True) or b"").hexdigest()
        if shown != self._fingerprint.replace(":", "").lower():
            self.close()
            raise CloudError(
                f"https://{self.host}:{self.port}/: shows another certificate than the machine has told on its console",
                next_step="Do not go on there: somebody else may have its address now. See: ./inv machines",
            )


def _connection(scheme: str, host: str, port: int | None, timeout_s: float, fingerprint: str) -> http.client.HTTPConnection:
    if scheme == "https":
        return PinnedConnection(host, port, timeout_s=timeout_s, fingerprint=fingerprint)
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def answers(url: str, *, timeout_s: float = 5.0, fingerprint: str = "") -> bool:
    """Say whether a notebook shows its log-in page: 200, not what a proxy in front of it says while it comes up."""
    try:
        return Session(url, timeout_s, fingerprint).get("/login").status == http.client.OK
    except _FAILURES:
        return False


def login(url: str, password: str, *, timeout_s: float = 30.0) -> Session | None:
    """Log in through the form as a browser would; return the session, or None when the password is refused."""
    session = Session(url, timeout_s)
    session.get("/login")
    answer = session.post("/login", {"password": password, "_xsrf": session.cookies.get("_xsrf", "")})
    return session if answer.status == http.client.FOUND else None


def check_login(url: str, password: str) -> None:
    """Log in with the password and without. Raises BakeError when a notebook lets in nobody, or anybody."""
    try:
        if Session(url).get("/api/kernelspecs").status == http.client.OK:
            raise _failed("its notebook lets in anybody, without a password")
        if login(url, f"not {password}"):
            raise _failed("its notebook lets in a wrong password")
        session = login(url, password)
        if session is None:
            raise _failed("its notebook refuses its own password")
        _check_kernels(session.get("/api/kernelspecs"))
    except _FAILURES as error:
        raise _failed(f"its notebook has stopped answering: {error or type(error).__name__}") from error


def open_url(url: str, *, environ: Mapping[str, str] = os.environ, browse: Callable[[str], object] = webbrowser.open) -> str:
    """Open a notebook in the browser when there is a desktop, and return its URL for whoever has none."""
    if sys.platform == "darwin" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        browse(url)
    return url


def _check_kernels(answer: Answer) -> None:
    try:
        kernels = json.loads(answer.body)["kernelspecs"] if answer.status == http.client.OK else None
    except (ValueError, KeyError, TypeError):
        kernels = None
    if kernels is None:
        raise _failed(f"its notebook answers {answer.status} to one who is logged in, and no list of kernels")
    if not kernels:
        raise _failed("its notebook has no kernel")


def _failed(message: str) -> BakeError:
    return BakeError(message, step="notebook", next_step="See the notebook step of the recipe, and its log.")
