"""How requests travel to Compute Engine: connections, proxies, credentials, time limits, redirections."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.oauth2.credentials import Credentials
from requests.adapters import HTTPAdapter

from clouds.errors import CloudError, DeniedError, ForeignError, InvalidError, ThrottledError
from clouds.gcp import sdk, session
from clouds.gcp.client import Client
from tests.clouds.gcp.stub import Stub, operation

CLOSED = "http://127.0.0.1:9"
PASSWORD = "Basic dXNlcjpzZWNyZXQ="
"""`user:secret`, as a request carries it."""


class Recorder(ThreadingHTTPServer):
    """A server and proxy that records requests: `METHOD target`, headers, and client address."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[str] = []
        self.headers: list[Message] = []
        self.peers: set[Any] = set()
        self.answers: dict[str, tuple[int, dict[str, str], object]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def _serve(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.headers.append(self.headers)
        self.server.peers.add(self.client_address)
        status, headers, body = self.server.answers.get(self.command, (200, {}, {"kind": "compute#network", "name": "any"}))
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_CONNECT = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        """Keep quiet."""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what this computer's own environment says of proxies and credentials."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy() -> Iterator[Recorder]:
    with Recorder() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def client(endpoint: str = "", *, credentials: Any = None) -> Client:
    """Return a client as for Google's own service, which any proxy is used for; at `endpoint` where one is given."""
    prepare = partial(session.prepare, adapter=HTTPAdapter(), is_local=False)
    nobody: Any = AnonymousCredentials
    return Client("demo", retry_s=0, _services=sdk.Services(credentials or nobody(), endpoint, prepare))


def ask(client: Client) -> str:
    return client.ask("network any", client.services.networks.get, network="any").name


def refusal(client: Client) -> CloudError:
    with pytest.raises(CloudError) as raised:
        ask(client)
    return raised.value


def test_connection_that_is_refused_is_told_as_no_answer() -> None:
    error = refusal(Client("demo", CLOSED, retry_s=0))
    assert isinstance(error, ThrottledError)
    assert error.message == "network any: no answer from Compute Engine (ConnectionError)"
    assert "online" in error.next_step


def test_every_request_has_a_time_limit() -> None:
    limits: list[float] = []

    class Watched(Stub):
        def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
            limits.append(more["timeout"])
            return super().send(request, *args, **more)

    done = operation("go", "global/networks/any", scope="global")
    stub = Watched({"GET global/networks/any": {"name": "any"}, "POST global/operations/go/wait": done})
    watched = Client("demo", CLOSED, adapter=stub)
    ask(watched)
    watched.wait("network any", "global/operations/go")
    assert limits == [pytest.approx(30, abs=1), pytest.approx(150, abs=1)]


def test_all_services_send_by_one_connection(recorder: Recorder) -> None:
    asking = Client("demo", recorder.url)
    ask(asking)
    asking.ask("image any", asking.services.images.get, image="any")
    asking.ask("firewall rule any", asking.services.firewalls.get, firewall="any")
    assert len(recorder.asked) == 3
    assert len(recorder.peers) == 1


def test_redirection_is_not_followed(recorder: Recorder) -> None:
    recorder.answers["POST"] = (307, {"Location": f"{recorder.url}/elsewhere"}, {})
    asking = Client("demo", recorder.url, retry_s=0)
    with pytest.raises(ForeignError, match="HTTP status 307"):
        asking.change("network any", asking.services.networks.insert_unary, network_resource={"name": "any"})
    assert len(recorder.asked) == 1


# Proxies


def test_proxy_gets_the_password_that_its_address_holds(proxy: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//user:secret@"))
    proxy.answers["CONNECT"] = (403, {}, {})
    error = refusal(client())
    assert isinstance(error, ThrottledError)
    assert "ProxyError" in error.message
    assert proxy.asked == ["CONNECT compute.googleapis.com:443"]
    assert proxy.headers[0]["Proxy-Authorization"] == PASSWORD


def test_proxy_whose_address_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http:///no-host")
    asking = client()
    asking.retry_s = 60
    error = refusal(asking)
    assert isinstance(error, InvalidError)
    assert "HTTPS_PROXY" in error.next_step


def test_host_in_no_proxy_is_reached_directly(recorder: Recorder, proxy: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    ask(client(recorder.url))
    assert len(proxy.asked) == 1
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    ask(client(recorder.url))
    assert (len(proxy.asked), len(recorder.asked)) == (1, 1)


def test_server_on_this_computer_is_reached_past_every_proxy(
    recorder: Recorder, proxy: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    ask(Client("demo", recorder.url))
    assert (len(proxy.asked), len(recorder.asked)) == (0, 1)


# Credentials


def test_token_is_sent_and_no_password_from_netrc(recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(client(recorder.url, credentials=Credentials("token-1")))  # type: ignore[no-untyped-call]
    assert recorder.headers[0]["Authorization"] == "Bearer token-1"


def stale(token_uri: str) -> Any:
    """Return credentials whose token must be refreshed."""
    known: Any = {"refresh_token": "r", "token_uri": token_uri, "client_id": "c", "client_secret": "s"}
    return Credentials(None, **known)  # type: ignore[no-untyped-call]


def test_log_in_that_has_expired_is_told_with_how_to_log_in(recorder: Recorder) -> None:
    recorder.answers["POST"] = (400, {}, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    error = refusal(client(recorder.url, credentials=stale(recorder.url)))
    assert isinstance(error, DeniedError)
    assert "gcloud auth application-default login" in error.next_step


def test_server_of_tokens_that_is_out_of_reach_is_no_refusal(recorder: Recorder) -> None:
    assert isinstance(refusal(client(recorder.url, credentials=stale(CLOSED))), ThrottledError)
    assert recorder.asked == []


def test_credentials_that_are_missing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    error = refusal(Client("demo"))
    assert isinstance(error, DeniedError)
    assert "gcloud auth application-default login" in error.next_step
