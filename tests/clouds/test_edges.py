"""Every verb on a cloud that is not set up, cannot be reached, rejects the credentials or is not what answers."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clouds import waiter
from launcher.command.flags import Verb
from tests.cli.edges import FAILING, run, typed_for

pytestmark = pytest.mark.server
VERBS = [verb for verb in FAILING.values() if any(flag.name == "cloud" for flag in verb.flags)]
CLOUDS = ("gcp", "aws")
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
"""The secret key of AWS's documentation."""
RECIPE = 'name = "tiny"\n[[steps]]\nname = "one"\nrun = "true"\n'
SETTINGS = {
    "gcp": {"GOOGLE_CLOUD_PROJECT": "demo", "CLOUDSDK_COMPUTE_ZONE": "us-central1-a", "BAKEHOUSE_GCE_ENDPOINT": "{url}"},
    "aws": {
        "AWS_ENDPOINT_URL": "{url}",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    },
}
NEEDED = {"gcp": "GOOGLE_CLOUD_PROJECT", "aws": "AWS_REGION"}
"""The setting without which no verb works."""


@dataclass(frozen=True)
class Reply:
    """What answers every request."""

    status: int
    body: str
    kind: str = "application/json"


def of_google(status: int, reason: str) -> Reply:
    """Return an error as Compute Engine answers it."""
    error = f'{{"error": {{"code": {status}, "message": "{reason}", "errors": [{{"reason": "{reason}", "message": "m"}}]}}}}'
    return Reply(status, error)


def of_amazon(status: int, code: str) -> Reply:
    """Return an error as EC2 answers it."""
    error = f"<Errors><Error><Code>{code}</Code><Message>It is {code}.</Message></Error></Errors>"
    return Reply(status, f"<Response>{error}<RequestID>r-1</RequestID></Response>", "text/xml")


FOREIGN = {
    "a log-in page": Reply(200, "<!DOCTYPE html><title>Log in</title>", "text/html"),
    "an empty answer": Reply(200, ""),
    "another JSON": Reply(200, '{"version": 99}'),
    "a list": Reply(200, "[1]"),
    "no JSON": Reply(200, '{"kind": "compute#'),
    "not found": Reply(404, "no such page", "text/plain"),
    "a gateway's 502": Reply(502, "<h1>Bad Gateway</h1>", "text/html"),
}
REPLIES = {
    "gcp": {
        "401": of_google(401, "authError"),
        "expired": of_google(401, "required"),
        "403": of_google(403, "forbidden"),
        "API not enabled": of_google(403, "accessNotConfigured"),
        "no such project": of_google(404, "notFound"),
        "quota": of_google(403, "rateLimitExceeded"),
        "503": of_google(503, "backendError"),
        **FOREIGN,
    },
    "aws": {
        **{
            code: of_amazon(status, code)
            for code, status in {
                "ExpiredToken": 403,
                "RequestExpired": 400,
                "InvalidClientTokenId": 403,
                "AuthFailure": 401,
                "SignatureDoesNotMatch": 403,
                "UnauthorizedOperation": 403,
                "OptInRequired": 401,
                "RequestLimitExceeded": 503,
                "InternalError": 500,
            }.items()
        },
        **FOREIGN,
    },
}
CASES = len(VERBS) * (sum(map(len, REPLIES.values())) + 2 * len(CLOUDS))


class _Server(http.server.ThreadingHTTPServer):
    """Answers every request with the same."""

    daemon_threads = True
    reply = Reply(500, "")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        reply = self.server.reply
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body.encode())

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as made:
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat no request for long."""
    from botocore import session as botocore_session  # type: ignore[import-untyped]

    from clouds.aws import session
    from clouds.gcp import client

    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "CLOUDSDK_", "BAKEHOUSE_GCE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
    monkeypatch.setattr(waiter, "_THROTTLED_S", 0.01)
    monkeypatch.setattr(client, "Client", functools.partial(client.Client, retry_s=0.02, sleep=lambda _seconds: None))
    monkeypatch.setattr(session, "ATTEMPTS", 1)
    monkeypatch.setattr(botocore_session, "create_loader", _loader)


@functools.cache
def _loader(*paths: str) -> object:
    from botocore.loaders import create_loader

    return create_loader(*paths)


def failures(verb: Verb, cloud: str, folder: Path, *, code: int) -> list[str]:
    """Run a verb on a cloud, where it cannot work; return what is wrong with its end."""
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    ended = run(verb, **typed_for(verb, {"source": "lab:a", "destination": "got"}, {"recipe": str(recipe), "cloud": cloud}))
    found = ended.problems() + (["a secret"] if SECRET in ended.stdout + ended.stderr else [])
    if ended.code != code:
        found.append(f"exit code {ended.code}")
    return [f"{', '.join(found)}: {ended}"] if found else []


@pytest.mark.matrix(sample=8, edges=[])
@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_what_answers_in_place_of_a_result(
    verb: Verb, cloud: str, server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SETTINGS[cloud].items():
        monkeypatch.setenv(name, value.format(url=server.url))
    wrong: list[str] = []
    for name, reply in REPLIES[cloud].items():
        server.reply = reply
        wrong += [f"{name}: {one}" for one in failures(verb, cloud, tmp_path, code=1)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.matrix(sample=4, edges=[])
@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_nothing_answers_or_a_setting_is_missing(verb: Verb, cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS[cloud].items():
        monkeypatch.setenv(name, value.format(url="http://127.0.0.1:9"))
    assert failures(verb, cloud, tmp_path, code=1) == []
    monkeypatch.delenv(NEEDED[cloud])
    assert failures(verb, cloud, tmp_path, code=1 if verb.name == "rebuild" else 2) == []  # there, a cloud stops no other one
