"""How labels are spelled as tags of EC2, and how they are read back.

A tag's value has 256 characters at most, and may hold what our labels hold
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html). The name of a machine or image is also its tag `Name`, which the
console shows.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clouds import names

NAME = "Name"
MACHINE = "machine"
"""The tag of a security group that holds the name of its machine."""
Tags = list[dict[str, str]]
_NAMESPACE = uuid.UUID("5b3a1c0e-4d52-4f0b-9d0e-6a1f7c2b9e44")


def to_tags(labels: Mapping[str, str], name: str) -> Tags:
    """Return the tags of a thing with this name and these labels; what we made is always known by the tag `project`."""
    every = {**labels, "project": names.PROJECT, NAME: name}
    return [{"Key": key, "Value": value} for key, value in sorted(every.items())]


def from_tags(thing: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a thing that a describe call has returned."""
    return {key: value for key, value in raw_tags(thing).items() if key != NAME}


def raw_tags(thing: Mapping[str, Any]) -> dict[str, str]:
    """Return all tags of a thing."""
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ())}


def specifications(tags: Tags, kinds: Iterable[str]) -> list[dict[str, Any]]:
    """Return tags for the resources that one call creates, so that none exists without them."""
    return [{"ResourceType": kind, "Tags": tags} for kind in kinds]


def tag_filters(labels: Mapping[str, str], **more: str | Sequence[str]) -> list[dict[str, Any]]:
    """Return the filters that list what we made and what carries all of these labels; `more` names other filters, `_` for `-`."""
    every = {**labels, "project": names.PROJECT}
    filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in sorted(every.items())]
    return filters + [
        {"Name": key.replace("_", "-"), "Values": [value] if isinstance(value, str) else list(value)} for key, value in more.items()
    ]


def client_token(*parts: str) -> str:
    """Return a ClientToken that means the same whenever it is sent: 64 ASCII characters at most."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(parts)))


def group_name(machine: str, token: str) -> str:
    """Return the name of a machine's security group: no other launch uses it, whatever its machine is called."""
    return f"{names.PROJECT}-{machine}-{client_token(token)[:8]}"
