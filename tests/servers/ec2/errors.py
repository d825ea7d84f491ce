"""The refusals of the server, in the codes and HTTP statuses of the real service.

Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. It gives the class of the status (client
errors 400, server errors 500); the exact ones have the sources below. botocore retries by status and by code, so they matter.
"""

from __future__ import annotations

import uuid
from xml.sax.saxutils import escape

STATUSES = {
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonErrors.html
    "AuthFailure": 401,
    "InvalidClientTokenId": 403,
    "MissingAuthenticationToken": 403,
    "OptInRequired": 403,
    "UnauthorizedOperation": 403,
    # https://github.com/aws/karpenter-provider-aws/issues/8015
    "DryRunOperation": 412,
    # https://github.com/galaxyproject/cloudman/issues/64, https://github.com/nib-health-funds/hammertime/issues/29
    "InsufficientInstanceCapacity": 500,
    # the same table of server errors; the exact status is a guess
    "InsufficientHostCapacity": 500,
    "InsufficientAddressCapacity": 500,
    "InsufficientVolumeCapacity": 500,
    "InternalError": 500,
    "InternalFailure": 500,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
    # https://github.com/cloudfoundry/bosh-aws-cpi-release/issues/61
    "RequestLimitExceeded": 503,
}


class ApiError(Exception):
    """One refused request: the code, the text, and the HTTP status (by default that of the code)."""

    def __init__(self, code: str, message: str, *, status: int = 0) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
        self.status = status or STATUSES.get(code, 400)

    def body(self) -> str:
        """Return what goes over the wire: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#api-error-response."""
        error = f"<Error><Code>{escape(self.code)}</Code><Message>{escape(self.message)}</Message></Error>"
        request = f"<RequestID>{uuid.uuid4()}</RequestID>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors>{error}</Errors>{request}</Response>'


class LateError(Exception):
    """An error that shows in the resource, after the request itself was accepted: its `StateReason`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class NotServed(ApiError):  # noqa: N818
    """A request that the real service serves and this one does not; the server notes it as a crash."""

    def __init__(self, what: str) -> None:
        super().__init__("InvalidAction", f"{what} is not served by this test server")


def invalid_value(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


def invalid_combination(message: str) -> ApiError:
    return ApiError("InvalidParameterCombination", message)


def missing(parameter: str) -> ApiError:
    """Return the error of https://github.com/aws/aws-sdk-java-v2/issues/5437."""
    return ApiError("MissingParameter", f"The request must contain the parameter {parameter}")


def unknown_parameter(name: str) -> ApiError:
    """Return the error of https://github.com/aws/aws-cli/issues/21."""
    return ApiError("UnknownParameter", f"The parameter {name} is not recognized")


def invalid_action(action: str) -> ApiError:
    """Return the error of https://github.com/joshlarsen/aws-recon/issues/138."""
    return ApiError("InvalidAction", f"The action {action} is not valid for this web service.")


def dry_run() -> ApiError:
    return ApiError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")


def dependency(what: str) -> ApiError:
    """Return the error of https://github.com/hashicorp/terraform-provider-aws/issues/1671."""
    return ApiError("DependencyViolation", f"resource {what} has a dependent object")


def insufficient_capacity(instance_type: str, zone: str, *others: str) -> ApiError:
    """Return the error of https://github.com/galaxyproject/cloudman/issues/64; `others` are zones that have capacity."""
    choice = f" or choosing {', '.join(others)}" if others else ""
    message = (
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity. "
        f"You can currently get {instance_type} capacity by not specifying an Availability Zone in your request{choice}."
    )
    return ApiError("InsufficientInstanceCapacity", message)


def plain_capacity_error() -> ApiError:
    """Return the short form of https://github.com/nib-health-funds/hammertime/issues/29."""
    return ApiError("InsufficientInstanceCapacity", "Insufficient capacity.")


def vcpu_limit(limit: int) -> ApiError:
    """Return the error of https://github.com/scrapoxy/scrapoxy/issues/202."""
    message = (
        f"You have requested more vCPU capacity than your current vCPU limit of {limit} allows for the instance bucket that the "
        "specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment "
        "to this limit."
    )
    return ApiError("VcpuLimitExceeded", message)


def spot_limit() -> ApiError:
    """Return the error of https://github.com/vrivellino/spoptimize/issues/15."""
    return ApiError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")


def throttled() -> ApiError:
    return ApiError("RequestLimitExceeded", "Request limit exceeded.")


def unavailable() -> ApiError:
    return ApiError("Unavailable", "The service is unavailable. Please try again shortly.")


def internal_error() -> ApiError:
    return ApiError("InternalError", "An internal error has occurred")


def unauthorized(action: str) -> ApiError:
    """Return what a missing permission answers: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#CommonErrors."""
    user = "arn:aws:iam::111122223333:user/tester"
    message = (
        f"You are not authorized to perform this operation. User: {user} is not authorized to perform: ec2:{action} "
        "because no identity-based policy allows the action. Encoded authorization failure message: c2VjcmV0"
    )
    return ApiError("UnauthorizedOperation", message)


def not_found(code: str, kind: str, what: str) -> ApiError:
    return ApiError(code, f"The {kind} '{what}' does not exist")
