"""AWS: EC2, by boto3.

No real account has been used to test it; docs/clouds.md says what stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.settings import Setting, address_range, number, shaped

if TYPE_CHECKING:
    from clouds.aws.driver import Aws

# Names of regions and zones: docs.aws.amazon.com/global-infrastructure/latest/regions. A local zone is us-west-2-lax-1a.
_REGION = r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}"
_ZONE = rf"(?P<region>{_REGION})(?:-[a-z]+-[0-9]+)?[a-z]"
_ACCOUNT = r"[0-9]{12}"
_NO_ACCOUNT = "is not an account of AWS (write its number of 12 digits, such as 136693071363)"
_ROLE = rf"arn:aws(?:-[a-z]+)*:iam::{_ACCOUNT}:role/(?:[\w+=,.@-]+/)*[\w+=,.@-]{{1,64}}"
"""Partition, path and name: docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html, .../reference_iam-quotas.html."""


def region_of(zone: str) -> str:
    """Return the region that a zone is in: `us-east-1` of `us-east-1a`; "" for what is no zone."""
    import re

    found = re.fullmatch(_ZONE, zone, re.ASCII)
    return found["region"] if found else ""


SETTINGS_PAGE = "docs/clouds.md, under AWS"
"""Where the settings are explained."""
SETTINGS = {
    "region": Setting(
        "the region, such as us-east-1 (default: that of your AWS profile)",
        ("AWS_REGION", "AWS_DEFAULT_REGION"),
        check=shaped(_REGION, "is not a region of AWS (write one such as us-east-1)"),
    ),
    "zone": Setting(
        "the availability zone to try first, such as us-east-1a",
        check=shaped(_ZONE, "is not an availability zone of AWS (write one such as us-east-1a)"),
        contradicts={"region": lambda zone, region: region_of(zone) != region},
    ),
    "subnet": Setting(
        "the subnet to be in (default: the default subnet of the zone)",
        check=shaped(r"subnet-[0-9a-f]{8,17}", "is not the id of a subnet (write one such as subnet-0123456789abcdef0)"),
    ),
    "source": Setting("the address or range that may reach machines (default: this computer's)", check=address_range),
    "profile": Setting("the profile of your AWS configuration (default: as the AWS CLI chooses it)", ("AWS_PROFILE",)),
    "instance_profile": Setting(
        "the name of the IAM instance profile that machines act as (default: none)",
        check=shaped(r"[\w+=,.@-]{1,128}", "is not the name of an instance profile (write its name, not its ARN)"),
    ),
    "scheduler_role": Setting(
        "the ARN of the IAM role as which EventBridge Scheduler stops machines at the end of their lifetime (default: none)",
        check=shaped(
            _ROLE, "is not the ARN of a role (write one such as arn:aws:iam::111122223333:role/bakehouse-stop, with your account)"
        ),
    ),
    "debian_owner": Setting(
        "the account whose Debian images are trusted", default="136693071363", check=shaped(_ACCOUNT, _NO_ACCOUNT)
    ),
    "ubuntu_owner": Setting(
        "the account whose Ubuntu images are trusted", default="099720109477", check=shaped(_ACCOUNT, _NO_ACCOUNT)
    ),
    "slowness": Setting("a factor for all deadlines", default="1", check=number(0.1, 1000)),
}
"""The owners are those that wiki.debian.org/Cloud/AmazonEC2Image and documentation.ubuntu.com/aws name."""


def connect(home: Path, settings: Mapping[str, str]) -> Aws:
    """Return EC2 as the settings describe it; nothing is requested yet. UsageError: the settings contradict each other."""
    from clouds.aws.client import Client
    from clouds.aws.driver import Aws
    from clouds.aws.places import places

    where = places(settings)
    client = Client(where.region, settings.get("profile", ""), home / "aws")
    return Aws(client, where, slowness=float(settings.get("slowness") or 1))
