"""IAM, as far as tests need it: a policy that says which requests are allowed, for which resources.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html (what no statement allows is denied),
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html (what else a request needs)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.servers.ec2.errors import ApiError, unauthorized

Json = dict[str, Any]
_ID = re.compile(r"(?:ami|eipalloc|eni|i|sg|sir|snap|vol)-[0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Need:
    """What must be allowed: an action on a resource (its ARN or id); `context` are the keys that conditions may name."""

    action: str
    resource: str = "*"
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Policy:
    """An identity-based policy: the statements of its document, all of which allow; `used` are the actions that were needed."""

    statements: list[Json]
    used: set[str] = field(default_factory=set)

    def actions(self) -> set[str]:
        """Return the actions that the policy names."""
        return {action for statement in self.statements for action in _listed(statement["Action"])}

    def allows(self, need: Need) -> bool:
        self.used.add(need.action)
        return any(_allows(statement, need) for statement in self.statements)


def check(policy: Policy, call: Any, backend: Any) -> None:
    """Raise ApiError for a request (`serving.Call`) that a policy does not allow; `backend` is that of EC2 in its region."""
    needs = _scheduler_needs(call, backend.account_id) if call.service == "scheduler" else _needs(call, backend)
    denied = [need for need in needs if not policy.allows(need)]
    if denied and call.service == "ec2":
        raise unauthorized(denied[0].action.removeprefix("ec2:"))
    if denied:
        # https://github.com/serverless-operations/serverless-step-functions/issues/606
        what, user = denied[0].action, "arn:aws:iam::111122223333:user/tester"
        message = (
            f"User: {user} is not authorized to perform: {what} on resource: {denied[0].resource} "
            f"because no identity-based policy allows the {what} action"
        )
        raise ApiError("AccessDeniedException", message, status=403)


def _scheduler_needs(call: Any, account: str) -> list[Need]:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridgescheduler.html."""
    arn = f"arn:aws:scheduler:{call.region}:{account}:schedule/{call.params.get('GroupName', 'default')}/{call.params.get('Name')}"
    needs = [Need(f"scheduler:{call.action}", arn)]
    if "Target" in call.params:
        service = {"iam:PassedToService": "scheduler.amazonaws.com"}
        needs.append(Need("iam:PassRole", call.params["Target"]["RoleArn"], service))
    return needs


def _needs(call: Any, backend: Any) -> Iterator[Need]:
    action = f"{call.service}:{call.action}"
    ids = sorted({str(value) for value in call.params.values() if _ID.fullmatch(str(value))})
    for one in ids:
        yield Need(action, one, {f"aws:ResourceTag/{key}": value for key, value in backend.tags.get(one, {}).items()})
    if not ids:
        yield Need(action)
    if any(key.startswith("TagSpecification.") for key in call.params):
        yield Need("ec2:CreateTags")


def _allows(statement: Json, need: Need) -> bool:
    assert statement["Effect"] == "Allow"
    names_it = any(fnmatchcase(need.action, pattern) for pattern in _listed(statement["Action"]))
    reaches_it = any(fnmatchcase(need.resource, pattern) for pattern in _listed(statement["Resource"]))
    wanted = statement.get("Condition", {})
    assert wanted.keys() <= {"StringEquals"}
    holds = all(need.context.get(key) == value for key, value in wanted.get("StringEquals", {}).items())
    return names_it and reaches_it and holds


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
