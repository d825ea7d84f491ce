"""The Compute Engine server: the faults that a test may order."""

from __future__ import annotations

import http.client
import json
import uuid
from datetime import UTC, datetime

import pytest

from tests.servers.asking import ZONE, ask, ask_raw, boot, do, done, get, machine
from tests.servers.gce import (
    ApiError,
    Gce,
    OperationError,
    Page,
    internal_error,
    quota_error,
    rate_limit_exceeded,
    stock_out,
    too_many_requests,
    unavailable,
)
from tests.servers.vm import ScriptedVms, Step, Vm, VmError

INSERT = "compute.instances.insert"
BUSY = ApiError(503, "backendError", "Try again")


def insert(gce: Gce) -> int:
    return ask(gce, "POST", f"{ZONE}/instances", machine("one")).status


def test_a_fault_before_the_effect_leaves_nothing(gce: Gce) -> None:
    gce.fault(INSERT, error=BUSY)
    assert insert(gce) == 503
    assert gce.inventory() == []


def test_a_fault_after_the_effect_leaves_the_effect(gce: Gce) -> None:
    gce.fault(INSERT, when="after", error=BUSY)
    assert insert(gce) == 503
    gce.advance(1)
    assert "instances us-central1-a/one RUNNING" in gce.inventory()


def test_a_fault_strikes_once(gce: Gce) -> None:
    gce.fault(INSERT, error=rate_limit_exceeded())
    assert [insert(gce), insert(gce)] == [403, 200]


def test_a_fault_strikes_the_nth_call(gce: Gce) -> None:
    gce.fault("compute.projects.get", error=BUSY, nth=2)
    assert [ask(gce, "GET", "").status for _ in range(3)] == [200, 503, 200]


def test_a_fault_strikes_every_call(gce: Gce) -> None:
    gce.fault("compute.projects.get", error=BUSY, nth=None)
    assert [ask(gce, "GET", "").status for _ in range(3)] == [503] * 3


