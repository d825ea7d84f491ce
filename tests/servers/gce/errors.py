"""The refusals of the server, in the wording of the real service."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """One refused request: HTTP status, the machine-readable reason, and the text."""

    def __init__(self, code: int, reason: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.more = code, reason, message, more

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that come with it."""
        return {"Retry-After": str(self.more["retry_after"])} if "retry_after" in self.more else {}

    def body(self) -> Json:
        """Return what goes over the wire."""
        item = {"message": self.message, "domain": self.more.get("domain", "global"), "reason": self.reason}
        item.update({key: self.more[key] for key in ("location", "locationType") if key in self.more})
        error: Json = {"code": self.code, "message": self.message, "errors": [item]}
        if "status" in self.more:
            error["status"] = self.more["status"]
        return {"error": error}


def not_found(path: str) -> ApiError:
    return ApiError(404, "notFound", f"The resource '{path}' was not found")


def already_exists(path: str) -> ApiError:
    return ApiError(409, "alreadyExists", f"The resource '{path}' already exists")


def invalid(field: str, value: object, why: str) -> ApiError:
    return ApiError(400, "invalid", f"Invalid value for field '{field}': '{value}'. {why}")


def absent_reference(field: str, value: object, kind: str) -> ApiError:
    """Return what `instances.insert` answers to a reference to nothing, by the kind of resource: 400, not 404.

    Sources: network https://github.com/google/anthos-microk8s/issues/1, subnetwork
    https://github.com/hashicorp/terraform-provider-google/issues/2140, image
    https://github.com/docker-archive/infrakit.gcp/issues/1, diskType
    https://github.com/broadinstitute/cromwell/issues/3776, disk https://github.com/arunoda/fastai-shell/issues/5.
    """
    return invalid(field, value, f"The referenced {kind} resource cannot be found.")


def absent_machine_type(field: str, value: str, name: str, zone: str) -> ApiError:
    """Return the error of https://github.com/gruntwork-io/terratest/issues/1132, also for a type that other zones have."""
    return invalid(field, value, f"Machine type with name '{name}' does not exist in zone '{zone}'.")


def required(field: str) -> ApiError:
    return ApiError(400, "required", f"Required field '{field}' not specified")


def unparsable(why: str) -> ApiError:
    """Refuse what the JSON parser in front of the service refuses."""
    return ApiError(400, "badRequest", f"Invalid JSON payload received. {why}", status="INVALID_ARGUMENT")


def bad_usage(why: str) -> ApiError:
    return ApiError(400, "invalidResourceUsage", f"Invalid resource usage: '{why}'.")


def in_use(kind: str, path: str, user: str) -> ApiError:
    message = f"The {kind} resource '{path}' is already being used by '{user}'"
    return ApiError(400, "resourceInUseByAnotherResource", message)


def not_ready(path: str) -> ApiError:
    return ApiError(400, "resourceNotReady", f"The resource '{path}' is not ready")


def external_address_forbidden(path: str) -> ApiError:
    """Return the error of https://github.com/GoogleCloudPlatform/compute-image-tools/pull/1476."""
    message = (
        "Constraint constraints/compute.vmExternalIpAccess violated for project 123456789012. "
        f"Add instance {path} to the constraint to use external IP with it."
    )
    return ApiError(412, "conditionNotMet", message)


def stale_labels() -> ApiError:
    return _condition_not_met("Labels fingerprint either invalid or resource labels have changed")


def stale(what: str) -> ApiError:
    return _condition_not_met(f"Supplied fingerprint does not match current {what} fingerprint.")


def _condition_not_met(message: str) -> ApiError:
    return ApiError(412, "conditionNotMet", message, location="If-Match", locationType="header")


def forbidden(permission: str, path: str) -> ApiError:
    return ApiError(403, "forbidden", f"Required '{permission}' permission for '{path}'")


def quota_exceeded(metric: str, limit: float, region: str) -> ApiError:
    message = f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in region {region}."
    return ApiError(403, "quotaExceeded", message, domain="usageLimits")


def backend_error(**more: Any) -> ApiError:
    """Return the error of https://github.com/ansible/ansible/issues/61515."""
    message = "Internal error. Please try again or contact Google Support. (Code: '5913B7676272E.AC29531.6D091185')"
    return ApiError(503, "backendError", message, **more)


def rate_limit_exceeded() -> ApiError:
    return ApiError(403, "rateLimitExceeded", "Rate Limit Exceeded", domain="usageLimits")
