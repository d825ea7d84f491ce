"""The images that bakes start from: the newest of the accounts that make them, kept so that a base stays what it was."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clouds.aws.client import Client
from clouds.aws.places import Places
from clouds.driver import Base, BaseImage
from clouds.errors import InvalidError, NotFoundError
from clouds.home import read_json, write_private

Ami = dict[str, Any]
"""An image as DescribeImages returns it."""
_BASES = {
    ("trixie", "amd64"): ("debian", "debian-13-amd64-*"),
    ("noble", "amd64"): ("ubuntu", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"),
}
"""Suite and architecture: who makes it, and how the names of its images begin (wiki.debian.org/Cloud/AmazonEC2Image/Trixie,
documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images)."""

_REFRESH = "Take the newest base: ./inv bake --refresh"


@dataclass(slots=True)
class Bases:
    """The bases in a region; `folder` keeps which base a suite stood for."""

    client: Client
    places: Places
    folder: Path
    _seen: dict[str, Ami] = field(default_factory=dict)

    def resolve(self, base: Base, *, refresh: bool) -> BaseImage:
        """Return the newest image of a base, or the one that it was when it was looked up last in this region."""
        owner, pattern = self._wanted(base)
        kept, key = self.folder / f"bases-{self.client.region_name}.json", f"{owner}/{pattern}"
        known = read_json(kept) or {}
        found = known.get(key)
        if refresh or not (isinstance(found, dict) and found.keys() >= {"id", "disk_gb"}):
            ami = self._newest(base, owner, pattern)
            found = known[key] = {"id": ami["ImageId"], "disk_gb": size_gb(ami), "root_device": ami["RootDeviceName"]}
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(kept, json.dumps(known))
        image = found["id"]
        if root_device := found.get("root_device"):  # of an image neither that nor its owner changes
            self._seen.setdefault(image, {"ImageId": image, "OwnerId": owner, "RootDeviceName": root_device, "State": "available"})
        return BaseImage(image, owner, base, found["disk_gb"])

    def _wanted(self, base: Base) -> tuple[str, str]:
        if (base.suite, base.architecture) not in _BASES:
            known = ", ".join(f"{suite}/{architecture}" for suite, architecture in _BASES)
            raise InvalidError(
                f"base {base.suite}/{base.architecture}: no image of it on AWS", next_step=f"Choose one of: {known}."
            )
        maker, pattern = _BASES[base.suite, base.architecture]
        return self.places.owners[maker], pattern

    def _newest(self, base: Base, owner: str, pattern: str) -> Ami:
        filters = [{"Name": "name", "Values": [pattern]}, {"Name": "state", "Values": ["available"]}]
        what = f"base {base.suite}: images {pattern} of account {owner}"
        found = list(self.client.items(what, "describe_images", "Images", Owners=[owner], Filters=filters))
        if not found:
            raise NotFoundError(
                f"{what}: not found in {self.client.region_name}", next_step="Choose another --region, or see docs/clouds.md."
            )
        ami = max(found, key=lambda one: (one["CreationDate"], one["ImageId"]))
        self._seen[ami["ImageId"]] = ami
        return ami

    def image(self, source: str) -> Ami:
        """Return a base by its id. NotFoundError: there is none."""
        if source not in self._seen:
            try:
                answer = self.client.ask(f"image {source}", "describe_images", ImageIds=[source], IncludeDeprecated=True)
            except (InvalidError, NotFoundError) as error:
                raise NotFoundError(error.message, next_step=_REFRESH) from error
            if not answer["Images"]:
                raise NotFoundError(f"image {source}: not found on aws", next_step=_REFRESH)
            self._seen[source] = answer["Images"][0]
        return self._seen[source]

    def forget(self, source: str) -> None:
        """Forget what a base was like: it is looked up again."""
        self._seen.pop(source, None)


def size_gb(ami: Ami) -> int:
    """Return the size of an image's disks in GiB; a pending one does not say."""
    return sum(int(disk.get("Ebs", {}).get("VolumeSize") or 0) for disk in ami.get("BlockDeviceMappings", ()))
