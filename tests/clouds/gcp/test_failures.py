"""What Google refuses, in our own words: the codes decide."""

import json
from typing import Any

import pytest

from clouds.errors import (
    CapacityError,
    CloudError,
    ConflictError,
    DeniedError,
    FailedError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
)
from clouds.gcp import failures, sdk
from tests.clouds.gcp.stub import Answer, refusal, told


def answer(status: int, reason: str, message: str = "no") -> CloudError:
    return told(refusal(status, reason, message))


def operation(*errors: dict[str, Any], status: int = 503) -> CloudError:
    body = json.dumps({"httpErrorStatusCode": status, "error": {"errors": errors}})
    return failures.of_operation("machine m", sdk.compute.Operation.from_json(body), zone="z-a")


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "invalid", InvalidError),
        (400, "resourceInUseByAnotherResource", InvalidError),
        (400, "resourceNotReady", failures.NotReadyError),
        (401, "authError", DeniedError),
        (403, "forbidden", DeniedError),
        (403, "accessNotConfigured", DeniedError),
        (403, "quotaExceeded", QuotaError),
        (403, "rateLimitExceeded", ThrottledError),
        (404, "notFound", NotFoundError),
        (409, "alreadyExists", ConflictError),
        (412, "conditionNotMet", failures.ChangedError),
        (429, "", ThrottledError),
        (500, "backendError", ThrottledError),
        (503, "", ThrottledError),
    ],
)
def test_an_answer_is_told_by_its_reason_before_its_status(status: int, reason: str, kind: type[CloudError]) -> None:
    assert type(answer(status, reason)) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", CapacityError),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", CapacityError),
        ("QUOTA_EXCEEDED", QuotaError),
        ("RESOURCE_ALREADY_EXISTS", ConflictError),
        ("RESOURCE_NOT_FOUND", NotFoundError),
        ("SOMETHING_NEW", FailedError),
        ("INTERNAL_ERROR", FailedError),
        ("RESOURCE_OPERATION_RATE_EXCEEDED", FailedError),
    ],
)
def test_an_operation_is_told_by_its_code(code: str, kind: type[CloudError]) -> None:
    assert type(operation({"code": code, "message": "no"})) is kind


def test_a_zone_without_room_names_itself_and_those_that_have_room() -> None:
    details = [{"errorInfo": {"metadatas": {"zonesAvailable": "z-b, z-c"}}}]
    error = operation({"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": "full", "errorDetails": details})
    assert isinstance(error, CapacityError)
    assert (error.zone, error.zones) == ("z-a", ("z-b", "z-c"))


def test_of_several_errors_the_cause_is_told() -> None:
    error = operation({"code": "VM_MIN_COUNT_NOT_REACHED", "message": "0 of 1"}, {"code": "QUOTA_EXCEEDED", "message": "8 CPUs"})
    assert isinstance(error, QuotaError)
    assert "8 CPUs" in error.message


def test_an_error_says_what_it_was_about_and_what_to_do() -> None:
    error = answer(403, "quotaExceeded", "Quota 'CPUS' exceeded.  Limit: 8.0 in region us-central1.")
    assert error.message == "machine m: Quota 'CPUS' exceeded.  Limit: 8.0 in region us-central1. (quotaExceeded)"
    assert "iam-admin/quotas" in error.next_step


def test_an_answer_without_a_body_is_told_by_its_status() -> None:
    assert told(Answer(502, b"{}")).message == "machine m: HTTP status 502"
