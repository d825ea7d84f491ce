"""What EC2 and boto3 say when they refuse, as our own errors: codes decide, hardly ever the text of a message.

Codes: docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. A state reason (`Server.InsufficientInstanceCapacity`)
has the same codes behind `Client.` or `Server.` (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from clouds.aws.advice import advice
from clouds.errors import (
    CapacityError,
    CloudError,
    ConflictError,
    DeniedError,
    FailedError,
    ForeignError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
    UsageError,
)
from clouds.near import did_you_mean


class PriceError(CapacityError):
    """Spot capacity costs more than the highest price that was given."""


CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientCapacity",
        "InsufficientAddressCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientVolumeCapacity",
        "UnfulfillableCapacity",
        "Unsupported",
    }
)
"""`Unsupported` is what a zone says that does not offer the instance type; its message names those that do."""
THROTTLED = frozenset({"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "EC2ThrottledException"})
CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
PERMISSIONS = frozenset(
    {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure.ServiceLinkedRoleCreationNotPermitted"}
)
"""The last is that of the first spot machine of an account: github.com/dstackai/dstack/issues/886."""
ACCOUNT = frozenset({"Blocked", "OptInRequired", "PendingVerification", "SubscriptionRequiredException"})
CONFLICT = frozenset(
    {"ConflictException", "IdempotentInstanceTerminated", "IdempotentParameterMismatch", "Resource.AlreadyAssociated"}
)
NOT_READY = frozenset(
    {
        "DependencyViolation",
        "IncorrectInstanceState",
        "IncorrectSpotRequestState",
        "IncorrectState",
        "InvalidGroup.InUse",
        "InvalidIPAddress.InUse",
        "InvalidSnapshot.InUse",
        "VolumeInUse",
    }
)
LOG_IN = (
    "Log in (aws sso login, or aws configure), and see that AWS_PROFILE or --cloud chooses the right account: "
    "aws sts get-caller-identity"
)
QUOTA_PAGE = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas"
_NEXT_STEPS: Mapping[type[CloudError], str] = {
    CapacityError: "Try later, another --zone or --region, or another --type.",
    PriceError: "Raise --max-price, choose a cheaper --zone, or leave --spot out.",
    QuotaError: f"Ask for more at {QUOTA_PAGE}, delete what you no longer need, or take a smaller --type.",
    ThrottledError: "Try again in a minute.",
    NotFoundError: "See: ./inv machines --cloud all; ./inv images --cloud all",
    FailedError: "Try again; if it fails again, try another --zone, and see https://health.aws.amazon.com.",
    DeniedError: "See that you have the permissions in docs/permissions.md.",
}
_DISK_KEY = (
    "Check that you may use the key that encrypts your disks (kms:CreateGrant and its like): aws ec2 get-ebs-default-kms-key-id"
)
"""What `Client.InternalError` means for an encrypted disk: repost.aws/knowledge-center/kms-iam-ec2-permission."""
_ENCODED = re.compile(r"\s*Encoded authorization failure message:\s*(\S+)")
_ZONE = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}(?:-[a-z]+-[0-9]+)?[a-z]\b")


class NotReadyError(InvalidError):
    """The thing is there, but in a state in which it cannot do this, or something still uses it."""


def of_refusal(what: str, response: Mapping[str, Any]) -> CloudError:
    """Return the error behind a refusal: `response` is botocore's, `what` was asked about."""
    error = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
    return of_code(what, str(error.get("Code", "")), str(error.get("Message", "")), status)


def of_state(what: str, reason: Mapping[str, Any]) -> CloudError:
    """Return the error of something that EC2 accepted and that has failed since: asking again does not help."""
    code, message = str(reason.get("Code", "")), str(reason.get("Message", ""))
    found = of_code(what, code.partition(".")[2] or code, message.removeprefix(f"{code}: ") or "it failed", 400)
    if type(found) is InvalidError:
        next_step = _DISK_KEY if code == "Client.InternalError" else _NEXT_STEPS[FailedError]
        found = FailedError(found.message, next_step=next_step)
    return found