def test_a_stock_out_arrives_in_the_operation_and_leaves_nothing(gce: Gce) -> None:
    gce.fault(INSERT, error=stock_out("us-central1-a", "e2-small", available="us-central1-b,us-central1-c"))
    operation = do(gce, "POST", f"{ZONE}/instances", machine("one"))
    error = operation["error"]["errors"][0]
    assert error["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert error["errorDetails"][0]["errorInfo"]["metadatas"]["zonesAvailable"] == "us-central1-b,us-central1-c"
    assert operation["httpErrorStatusCode"] == 503
    assert gce.inventory() == []


def test_a_plain_stock_out_has_no_details(gce: Gce) -> None:
    gce.fault(INSERT, error=stock_out("us-central1-a", "e2-small", is_plain=True))
    error = do(gce, "POST", f"{ZONE}/instances", machine("one"))["error"]["errors"][0]
    assert error["code"] == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert "errorDetails" not in error


def test_a_quota_error_may_arrive_in_the_operation(gce: Gce) -> None:
    gce.fault(INSERT, error=quota_error("CPUS", 24, "us-central1"))
    error = do(gce, "POST", f"{ZONE}/instances", machine("one"))["error"]["errors"][0]
    assert (error["code"], error["errorDetails"][0]["quotaInfo"]["limit"]) == ("QUOTA_EXCEEDED", 24)


def test_an_operation_may_fail_after_its_effect(gce: Gce) -> None:
    gce.fault(INSERT, when="after", error=OperationError("INTERNAL_ERROR", "Lost", 500, "INTERNAL SERVER ERROR"))
    assert do(gce, "POST", f"{ZONE}/instances", machine("one"))["error"]["errors"][0]["code"] == "INTERNAL_ERROR"
    assert "instances us-central1-a/one RUNNING" in gce.inventory()


def test_a_start_without_stock_leaves_the_instance_off(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ZONE}/instances/one/stop")
    gce.fault("compute.instances.start", error=stock_out("us-central1-a", "e2-small"))
    assert "error" in do(gce, "POST", f"{ZONE}/instances/one/start")
    assert gce.instance("one")["status"] == "TERMINATED"


def test_a_delete_that_fails_leaves_the_instance_as_it_was(gce: Gce) -> None:
    boot(gce, "one")
    gce.fault("compute.instances.delete", error=OperationError("INTERNAL_ERROR", "Lost", 500, "INTERNAL SERVER ERROR"))
    assert "error" in do(gce, "DELETE", f"{ZONE}/instances/one")
    assert gce.instance("one")["status"] == "RUNNING"


def test_a_machine_that_cannot_start_leaves_nothing(gce: Gce, vms: ScriptedVms) -> None:
    def fail(vm: Vm) -> list[Step]:
        raise VmError("no memory")

    vms.play = fail
    operation = do(gce, "POST", f"{ZONE}/instances", machine("one"))
    assert operation["error"]["errors"][0] == {"code": "INTERNAL_ERROR", "message": "Internal error: no memory"}
    assert gce.inventory() == []


def test_a_retry_with_the_same_request_id_finds_what_a_lost_answer_has_made(gce: Gce) -> None:
    gce.fault(INSERT, when="after", error="hang")
    request = str(uuid.uuid4())
    with pytest.raises(http.client.RemoteDisconnected):
        ask(gce, "POST", f"{ZONE}/instances", machine("one"), requestId=request)
    done(gce, "POST", f"{ZONE}/instances", machine("one"), requestId=request)
    assert [line for line in gce.inventory() if line.startswith("instances")] == ["instances us-central1-a/one RUNNING"]


def test_a_function_may_strike(gce: Gce) -> None:
    struck: list[str] = []
    gce.fault(INSERT, when="after", error=lambda: struck.append("yes"))
    assert insert(gce) == 200
    assert struck == ["yes"]


@pytest.mark.parametrize(("when", "left"), [("before", False), ("after", True)])
def test_a_call_may_hang(gce: Gce, when: str, left: bool) -> None:
    gce.fault(INSERT, when=when, error="hang")
    with pytest.raises(http.client.RemoteDisconnected):
        insert(gce)
    assert bool(gce.inventory()) is left
    assert (gce.calls[-1].method, gce.calls[-1].status) == (INSERT, 0)


def test_each_call_is_noted(gce: Gce) -> None:
    boot(gce, "one")
    ask(gce, "GET", f"{ZONE}/instances/none")
    assert [(call.method, call.status) for call in gce.calls] == [
        (INSERT, 200),
        ("compute.zoneOperations.wait", 200),
        ("compute.instances.get", 200),
        ("compute.instances.get", 404),
    ]
    assert gce.count(INSERT) == 1


def test_a_method_that_is_not_served_is_told_loudly(gce: Gce) -> None:
    boot(gce, "one")
    assert ask(gce, "GET", f"{ZONE}/instances/one/screenshot").status == 501
    assert "compute.instances.getScreenshot" in gce.crashes.pop()


@pytest.mark.parametrize(("when", "left"), [("before", False), ("after", True)])
def test_an_answer_may_be_a_page(gce: Gce, when: str, left: bool) -> None:
    gce.fault(INSERT, when=when, error=Page("<html>Log in</html>"))
    raw = ask_raw(gce, "POST", f"{ZONE}/instances", machine("one"))
    assert (raw.status, raw.headers.get_content_type(), raw.data) == (200, "text/html", b"<html>Log in</html>")
    assert bool(gce.inventory()) is left
    assert (gce.calls[-1].method, gce.calls[-1].status) == (INSERT, 200)


def test_a_page_is_no_json(gce: Gce) -> None:
    gce.fault("compute.projects.get", error=Page())
    with pytest.raises(json.JSONDecodeError):
        ask(gce, "GET", "")
    assert get(gce, "")["name"] == "demo"


def test_an_operation_may_end_with_an_internal_error(gce: Gce) -> None:
    gce.fault(INSERT, error=internal_error())
    operation = do(gce, "POST", f"{ZONE}/instances", machine("one"))
    assert operation["status"] == "DONE"
    assert (operation["error"]["errors"][0]["code"], operation["httpErrorStatusCode"]) == ("INTERNAL_ERROR", 500)
    assert gce.inventory() == []


@pytest.mark.parametrize(
    ("error", "status", "reason", "header"),
    [
        (unavailable(retry_after=7), 503, "backendError", "7"),
        (unavailable(retry_after=0.2), 503, "backendError", "1"),
        (too_many_requests(retry_after=30), 429, "rateLimitExceeded", "30"),
        (
            too_many_requests(retry_after=datetime(2026, 11, 25, 12, 0, 30, tzinfo=UTC)),
            429,
            "rateLimitExceeded",
            "Wed, 25 Nov 2026 12:00:30 GMT",
        ),
    ],
)
def test_a_refusal_may_tell_when_to_come_back(gce: Gce, error: ApiError, status: int, reason: str, header: str) -> None:
    gce.fault("compute.projects.get", error=error)
    raw = ask_raw(gce, "GET", "")
    assert (raw.status, raw.headers["Retry-After"]) == (status, header)
    assert json.loads(raw.data)["error"]["errors"][0]["reason"] == reason


def test_other_answers_do_not(gce: Gce) -> None:
    gce.fault("compute.projects.get", error=BUSY)
    assert [ask_raw(gce, "GET", "").headers["Retry-After"] for _ in range(2)] == [None, None]
