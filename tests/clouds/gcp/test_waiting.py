"""Time limits and retries of requests to Compute Engine, with a clock that only advances while waiting."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from clouds import lifecycle
from clouds.driver import Kind, Ticket
from clouds.errors import DeniedError, FailedError, ForeignError, ThrottledError, TimedOutError
from clouds.gcp import machines
from clouds.gcp.client import Client
from clouds.gcp.driver import GoogleCloud
from clouds.gcp.failures import retry_after_s
from clouds.ledger import Ledger
from clouds.lifecycle import create_image, create_machine, settle
from clouds.undo import Undo
from clouds.waiter import until
from tests.clouds.gcp.stub import BASE, NETWORK, NOW_S, SPEC, Answer, Stub, absent, instance, operation, refusal

ZONE = "zones/us-central1-a"
LAB = f"{ZONE}/instances/lab"
WAIT = f"POST {ZONE}/operations/go/wait"
PORTAL = b"<html><head><title>Welcome to Hotel Wi-Fi</title></head></html>"


def settled(service: Stub, folder: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Wait for an operation `go` of machine `lab`."""
    monkeypatch.setattr(lifecycle, "until", partial(until, clock=service.clock, sleep=service.sleep))
    settle(service.cloud(folder), Ticket(verb, Kind.MACHINE, "lab", f"{ZONE}/operations/go"))


def ends_after(service: Stub, seconds: float) -> dict[str, Any]:
    is_done = service.now_s >= NOW_S + seconds
    return operation("go", LAB, status="DONE" if is_done else "RUNNING")


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_guest_that_uses_all_its_time_to_shut_down_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    service = Stub({})
    service.replies[WAIT] = lambda: ends_after(service, 128)
    settled(service, tmp_path, monkeypatch, verb)
    assert service.now_s >= NOW_S + 128
    assert len(service.asked) < 40  # `wait` answers at once here, and is not asked without a pause


@pytest.mark.parametrize("verb", ["boot", "start", "stop", "suspend", "delete", "snapshot"])
def test_every_verb_is_given_longer_than_a_guest_may_take(verb: str) -> None:
    assert GoogleCloud.limits.operation_s(verb) >= 240


def test_operation_that_does_not_end_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Stub({WAIT: operation("go", LAB, status="RUNNING")})
    with pytest.raises(TimedOutError, match="delete machine 'lab': timed out after 300 s") as late:
        settled(service, tmp_path, monkeypatch, "delete")
    assert "./inv gc" in late.value.next_step


def test_operation_that_ended_with_an_internal_error_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"code": "INTERNAL_ERROR", "message": "Internal error. Please try again or contact Google Support. (Code: '5F86')"}
    failed = operation("go", LAB, httpErrorStatusCode=503, error={"errors": [error]})  # ubicloud/ubicloud#5495
    service = Stub({WAIT: failed})
    with pytest.raises(FailedError, match="Internal error") as raised:
        settled(service, tmp_path, monkeypatch, "boot")
    assert service.asked == [WAIT]
    assert "another --zone" in raised.value.next_step


def test_operation_that_failed_without_a_cause_is_told_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Stub({WAIT: operation("go", LAB, httpErrorStatusCode=503, error={"errors": []})})
    with pytest.raises(FailedError, match="HTTP status 503"):
        settled(service, tmp_path, monkeypatch, "boot")


# Answers that are not the service's


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, PORTAL),
        Answer(200, b""),
        Answer(200, b"[]"),
        Answer(200, b'{"message": "Log in at http://login.hotel.example"}'),
        Answer(302, b""),
        Answer(404, PORTAL),
        Answer(404, b'{"error": "no such route"}'),
        Answer(404, b'{"message": "no Route matched with those values"}'),
        Answer(409, PORTAL),
    ],
)
def test_answer_that_is_not_the_service_s_is_an_error_and_neither_success_nor_absence(tmp_path: Path, answer: Answer) -> None:
    service = Stub({"GET aggregated/instances": answer})
    with pytest.raises(ForeignError, match="not from Compute Engine") as raised:
        service.cloud(tmp_path).find(Kind.MACHINE, "lab")
    assert "HTTPS_PROXY" in raised.value.next_step


@pytest.mark.parametrize("content", [b'{"error": "access_denied"}', b'{"error": {"errors": ["access_denied"]}}'])
def test_refusal_of_a_gateway_is_told_as_a_refusal(tmp_path: Path, content: bytes) -> None:
    service = Stub({"GET aggregated/instances": Answer(403, content)})
    with pytest.raises(DeniedError, match="HTTP status 403"):
        service.cloud(tmp_path).find(Kind.MACHINE, "lab")


@pytest.mark.parametrize(
    ("content", "why"),
    [(b'{"login": "https://portal.example"}', "unexpected format"), (b'{"kind": "compute#image"}', "not an operation")],
)
def test_change_that_is_not_answered_with_an_operation_was_not_accepted(tmp_path: Path, content: bytes, why: str) -> None:
    service = Stub({"DELETE global/images/tiny": Answer(200, content)})
    with pytest.raises(ForeignError, match=why):
        service.cloud(tmp_path).delete(Kind.IMAGE, "tiny")


def test_server_that_fails_without_json_is_asked_again(tmp_path: Path) -> None:
    service = Stub({"GET aggregated/instances": [Answer(502, PORTAL), {"items": {}}]})
    assert service.cloud(tmp_path).find(Kind.MACHINE, "lab") is None


