"""Packer's amazon-ebs builder for tests and benchmarks: templates that the EC2 server of the tests serves.

https://developer.hashicorp.com/packer/integrations/hashicorp/amazon/latest/components/builder/ebs. Nothing is provisioned
(`communicator` none): Packer stops an instance as soon as it is running.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.ec2.catalog import DEBIAN

_PLAIN = {
    "type": "amazon-ebs",
    "region": "us-east-1",
    "custom_endpoint_ec2": "{{user `endpoint`}}",
    "skip_credential_validation": True,
    "skip_metadata_api_check": True,
    "skip_region_validation": True,
    "communicator": "none",
    "instance_type": "t3.small",
}
NEWEST_DEBIAN = {"owners": [DEBIAN], "most_recent": True, "filters": {"name": "debian-13-amd64-*"}}
"""The `source_ami_filter` of Debian 13, as wiki.debian.org/Cloud/AmazonEC2Image names its images."""


def builder(image: str, **settings: Any) -> dict[str, Any]:
    """Return a builder, called like the image that it makes; `settings` are Packer's, such as `source_ami`."""
    return {**_PLAIN, "name": image, "ami_name": image, **settings}


def write_template(path: Path, *builders: Mapping[str, Any]) -> None:
    """Write a template that finds the server by the variable AWS_ENDPOINT_URL, which this Packer does not read by itself."""
    path.write_text(json.dumps({"variables": {"endpoint": "{{env `AWS_ENDPOINT_URL`}}"}, "builders": builders}))


def variables(home: Path) -> dict[str, str]:
    """Return the variables that keep Packer in a folder, and from asking its maker for news."""
    return {"HOME": str(home), "PACKER_CONFIG_DIR": str(home), "PACKER_CACHE_DIR": str(home), "CHECKPOINT_DISABLE": "1"}
