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
Key = tuple[str, str]
"""Region and name of a schedule."""


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
    if action not in _ACTIONS.values():
        raise NotServed(f"scheduler:{action}")
    shape = get_service_model("scheduler").operation_model(action).input_shape
    assert shape
    _check(shape, params, "")
    if params.get("GroupName", "default") != "default":
        raise _absent(f"Schedule group {params['GroupName']}")
    key = region, params["Name"]
    if action == "CreateSchedule":
        return _create(cloud, key, params)
    if action != "GetSchedule":
        _check_settled(cloud, key)
    if key not in cloud.schedules:
        raise _absent(f"Schedule {params['Name']}")
    if action == "DeleteSchedule":
        del cloud.schedules[key]
        _unsettle(cloud, key)
        return {}
    return _put(cloud, key, params) if action == "UpdateSchedule" else cloud.schedules[key]


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


def _create(cloud: Cloud, key: Key, params: Json) -> Json:
    """Make a schedule; the same token again makes nothing, even if its schedule is gone (a guess, which forbids more)."""
    token = (*key, params.get("ClientToken", ""))
    if token in cloud.schedule_tokens:
        return _answer(cloud, key)
    if key in cloud.schedules:
        raise ApiError("ConflictException", f"Schedule {key[1]} already exists.", status=409)
    _check_settled(cloud, key)
    answer = _put(cloud, key, params)
    if token[2]:
        cloud.schedule_tokens.add(token)
    return answer


def _put(cloud: Cloud, key: Key, params: Json) -> Json:
    """Make a schedule, or replace one: what a request does not name is not kept (API_UpdateSchedule.html)."""
    at, action = _due_at(cloud, params), _TARGET.fullmatch(params["Target"]["Arn"])
    if action is None:
        raise NotServed(f"the target {params['Target']['Arn']}")
    if params.get("ActionAfterCompletion") != "DELETE":
        raise NotServed("a schedule that stays after it has run")
    _check_role(cloud, params["Target"]["RoleArn"])
    schedule = cloud.schedules[key] = {**params, "GroupName": "default", "State": "ENABLED"}
    _unsettle(cloud, key)
    cloud.after(at - cloud.engine.now(), lambda: _run(cloud, key, schedule, action[1]))
    return _answer(cloud, key)


def _answer(cloud: Cloud, key: Key) -> Json:
    return {"ScheduleArn": f"arn:aws:scheduler:{key[0]}:{cloud.account}:schedule/default/{key[1]}"}


def _due_at(cloud: Cloud, params: Json) -> float:
    """Return when a schedule is due, in seconds since the epoch; raises ApiError.

    https://github.com/localstack/localstack/issues/9284; a time in the past: https://github.com/DefangLabs/pulumi-defang/pull/425,
    whose text is a guess.
    """
    found = _AT.fullmatch(params["ScheduleExpression"])
    if found is None or params.get("ScheduleExpressionTimezone", "UTC") != "UTC":
        raise ApiError("ValidationException", f"Invalid Schedule Expression {params['ScheduleExpression']}.")
    at = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    if at < cloud.engine.now():
        raise ApiError("ValidationException", "The time of a one-time schedule must be in the future.")
    return at


def _check_role(cloud: Cloud, role: str) -> None:
    """Raise ApiError for a role that Scheduler may not be given, or cannot assume.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html, with the words of
    https://github.com/artilleryio/chaos-lambda/issues/29; https://github.com/aws/aws-sdk-js-v3/issues/6494
    """
    if role.split(":")[4] != cloud.account:
        raise ApiError("AccessDeniedException", "Cross-account pass role is not allowed.", status=403)
    if role in cloud.switches.unassumable_roles:
        message = "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
        raise ApiError("ValidationException", message)


def _unsettle(cloud: Cloud, key: Key) -> None:
    """Note that a schedule is being changed for a while."""
    cloud.unsettled[key] = cloud.engine.now() + cloud.switches.schedule_busy_s


def _check_settled(cloud: Cloud, key: Key) -> None:
    """Raise ApiError while an earlier change of a schedule has not ended: https://github.com/alchemy-run/distilled/pull/248."""
    if cloud.engine.now() < cloud.unsettled.get(key, 0.0):
        raise ApiError("ConflictException", f"Schedule {key[1]} is being changed.", status=409)


def _run(cloud: Cloud, key: Key, schedule: Json, action: str) -> None:
    """Call the target and delete the schedule, unless it was deleted or replaced; a call that is refused changes nothing."""
    if cloud.schedules.get(key) is not schedule:
        return
    del cloud.schedules[key]
    backend = cloud.backends[key[0]]
    try:
        ids = _ids(schedule["Target"].get("Input", ""), action)
        backend.stop_all(ids) if action == "stopInstances" else backend.terminate_all(ids)
    except ApiError:
        return


def _ids(text: str, action: str) -> list[str]:
    """Return the instances that the input of a target names, in the spelling of the API; raises ApiError.

    CreateSchedule does not look at it: API_Target.html, Input.
    """
    model = get_service_model("ec2").operation_model(f"{action[0].upper()}{action[1:]}").input_shape
    assert model
    try:
        given = json.loads(text)
    except ValueError:
        given = {}
    if not isinstance(given, dict) or "InstanceIds" not in given or not given.keys() <= model.members.keys():
        raise ApiError("ValidationException", f"The input of {action} is wrong: {text}")
    return list(given["InstanceIds"])


def _absent(what: str) -> ApiError:
    return ApiError("ResourceNotFoundException", f"{what} does not exist.", status=404)


def _invalid(where: str, why: str) -> ApiError:
    return ApiError("ValidationException", f"1 validation error detected: Value at '{where}' failed to satisfy constraint: {why}")
