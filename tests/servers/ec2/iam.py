"""IAM, as far as tests need it: what a request needs, and policies that allow some of it.

Which actions a request needs on which resources, and the keys of conditions:
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridgescheduler.html,
https://docs.aws.amazon.com/service-authorization/latest/reference/list_servicequotas.html. Spot requests with tags:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html. What no statement allows is denied:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.servers.ec2.errors import ApiError, unauthorized

Json = dict[str, Any]
_KINDS = {
    "ami": "image",
    "eipalloc": "elastic-ip",
    "eni": "network-interface",
    "i": "instance",
    "sg": "security-group",
    "sir": "spot-instances-request",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
}
"""The kinds of resources, by the prefixes of their ids."""
_ID = re.compile(rf"({'|'.join(_KINDS)})-[0-9a-z]+")
_MAKES = {
    "AllocateAddress": ("elastic-ip",),
    "CreateImage": ("image", "snapshot"),
    "CreateSecurityGroup": ("security-group",),
    "RunInstances": ("instance", "network-interface", "volume"),
}
"""What an action creates, and must be allowed on; RunInstances also on `spot-instances-request`, if that has tags."""
_FREE = {"sts:GetCallerIdentity"}
"""https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html: no permissions are required."""


@dataclass(frozen=True, slots=True)
class Need:
    """What must be allowed: an action on a resource (its ARN); `context` are the keys that conditions may name."""

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


def check(policy: Policy, call: Any, wanted: list[Need]) -> None:
    """Raise ApiError for a request (`serving.Call`) that needs what a policy does not allow."""
    denied = [need for need in wanted if not policy.allows(need)]
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


def needs(call: Any, tree: Json, backend: Any) -> list[Need]:
    """Return what a request needs; `tree` are its parameters by their names in the service model, `backend` is that of EC2."""
    if call.service == "ec2":
        return list(_of_ec2(call, tree, backend))
    if call.service == "scheduler":
        return _of_scheduler(call, backend.account_id)
    action = f"{call.service}:{call.action}"
    return [] if action in _FREE else [Need(action)]


def _of_scheduler(call: Any, account: str) -> list[Need]:
    arn = f"arn:aws:scheduler:{call.region}:{account}:schedule/{call.params.get('GroupName', 'default')}/{call.params.get('Name')}"
    found = [Need(f"scheduler:{call.action}", arn)]
    if "Target" in call.params:
        service = {"iam:PassedToService": "scheduler.amazonaws.com"}
        found.append(Need("iam:PassRole", call.params["Target"]["RoleArn"], service))
    return found


def _of_ec2(call: Any, tree: Json, backend: Any) -> Iterator[Need]:
    action, region, account = f"ec2:{call.action}", call.region, backend.account_id
    if call.action.startswith("Describe") and call.action != "DescribeInstanceAttribute":
        yield Need(action)
        return
    tags = {one["ResourceType"]: _requested(one["Tags"]) for one in tree.get("TagSpecifications", [])}
    made = _MAKES.get(call.action, ())
    for kind in (*made, *(kind for kind in tags if kind not in made)):
        context = tags.get(kind, {})
        yield Need(action, _arn(region, account, kind, "*"), context)
        if context:
            yield Need("ec2:CreateTags", _arn(region, account, kind, "*"), {**context, "ec2:CreateAction": call.action})
    given = _requested(tree.get("Tags", []))
    for one in sorted(
        {str(value) for key, value in call.params.items() if not key.startswith("Tag") and _ID.fullmatch(str(value))}
    ):
        kind = _KINDS[one.partition("-")[0]]
        yield Need(action, _arn(region, account, kind, one), {**given, **_known(backend, one)})
    if "IamInstanceProfile" in tree:
        yield Need("iam:PassRole", "*", {"iam:PassedToService": "ec2.amazonaws.com"})


def _arn(region: str, account: str, kind: str, one: str) -> str:
    return f"arn:aws:ec2:{region}:{'' if kind in ('image', 'snapshot') else account}:{kind}/{one}"


def _requested(tags: list[Json]) -> dict[str, str]:
    return {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}


def _known(backend: Any, one: str) -> dict[str, str]:
    """Return the keys of what is there: its tags, and the owner of an image."""
    found = {f"aws:ResourceTag/{key}": value for key, value in backend.tags.get(one, {}).items()}
    if one in backend.amis:
        found["ec2:Owner"] = str(backend.amis[one].owner_id)
    return found


def _allows(statement: Json, need: Need) -> bool:
    assert statement["Effect"] == "Allow"
    names_it = any(fnmatchcase(need.action, pattern) for pattern in _listed(statement["Action"]))
    reaches_it = any(fnmatchcase(need.resource, pattern) for pattern in _listed(statement["Resource"]))
    wanted = statement.get("Condition", {})
    assert wanted.keys() <= {"StringEquals", "StringNotEquals"}
    equal = all(need.context.get(key) in _listed(value) for key, value in wanted.get("StringEquals", {}).items())
    other = all(need.context.get(key) not in _listed(value) for key, value in wanted.get("StringNotEquals", {}).items())
    return names_it and reaches_it and equal and other


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