# Retry-After


def test_pause_that_the_service_asks_for_is_kept(tmp_path: Path) -> None:
    busy = refusal(429, "rateLimitExceeded", "Rate Limit Exceeded")._replace(retry_after_s=17)
    service = Stub({"GET aggregated/instances": [busy, {"items": {}}]})
    service.cloud(tmp_path).find(Kind.MACHINE, "lab")
    assert service.now_s == NOW_S + 17


def test_pause_that_is_too_long_is_cut_at_the_deadline(tmp_path: Path) -> None:
    busy = refusal(503, "backendError", "Backend Error")._replace(retry_after_s=86_400)
    service = Stub({"GET aggregated/instances": busy})
    with pytest.raises(ThrottledError):
        service.cloud(tmp_path).find(Kind.MACHINE, "lab")
    assert service.now_s == NOW_S + 60


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", 0), ("7", 7), (" 7 ", 7), ("Thu, 01 Jan 1970 00:17:00 GMT", 20), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("soon", 0)],
)
def test_header_is_read_as_a_number_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_s(header, 1000.0) == seconds


class _Busy(BaseHTTPRequestHandler):
    """Answers 503 with a pause to keep."""

    def do_GET(self) -> None:
        self.send_response(503)
        self.send_header("Retry-After", "17")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        """Keep quiet."""


def test_header_of_a_real_answer_is_read() -> None:
    with HTTPServer(("127.0.0.1", 0), _Busy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        client = Client("demo", f"http://127.0.0.1:{server.server_port}", retry_s=0)
        with pytest.raises(ThrottledError, match="it: HTTP status 503") as busy:
            client.ask("it", client.services.networks.get, network="any")
    assert busy.value.retry_after_s == 17


# Ctrl-C while a machine is asked for


def test_machine_that_comes_after_ctrl_c_is_found_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to the request is never read; the machine stands in the lists only when it has been looked for twice."""
    monkeypatch.setattr(machines, "GRACE_S", 5.0)
    monkeypatch.setattr(lifecycle, "POLL_S", 0.005)
    lab = instance("lab", labels={"token": "t-mine"})
    nothing: dict[str, Any] = {"items": {}}
    there = {"items": {ZONE: {"instances": [lab]}}}
    deleted: list[bool] = []

    def press() -> dict[str, Any]:
        raise KeyboardInterrupt

    def delete() -> dict[str, Any]:
        deleted.append(True)
        monkeypatch.setattr(machines, "GRACE_S", 0.0)
        return operation("go", LAB)

    service = Stub(
        {
            "GET global/networks/bakehouse": NETWORK,
            f"POST {ZONE}/instances": press,
            "GET aggregated/instances": [nothing, nothing, nothing, there],
            f"GET {LAB}": lambda: absent(LAB) if deleted else lab,
            f"DELETE {LAB}": delete,
            "GET global/firewalls": {},
            WAIT: operation("go", LAB),
        }
    )
    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        create_machine(service.cloud(tmp_path), Ledger(tmp_path / "ledger"), undo, replace(SPEC, ports=()))
    assert deleted


def test_machine_of_another_that_comes_instead_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "GRACE_S", 1.0)
    monkeypatch.setattr(lifecycle, "POLL_S", 0.005)
    theirs = instance("lab", labels={"token": "t-theirs"})

    def press() -> dict[str, Any]:
        raise KeyboardInterrupt

    service = Stub(
        {
            "GET global/networks/bakehouse": NETWORK,
            f"POST {ZONE}/instances": press,
            "GET aggregated/instances": [{"items": {}}, {"items": {}}, {"items": {ZONE: {"instances": [theirs]}}}],
            f"GET {LAB}": theirs,
            "GET global/firewalls": {},
        }
    )
    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        create_machine(service.cloud(tmp_path), Ledger(tmp_path / "ledger"), undo, replace(SPEC, ports=()))
    assert f"GET {LAB}" in service.asked
    assert f"DELETE {LAB}" not in service.asked


@pytest.mark.parametrize(("bake", "is_deleted"), [("bake-1", True), ("bake-2", False)])
def test_image_that_comes_after_ctrl_c_is_removed_if_it_is_that_of_the_bake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bake: str, *, is_deleted: bool
) -> None:
    monkeypatch.setattr(machines, "GRACE_S", 0.1)
    monkeypatch.setattr(lifecycle, "POLL_S", 0.005)
    image = "global/images/tiny-0-1-0-1"
    gone = absent(image)
    found = {"name": "tiny-0-1-0-1", "status": "PENDING", "labels": {"bake": bake, "name": "tiny-0_1_0-1"}}
    disks = [{"boot": True, "source": f"{BASE}{ZONE}/disks/lab"}]
    deleted = operation("go", image, scope="global")

    def press() -> dict[str, Any]:
        raise KeyboardInterrupt

    service = Stub(
        {
            "GET aggregated/instances": {"items": {ZONE: {"instances": [instance("lab", status="TERMINATED", disks=disks)]}}},
            "POST global/images": press,
            f"GET {image}": [gone, found],
            f"DELETE {image}": [gone, deleted],
            "POST global/operations/go/wait": deleted,
        }
    )
    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        create_image(service.cloud(tmp_path), Ledger(tmp_path / "ledger"), undo, "lab", "tiny-0.1.0-1", {"bake": "bake-1"})
    assert (service.asked.count(f"DELETE {image}") == 2) == is_deleted
