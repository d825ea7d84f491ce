"""Convert names and labels to and from their form on Compute Engine, which allows no dots in either.

Names: cloud.google.com/compute/docs/naming-resources. Labels: cloud.google.com/compute/docs/labeling-resources.
Resources without labels (rules, networks) have them in their description.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from clouds import names

_DOTTED = ("image", "version", "name")
"""The labels whose values may contain dots but no underscores: an underscore stands for a dot there."""
_NAMESPACE = uuid.UUID("9c1f5d0e-6b0c-4d3a-9a57-5e0f4b1c7a10")
PREFIX = f"{names.PROJECT}-"


def image_name(name: str) -> str:
    """Return the name of an image on Compute Engine: `jupyter-1-4-0-7` for `jupyter-1.4.0-7`."""
    return name.replace(".", "-")


def family(recipe: str) -> str:
    """Return the image family of a recipe's stable images."""
    return f"{PREFIX}{recipe}"


def rule_name(machine: str, access: str) -> str:
    """Return the name of a firewall rule, which is also its target tag."""
    return f"{PREFIX}{machine}-{access}"


def machine_of_rule(rule: str) -> str:
    """Return the machine of a firewall rule of ours."""
    return rule.removeprefix(PREFIX).rpartition("-")[0]


def request_id(*parts: str) -> str:
    """Return a deterministic request id, so that a repeated request has the same one."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def to_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels in Compute Engine's form."""
    return {key: value.replace(".", "_") if key in _DOTTED else value for key, value in labels.items()}


def from_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels in our form."""
    return {key: value.replace("_", ".") if key in _DOTTED else value for key, value in labels.items()}


def to_description(labels: Mapping[str, str]) -> str:
    """Return labels as one line of `key=value`."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def from_description(text: str) -> dict[str, str]:
    """Return the labels in a description; none if it is not one of ours."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def label_filter(labels: Mapping[str, str]) -> str:
    """Return the filter expression for resources with all these labels."""
    return " AND ".join(f'labels.{key}="{value}"' for key, value in sorted(to_labels(labels).items()))
