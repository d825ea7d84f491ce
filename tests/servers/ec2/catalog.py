"""What is there before the first request: public images, and the public parameters that name the newest of them.

Owners and names: https://wiki.debian.org/Cloud/AmazonEC2Image, https://ubuntu.com/aws/docs, and for Amazon Linux
https://docs.aws.amazon.com/linux/al2023/ug/ec2.html. Parameters: https://wiki.debian.org/Cloud/AmazonEC2Image/13,
https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/ and
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters-ami.html.
The ids and dates are made up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

DEBIAN, CANONICAL, AMAZON = "136693071363", "099720109477", "137112412989"


@dataclass(frozen=True, slots=True)
class PublicImage:
    """An image of another owner; `parameter` names it in the Systems Manager when it is the newest of its kind."""

    name: str
    owner: str
    architecture: str
    created: str
    root_device: str
    size_gb: int
    boot_mode: str
    parameter: str = ""
    alias: str = ""
    deprecated_at: str = ""

    def ami_id(self, region: str) -> str:
        return f"ami-{_hex(f'{region} {self.name}')}"

    def snapshot_id(self, region: str) -> str:
        return f"snap-{_hex(f'{region} {self.name}')}"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:17]


def _debian(release: int, arch: str, date: str, *, is_newest: bool = True, deprecated_at: str = "") -> PublicImage:
    return PublicImage(
        name=f"debian-{release}-{arch}-{date}-1890",
        owner=DEBIAN,
        architecture={"amd64": "x86_64"}.get(arch, arch),
        created=f"{date[:4]}-{date[4:6]}-{date[6:]}T06:47:52.000Z",
        root_device="/dev/xvda",
        size_gb=8,
        boot_mode="uefi-preferred" if arch == "amd64" else "uefi",
        parameter=f"/aws/service/debian/release/{release}/latest/{arch}" if is_newest else "",
        deprecated_at=deprecated_at,
    )


def _ubuntu(version: str, code_name: str, arch: str, date: str) -> PublicImage:
    return PublicImage(
        name=f"ubuntu/images/hvm-ssd-gp3/ubuntu-{code_name}-{version}-{arch}-server-{date}",
        owner=CANONICAL,
        architecture={"amd64": "x86_64"}.get(arch, arch),
        created=f"{date[:4]}-{date[4:6]}-{date[6:]}T04:17:12.000Z",
        root_device="/dev/sda1",
        size_gb=8,
        boot_mode="uefi-preferred" if arch == "amd64" else "uefi",
        parameter=f"/aws/service/canonical/ubuntu/server/{version}/stable/current/{arch}/hvm/ebs-gp3/ami-id",
        alias="amazon",
    )


def _amazon(arch: str, date: str) -> PublicImage:
    return PublicImage(
        name=f"al2023-ami-2023.9.{date}.0-kernel-6.1-{arch}",
        owner=AMAZON,
        architecture=arch,
        created=f"{date[:4]}-{date[4:6]}-{date[6:]}T19:20:31.000Z",
        root_device="/dev/xvda",
        size_gb=8,
        boot_mode="uefi-preferred" if arch == "x86_64" else "uefi",
        parameter=f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{arch}",
        alias="amazon",
    )


PUBLIC_IMAGES = (
    _debian(12, "amd64", "20260914"),
    _debian(12, "arm64", "20260914"),
    _debian(13, "amd64", "20260803", is_newest=False),
    _debian(13, "amd64", "20240201", is_newest=False, deprecated_at="2026-02-01T00:00:00.000Z"),
    _debian(13, "amd64", "20261019"),
    _debian(13, "arm64", "20261019"),
    _ubuntu("22.04", "jammy", "amd64", "20261007"),
    _ubuntu("24.04", "noble", "amd64", "20261012"),
    _ubuntu("24.04", "noble", "arm64", "20261012"),
    _amazon("x86_64", "20261020"),
    _amazon("arm64", "20261020"),
)


def parameters(region: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the public parameters of a region."""
    for image in PUBLIC_IMAGES:
        if image.parameter:
            yield image.parameter, image.ami_id(region)
