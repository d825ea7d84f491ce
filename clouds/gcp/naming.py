"""How names and labels are spelled on Compute Engine, which takes no dot in either, and how they are read back.

Names: cloud.google.com/compute/docs/naming-resources. Labels: cloud.google.com/compute/docs/labeling-resources.
What can carry no labels (rules, networks) has them in its description.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from clouds import names

_DOTTED = ("image", "version", "name")
"""The labels whose values may hold dots, and never an underscore: there the one stands for the other."""
_NAMESPACE = uuid.UUID("9c1f5d0e-6b0c-4d3a-9a57-5e0f4b1c7a10")
PREFIX = f"{names.PROJECT}-"


def image_name(name: str) -> str:
    """Return the name of an image there: `jupyter-1.4.0-7` is `jupyter-1-4-0-7`."""
    return name.replace(".", "-")


def family(recipe: str) -> str:
    """Return the family that the stable images of a recipe are in."""
    return f"{PREFIX}{recipe}"


def rule_name(machine: str, access: str) -> str:
    """Return the name of a firewall rule, and of the tag on a machine that it is for."""
    return f"{PREFIX}{machine}-{access}"


def machine_of_rule(rule: str) -> str:
    """Return the machine that a rule of ours is for."""
    return rule.removeprefix(PREFIX).rpartition("-")[0]


def request_id(*parts: str) -> str:
    """Return the id of a request that means the same whenever it is sent."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def to_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as Compute Engine takes them."""
    return {key: value.replace(".", "_") if key in _DOTTED else value for key, value in labels.items()}


def from_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels as we gave them."""
    return {key: value.replace("_", ".") if key in _DOTTED else value for key, value in labels.items()}


def to_description(labels: Mapping[str, str]) -> str:
    """Return labels as one line of `key=value`."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def from_description(text: str) -> dict[str, str]:
    """Return the labels in a description; none when it is not one of ours."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def label_filter(labels: Mapping[str, str]) -> str:
    """Return the filter that lists what carries all of these labels."""
    return " AND ".join(f'labels.{key}="{value}"' for key, value in sorted(to_labels(labels).items()))
