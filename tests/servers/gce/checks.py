"""What the service checks in the parts that several resources have: labels, metadata, tags, scheduling."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tests.servers.gce.errors import ApiError, Json, bad_usage, invalid

METADATA_VALUE_BYTES = 256 * 1024
METADATA_TOTAL_BYTES = 512 * 1024
RUN_DURATION_S = (30, 120 * 24 * 3600)
_NAME = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_KEY = re.compile(r"[a-z\u00df-\U0010ffff][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")


def labels(found: Mapping[str, str], field: str) -> None:
    """Hold labels to their rules: https://cloud.google.com/compute/docs/labeling-resources#label_format."""
    if len(found) > 64:
        raise invalid(field, "", "Too many labels: at most 64 are allowed.")
    for key, value in found.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            raise _bad_label("key", key, field, "The key must start with a lowercase character, can only")
        if not _LABEL_VALUE.fullmatch(value) or value != value.lower():
            raise _bad_label("value", value, field, "The value can only")


def _bad_label(part: str, text: str, field: str, start: str) -> ApiError:
    """Return the error whose text stands in https://github.com/googleapis/gax-nodejs/issues/1375."""
    why = (
        f"Label {part} '{text}' violates format constraints. {start} contain lowercase letters, numeric characters, "
        f"underscores and dashes. The {part} can be at most 63 characters long. International characters are allowed."
    )
    return invalid(field, "", why)


def metadata(found: Json, field: str) -> None:
    """Hold metadata to its limits: https://cloud.google.com/compute/docs/metadata/setting-custom-metadata#limitations."""
    items = found.get("items", [])
    seen: set[str] = set()
    total = 0
    for index, item in enumerate(items):
        key, value = item.get("key", ""), item.get("value", "")
        if not re.fullmatch(r"[a-zA-Z0-9-_]{1,128}", key):
            raise invalid(f"{field}.items[{index}].key", key, "Must be a match of regex '[a-zA-Z0-9-_]{1,128}'")
        if key in seen:
            raise invalid(field, key, f"Metadata has duplicate key: {key}")
        if len(value.encode()) > METADATA_VALUE_BYTES:
            why = f"Value is too large: maximum size {METADATA_VALUE_BYTES} character(s); actual size {len(value)}."
            raise invalid(f"{field}.items[{index}].value", f"{value[:32]}...", why)
        seen.add(key)
        total += len(key.encode()) + len(value.encode())
    if total > METADATA_TOTAL_BYTES:
        why = f"Metadata is too large: maximum total size {METADATA_TOTAL_BYTES} bytes; actual size {total}."
        raise invalid(field, "", why)


def tags(found: Json, field: str) -> None:
    items = found.get("items", [])
    if len(items) > 64:
        raise invalid(field, len(items), "At most 64 tags are allowed.")
    for index, tag in enumerate(items):
        if not re.fullmatch(_NAME, tag):
            raise invalid(f"{field}.items[{index}]", tag, f"Must be a match of regex '(?:{_NAME})'")


def name(found: str, field: str) -> None:
    if not re.fullmatch(_NAME, found):
        raise invalid(field, found, f"Must be a match of regex '(?:{_NAME})'")


def scheduling(given: Json, field: str, *, has_gpus: bool = False) -> Json:
    """Return the scheduling with the defaults of its provisioning model; a machine with GPUs cannot be migrated."""
    is_spot = given.get("provisioningModel") == "SPOT" or given.get("preemptible", False)
    restart = given.get("automaticRestart", not is_spot)
    on_maintenance = given.get("onHostMaintenance", "TERMINATE" if is_spot else "MIGRATE")
    if is_spot and restart:
        raise invalid(f"{field}.preemptible", "true", "Scheduling must have preemptible be false when AutomaticRestart is true.")
    if is_spot and on_maintenance == "MIGRATE":
        why = "Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE."
        raise invalid(f"{field}.preemptible", "true", why)
    if has_gpus and on_maintenance == "MIGRATE":  # the words: jenkinsci/google-compute-engine-plugin#63
        raise bad_usage("Instances with guest accelerators do not support live migration.")
    action = given.get("instanceTerminationAction")
    has_limit = "maxRunDuration" in given or "terminationTime" in given
    if action and not (is_spot or has_limit):
        raise invalid(
            f"{field}.instanceTerminationAction",
            action,
            "You cannot specify a termination action for a VM instance that has the standard provisioning model (default). "
            "To use instance termination action, the VM instance must use the Spot provisioning model.",
        )
    if has_limit and not action:
        raise invalid(
            f"{field}.instanceTerminationAction",
            "",
            "You must specify an instance termination action when max run duration or termination time is set.",
        )
    if "maxRunDuration" in given:
        _run_duration(given["maxRunDuration"], f"{field}.maxRunDuration")
    filled = {
        "provisioningModel": "SPOT" if is_spot else "STANDARD",
        "preemptible": is_spot,
        "automaticRestart": restart,
        "onHostMaintenance": on_maintenance,
        **given,
    }
    if is_spot:
        filled.setdefault("instanceTerminationAction", "STOP")
    return {**filled, "provisioningModel": "SPOT" if is_spot else filled["provisioningModel"], "preemptible": is_spot}


def _run_duration(given: Json, field: str) -> None:
    low, high = RUN_DURATION_S
    seconds = int(given.get("seconds", 0))
    if not low <= seconds <= high:
        raise invalid(f"{field}.seconds", seconds, f"Must be between {low} and {high}, inclusive.")
