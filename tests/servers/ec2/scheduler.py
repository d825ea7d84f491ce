"""EventBridge Scheduler, as far as Bakehouse uses it: one-time schedules that stop or terminate instances.

Requests are checked against botocore's service model. moto's own backend runs no schedule. The words of refusals are moto's, or a
guess. https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html,
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from botocore.model import Shape
from moto.core.utils import get_service_model

from tests.servers.ec2.cloud import Cloud
from tests.servers.ec2.errors import ApiError, NotServed
from tests.servers.ec2.http import Ask

_PATH = re.compile(r"/schedules/([^/?]+)")
_ACTIONS = {"POST": "CreateSchedule", "GET": "GetSchedule", "DELETE": "DeleteSchedule", "PUT": "UpdateSchedule"}
_TARGET = re.compile(r"arn:aws:scheduler:::aws-sdk:ec2:(stopInstances|terminateInstances)")
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
Json = dict[str, Any]


def action_of(ask: Ask) -> tuple[str, Json]:
    """Return the action of a request, and its parameters by their names in the service model."""
    path, _, query = ask.path.partition("?")
    found = _PATH.fullmatch(path)
    if not found:
        return f"{ask.method} {path}", {}
    body = json.loads(ask.body) if ask.body else {}
    # https://docs.aws.amazon.com/scheduler/latest/APIReference/API_DeleteSchedule.html: groupName, clientToken
    spelled = {f"{key[0].upper()}{key[1:]}": value for key, value in parse_qsl(query)}
    return _ACTIONS.get(ask.method, ask.method), {**body, **spelled, "Name": unquote(found[1])}


def serve(cloud: Cloud, region: str, action: str, params: Json) -> Json:
    """Serve a request; raises ApiError."""
    if action not in ("CreateSchedule", "GetSchedule", "DeleteSchedule"):
        raise NotServed(f"scheduler:{action}")
    shape = get_service_model("scheduler").operation_model(action).input_shape
    assert shape
    _check(shape, params, "")
    key = region, params["Name"]
    if action == "CreateSchedule":
        return _create(cloud, key, params)
    if key not in cloud.schedules:
        raise ApiError("ResourceNotFoundException", f"Schedule {params['Name']} does not exist.", status=404)
    if action == "DeleteSchedule":
        del cloud.schedules[key]
        return {}
    return cloud.schedules[key]


def _check(shape: Shape, value: Any, where: str) -> None:
    """Raise ApiError for what the service model does not allow: unknown or missing members, enums, patterns, lengths, ranges."""
    if shape.type_name == "structure":
        for name in shape.metadata.get("required", ()):
            if name not in value:
                raise _invalid(f"{where}{name}", "Member must not be null")
        for name, inner in value.items():
            if name not in shape.members:  # type: ignore[attr-defined]
                raise _invalid(f"{where}{name}", "Member is unknown")
            _check(shape.members[name], inner, f"{where}{name}.")  # type: ignore[attr-defined]
    elif shape.type_name == "string":
        _check_text(shape, value, where.rstrip("."))
    elif shape.type_name == "integer" and not shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value):
        raise _invalid(where.rstrip("."), "Member is out of its range")


def _check_text(shape: Shape, value: str, where: str) -> None:
    rules = shape.metadata
    if rules.get("enum") and value not in rules["enum"]:
        raise _invalid(where, f"Member must satisfy enum value set: {rules['enum']}")
    if not rules.get("min", 0) <= len(value) <= rules.get("max", len(value)):
        raise _invalid(where, "Member must have a length within its limits")
    pattern = rules.get("pattern", "").replace("[0-9a-zA-Z-_.]", "[-0-9a-zA-Z_.]").replace("[a-zA-Z0-9-_]", "[-a-zA-Z0-9_]")
    if pattern and not re.fullmatch(pattern, value):
        raise _invalid(where, f"Member must satisfy regular expression pattern: {pattern}")


def _create(cloud: Cloud, key: tuple[str, str], params: Json) -> Json:
    region, name = key
    answer = {"ScheduleArn": f"arn:aws:scheduler:{region}:{cloud.account}:schedule/default/{name}"}
    if key in cloud.schedules:
        known = cloud.schedules[key]
        if params.get("ClientToken") and known.get("ClientToken") == params["ClientToken"]:
            return answer
        raise ApiError("ConflictException", f"Schedule {name} already exists.", status=409)
    at, action = _due_at(params), _TARGET.fullmatch(params["Target"]["Arn"])
    if action is None:
        raise NotServed(f"the target {params['Target']['Arn']}")
    if params.get("ActionAfterCompletion") != "DELETE":
        raise NotServed("a schedule that stays after it has run")
    ids = json.loads(params["Target"].get("Input", "{}"))["InstanceIds"]
    schedule = cloud.schedules[key] = {**params, **answer, "GroupName": "default", "State": "ENABLED"}
    cloud.after(at - cloud.engine.now(), lambda: _run(cloud, key, schedule, action[1], ids))
    return answer


def _due_at(params: Json) -> float:
    """Return when a schedule is due, in seconds since the epoch; raises ApiError."""
    found = _AT.fullmatch(params["ScheduleExpression"])
    if found is None or params.get("ScheduleExpressionTimezone", "UTC") != "UTC":
        raise _invalid("ScheduleExpression", f"Invalid Schedule Expression {params['ScheduleExpression']}.")
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()


def _run(cloud: Cloud, key: tuple[str, str], schedule: Json, action: str, ids: list[str]) -> None:
    """Call the target and delete the schedule, unless it was deleted or replaced; a call that is refused changes nothing."""
    if cloud.schedules.get(key) is not schedule:
        return
    del cloud.schedules[key]
    backend = cloud.backends[key[0]]
    try:
        backend.stop_all(ids) if action == "stopInstances" else backend.terminate_all(ids)
    except ApiError:
        return


def _invalid(where: str, why: str) -> ApiError:
    return ApiError("ValidationException", f"1 validation error detected: Value at '{where}' failed to satisfy constraint: {why}")
