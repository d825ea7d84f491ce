"""Client tokens: a request that is sent again makes nothing again.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html: with a zone or a subnet in RunInstances the token counts
per zone, so that the same token starts a second instance in another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.servers.ec2.cloud import Cloud, Token
from tests.servers.ec2.errors import ApiError
from tests.servers.ec2.states import GONE

Tree = dict[str, Any]


def once(cloud: Cloud, backend: Any, action: str, tree: Tree, act: Callable[[], Any]) -> Any:
    """Act, unless the same request with the same token has been served: return what it returned; raises ApiError."""
    token = tree.get("ClientToken")
    if not token:
        return act()
    if len(token) > 64 or not token.isascii():
        raise ApiError("InvalidClientToken", "The client token must be at most 64 ASCII characters.")
    params = {key: value for key, value in tree.items() if key not in ("ClientToken", "DryRun")}
    key = (backend.region_name, action, _zone(backend, tree), token)
    known = cloud.tokens.get(key)
    if known is None:
        reply = act()
        cloud.tokens[key] = Token(params, reply, _instance_ids(reply))
        return reply
    if known.params != params:
        # https://github.com/ubicloud/ubicloud/pull/5898
        message = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."
        raise ApiError("IdempotentParameterMismatch", message)
    _check_alive(backend, known)
    return known.reply


def _zone(backend: Any, tree: Tree) -> str:
    if tree.get("SubnetId"):
        return str(backend.get_subnet(tree["SubnetId"]).availability_zone)
    return str(tree.get("Placement", {}).get("AvailabilityZone", ""))


def _instance_ids(reply: Any) -> tuple[str, ...]:
    return tuple(instance.id for instance in getattr(getattr(reply, "result", None), "instances", []))


def _check_alive(backend: Any, known: Token) -> None:
    """Refuse the token of instances that are gone: https://github.com/boto/boto3/issues/4406."""
    states = {instance.id: instance.state for instance in backend.all_instances()}
    if known.instance_ids and all(states.get(one, "terminated") in GONE for one in known.instance_ids):
        message = (
            "The client token you have provided is associated with a terminated instance. Please use a different client token."
        )
        raise ApiError("IdempotentInstanceTerminated", message)
