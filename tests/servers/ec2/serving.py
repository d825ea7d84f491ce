"""A request on its way: what it asks for, and how another service or a refusal is answered."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from moto.core.request import Request
from moto.ec2.models import ec2_backends
from moto.ssm.responses import SimpleSystemManagerResponse
from moto.sts.responses import TokenResponse

from tests.servers.ec2 import quotas, scheduler
from tests.servers.ec2.cloud import Cloud
from tests.servers.ec2.errors import ApiError, NotServed
from tests.servers.ec2.http import Ask, Reply

ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
"""The key of AWS's own examples: https://docs.aws.amazon.com/IAM/latest/UserGuide/security-creds.html. Bakehouse uses it."""
OWNER_KEY = "AKIAI44QH8DHBEXAMPLE"
"""Another key of those examples, with which the tests themselves ask; policies do not apply to it."""
_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


@dataclass(slots=True)
class Call:
    """A request while it is served."""

    ask: Ask
    service: str = ""
    region: str = ""
    action: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    is_ours: bool = False
    """Whether Bakehouse sends it: boto3 with its key."""

    @property
    def name(self) -> str:
        """Return the action as faults name it: that of another service has its prefix, `ssm:GetParameter`."""
        return self.action if self.service == "ec2" else f"{self.service}:{self.action}"


def read(call: Call) -> None:
    """Find out what is asked for; raises ApiError."""
    found = _CREDENTIAL.search(call.ask.headers.get("Authorization", ""))
    call.service = found[3] if found else "ec2"
    if call.service == "scheduler":
        call.action, call.params = scheduler.action_of(call.ask)
    elif target := call.ask.headers.get("X-Amz-Target"):
        call.action = target.rpartition(".")[2]
        call.params = json.loads(call.ask.body) if call.service == "servicequotas" else {}
    else:
        call.params = dict(parse_qsl(call.ask.body.decode(), keep_blank_values=True))
        call.action = call.params.get("Action", "")
    if not found:
        raise ApiError("MissingAuthenticationToken", "Request is missing Authentication Token")
    call.region = found[2]
    call.is_ours = found[1] == ACCESS_KEY and call.ask.headers.get("User-Agent", "").startswith("Boto3/")
    if found[1] not in (ACCESS_KEY, OWNER_KEY):
        raise ApiError("AuthFailure", "AWS was not able to validate the provided access credentials")
    if call.service == "ec2" and not call.action:
        raise ApiError("MissingAction", "The request is missing an action or a required parameter.")
    if call.region not in ec2_backends["0" * 12].regions:
        raise ApiError("AuthFailure", f"Credential should be scoped to a valid region, not '{call.region}'.")


def moto_request(call: Call, account: str) -> Request:
    headers = {**dict(call.ask.headers.items()), "x-moto-account-id": account}
    return Request.from_primitives(call.ask.method, f"http://127.0.0.1{call.ask.path}", headers, call.ask.body)


def other_service(call: Call, cloud: Cloud) -> Reply:
    """Serve a request of another service: EventBridge Scheduler and Service Quotas here, others as moto does."""
    account = cloud.account
    if call.service == "scheduler":
        answer = scheduler.serve(cloud, call.region, call.action, call.params)
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json", **_request_id()})
    if call.service == "servicequotas":
        answer = quotas.serve(cloud, call.action, call.params)
        return Reply(200, json.dumps(answer).encode(), {"Content-Type": "application/x-amz-json-1.1", **_request_id()})
    responses = {"ssm": SimpleSystemManagerResponse, "sts": TokenResponse}
    if call.service not in responses:
        raise NotServed(f"the service {call.service}")
    ec2_backends[account][call.region]  # seeds the parameters
    try:
        status, _, body = responses[call.service].dispatch(moto_request(call, account))
    except NotImplementedError as error:
        raise NotServed(str(error)) from None
    kind = "application/x-amz-json-1.1" if call.service == "ssm" else "text/xml"
    return Reply(int(status), body.encode() if isinstance(body, str) else body, {"Content-Type": kind})


def _request_id() -> dict[str, str]:
    return {"x-amzn-RequestId": str(uuid.uuid4())}


def refusal(service: str, error: ApiError) -> Reply:
    """Return an error in the form of the service."""
    if service == "scheduler":
        headers = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
        return Reply(error.status, json.dumps({"Message": error.message}).encode(), {**headers, **_request_id()})
    if service in ("servicequotas", "ssm"):
        body = json.dumps({"__type": error.code, "message": error.message})
        return Reply(error.status, body.encode(), {"Content-Type": "application/x-amz-json-1.1"})
    if service == "sts":
        inner = f"<Error><Type>Sender</Type><Code>{error.code}</Code><Message>{error.message}</Message></Error>"
        return Reply(error.status, f"<ErrorResponse>{inner}<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>".encode())
    return Reply(error.status, error.body().encode())
