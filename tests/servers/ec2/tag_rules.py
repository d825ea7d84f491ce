"""Tags: what a request may not tag, and which tags no resource may have."""

from __future__ import annotations

from typing import Any

from tests.servers.ec2.errors import ApiError, invalid_value

Tree = dict[str, Any]


def check(tree: Tree, *taggable: str) -> None:
    """Refuse tags that no resource may have, and tags for what a request does not make.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions, https://github.com/aws/aws-cli/issues/2865
    """
    for specification in tree.get("TagSpecifications", []):
        kind = specification.get("ResourceType")
        if kind not in taggable:
            raise invalid_value(f"'{kind}' is not a valid taggable resource type for this operation.")
        check_list(specification.get("Tags", []))


def check_list(tags: list[Tree]) -> None:
    keys = [tag.get("Key", "") for tag in tags]
    for tag in tags:
        key = tag.get("Key", "")
        if key.startswith("aws:"):
            # https://github.com/AndrewFarley/AWS-Automated-Daily-Instance-AMI-Snapshots/issues/7
            message = f"Value ( {key} ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for internal use"
            raise invalid_value(message)
        if not key or len(key) > 127:
            raise invalid_value(f"Tag key exceeds the maximum length of 127 characters, or is empty: '{key}'")
        if len(tag.get("Value", "")) > 255:
            raise invalid_value(f"Tag value exceeds the maximum length of 255 characters: '{tag['Value']}'")
    if len(set(keys)) < len(keys):
        raise invalid_value("Duplicate tag key specified.")
    if len(keys) > 50:
        raise ApiError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
