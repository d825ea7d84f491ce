import http.server
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from clouds.errors import GuestError
from launcher.access.notebook import answers, check_login, login, open_url
from launcher.access.password import hash_password
from tests import fake_services

HASH = hash_password("right")


@pytest.fixture(scope="module")
def jupyter() -> str:
    endpoint = fake_services.notebook(lambda: HASH)
    return f"http://{endpoint.host}:{endpoint.port}/"


Reply = tuple[int, dict[str, str], str]


@contextmanager
def server(reply: Callable[[str, str], Reply]) -> Iterator[str]:
    """Serve the responses of `reply(method, path)`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = reply(self.command, self.path)
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}/"
        served.shutdown()


def test_notebook_that_shows_its_login_answers(jupyter: str) -> None:
    assert answers(jupyter)


def test_proxy_whose_notebook_is_not_up_yet_is_no_answer() -> None:
    with server(lambda _method, _path: (502, {}, "Bad Gateway")) as url:
        assert not answers(url)


def test_closed_port_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}/")


def test_port_that_accepts_and_sends_nothing_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.1)


def test_port_that_accepts_and_hangs_up_is_no_answer() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as rude:
        threading.Thread(target=rude.serve_forever, args=(0.01,), daemon=True).start()
        assert not answers(f"http://127.0.0.1:{rude.server_address[1]}/")
        rude.shutdown()


def test_proxy_of_the_environment_is_not_asked(jupyter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert answers(jupyter)


def test_right_password_logs_in(jupyter: str) -> None:
    session = login(jupyter, "right")
    assert session and session.get("/api/kernelspecs").status == 200


def test_wrong_password_does_not(jupyter: str) -> None:
    assert login(jupyter, "wrong") is None


def test_notebook_as_it_should_be_passes(jupyter: str) -> None:
    check_login(jupyter, "right")


def test_notebook_that_refuses_its_password_fails(jupyter: str) -> None:
    with pytest.raises(GuestError, match="rejects its own password"):
        check_login(jupyter, "wrong")


def test_notebook_that_is_open_to_anybody_fails() -> None:
    with server(lambda _method, _path: (200, {}, "{}")) as url, pytest.raises(GuestError, match="without a password"):
        check_login(url, "right")


def test_notebook_that_takes_any_password_fails() -> None:
    def reply(method: str, _path: str) -> Reply:
        return (302, {"Set-Cookie": "session=x"}, "") if method == "POST" else (403, {}, "")

    with server(reply) as url, pytest.raises(GuestError, match="accepts a wrong password"):
        check_login(url, "right")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, '{"kernelspecs": {}}', "no kernel"),
        (200, "<html>", "no list of kernels"),
        (200, "[]", "no list"),
        (500, "", "status 500"),
    ],
)
def test_notebook_without_a_kernel_fails(status: int, body: str, told: str) -> None:
    asked = iter([401, 302])
    specs = iter([(403, {}, ""), (status, {}, body)])

    def reply(method: str, path: str) -> Reply:
        if method == "POST":
            return next(asked), {}, ""
        return next(specs) if path == "/api/kernelspecs" else (200, {}, "")

    with server(reply) as url, pytest.raises(GuestError, match=told):
        check_login(url, "right")


def test_notebook_that_stopped_responding_fails() -> None:
    with pytest.raises(GuestError, match="stopped responding"):
        check_login("http://127.0.0.1:9/", "right")


def test_url_is_opened_on_a_desktop_only() -> None:
    opened: list[str] = []
    assert open_url("http://127.0.0.1:1/", environ={}, browse=opened.append) == "http://127.0.0.1:1/"
    assert opened == []
    open_url("http://127.0.0.1:1/", environ={"WAYLAND_DISPLAY": "wayland-0"}, browse=opened.append)
    assert opened == ["http://127.0.0.1:1/"]


def test_notebook_that_is_slow_fails_after_the_time_that_it_may_take() -> None:
    asked = threading.Event()

    def reply(_method: str, _path: str) -> Reply:
        asked.wait(30)
        return 403, {}, ""

    with server(reply) as url:
        try:
            with pytest.raises(GuestError, match="stopped responding: timed out"):
                check_login(url, "right", timeout_s=0.1)
        finally:
            asked.set()