def of_code(what: str, code: str, message: str, status: int) -> CloudError:
    """Return the error that stands for a code."""
    encoded = _ENCODED.search(message)
    message = _ENCODED.sub("", message).strip() or f"HTTP status {status}"
    kind = _kind(code, status)
    told = f"{what}: {message}" + (f" ({code})" if code and code not in message else "")
    found = kind(told, next_step=advice(code, message) or (LOG_IN if code in CREDENTIALS else _NEXT_STEPS.get(kind, "")))
    if isinstance(found, CapacityError):
        found.zones = tuple(_ZONE.findall(message.partition("choosing ")[2]))
    if encoded:
        found.add_note(f"for the details: aws sts decode-authorization-message --encoded-message {encoded[1]}")
    return found


def of_library(what: str, error: Exception) -> CloudError | UsageError:
    """Return the error behind one of botocore's own: no credentials, no answer, a wrong configuration."""
    from botocore import exceptions as its  # type: ignore[import-untyped]

    name, text = type(error).__name__, str(error).partition("\n")[0]
    if isinstance(error, its.ProfileNotFound):
        return UsageError(f"aws: {text}", next_step="See: aws configure list-profiles")
    if isinstance(error, its.ProxyConnectionError | its.InvalidProxiesConfigError):
        return _unanswered(what, name, "See what HTTPS_PROXY is; try again.")
    if isinstance(error, its.HTTPClientError | its.ConnectionError):
        return _unanswered(
            what,
            _with_address(name, error),
            "See that this computer is online, that the region exists, and what AWS_ENDPOINT_URL is; try again.",
        )
    if isinstance(error, its.SSOError | its.TokenRetrievalError | its.LoginError | its.NoAuthTokenError):
        return DeniedError(f"{what}: your log-in to AWS has expired", next_step="Log in: aws sso login")
    if isinstance(error, OSError | EOFError):  # a credential process that cannot be run; a code that nobody can be asked for
        return DeniedError(f"no credentials for AWS ({text or name})", next_step=LOG_IN)
    if isinstance(
        error, its.NoCredentialsError | its.PartialCredentialsError | its.CredentialRetrievalError | its.UnknownCredentialError
    ):
        return DeniedError(f"no credentials for AWS ({text})", next_step=LOG_IN)
    return UsageError(f"aws: {text or name}", next_step="See: aws configure list; env | grep AWS_")


def suspect_region(error: CloudError, region: str, known: Collection[str]) -> None:
    """Name the region in an error that a wrong one may have caused, if it is not among the `known` ones.

    Such an error is that AWS did not answer, since the names of its servers contain the region, or did not accept a log-in.
    """
    response = getattr(error.__cause__, "response", None)  # None: there was no answer
    is_possible = response is None or response.get("Error", {}).get("Code") in CREDENTIALS
    if is_possible and region not in known:
        error.message = f"unknown region {region!r}: {error.message}"
        meant = did_you_mean(region, known, otherwise="Choose another --region.")
        error.next_step = f"{meant}\n{error.next_step}"


def foreign(what: str) -> ForeignError:
    """Return the error of an answer that something else has sent in the place of AWS."""
    return ForeignError(
        f"{what}: the answer is not from AWS: it has not the form of its answers",
        next_step="See whether this network wants you to log in (open any web page), and what HTTPS_PROXY is; try again.",
    )


def _with_address(name: str, error: Any) -> str:
    """Return the name of an error with the address that did not respond, which AWS_ENDPOINT_URL or a region may have set."""
    address = str(getattr(error, "kwargs", {}).get("endpoint_url") or "")
    return f"{name}: {address}" if address else name


def _unanswered(what: str, name: str, next_step: str) -> ThrottledError:
    return ThrottledError(f"{what}: no answer from AWS ({name})", next_step=next_step)


def _kind(code: str, status: int) -> type[CloudError]:
    if code == "SpotMaxPriceTooLow":
        return PriceError
    if code in CAPACITY:
        return CapacityError
    if code in THROTTLED:
        return ThrottledError
    if code in CREDENTIALS | PERMISSIONS | ACCOUNT:
        return DeniedError
    if code in NOT_READY:
        return NotReadyError
    if code in CONFLICT or code.endswith(".Duplicate"):
        return ConflictError
    if code.endswith(".NotFound") or code == "ResourceNotFoundException":
        return NotFoundError
    if code.endswith(("LimitExceeded", "CountExceeded")) or code == "ServiceQuotaExceededException":
        return QuotaError
    return ThrottledError if status >= 500 else InvalidError
