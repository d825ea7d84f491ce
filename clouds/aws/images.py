"""Images on EC2: bases from the accounts that make them, and ours. An image of ours is an AMI and its snapshots, all with tags."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clouds import names
from clouds.aws import failures, naming
from clouds.aws.client import Client
from clouds.aws.failures import NotReadyError
from clouds.aws.instances import seconds
from clouds.aws.places import Places
from clouds.driver import Base, BaseImage, Kind, Resource, State
from clouds.errors import ConflictError, DeniedError, InvalidError, NotFoundError, QuotaError
from clouds.home import write_private

Ami = dict[str, Any]
"""An image as DescribeImages returns it."""
_BASES = {
    ("trixie", "amd64"): ("debian", "debian-13-amd64-*"),
    ("noble", "amd64"): ("ubuntu", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"),
}
"""Suite and architecture: who makes it, and how the names of its images begin (wiki.debian.org/Cloud/AmazonEC2Image/Trixie,
documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images)."""
_GIB = 2**30
_STATES = {"available": State.READY, "pending": State.PENDING, "transient": State.PENDING}


_LOOKS = 3
"""How often a snapshot of an image of this process is looked for at least before it counts as gone."""


@dataclass(slots=True)
class Images:
    """The images of an account in a region; `folder` keeps which base a suite stood for."""

    client: Client
    places: Places
    folder: Path
    _seen: dict[str, Ami] = field(default_factory=dict)
    _absent_since: dict[str, float] = field(default_factory=dict)
    _requested: dict[str, float] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)
    _looks: dict[str, int] = field(default_factory=dict)

    def resolve(self, base: Base, *, refresh: bool) -> BaseImage:
        """Return the newest image of a base, or the one that it was when it was looked up last in this region."""
        owner, pattern = self._wanted(base)
        kept, key = self.folder / f"bases-{self.client.region_name}.json", f"{owner}/{pattern}"
        known: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        if refresh or key not in known:
            ami = self._newest(base, owner, pattern)
            known[key] = {"id": ami["ImageId"], "disk_gb": _size_gb(ami)}
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(kept, json.dumps(known))
        return BaseImage(known[key]["id"], owner, base, known[key]["disk_gb"])

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

    def source(self, source: str) -> Ami:
        """Return the image to start a machine from: a base by its id, or one of ours by its name.

        NotFoundError: there is none. InvalidError: it belongs to an account that nobody has named, or is not ready.
        """
        ami = self._base(source) if source.startswith("ami-") else self.get(source)
        if ami["OwnerId"] not in (*self.places.owners.values(), self.client.account):
            raise InvalidError(
                f"image {source}: it belongs to the account {ami['OwnerId']}, which your settings do not name",
                next_step="Take the newest base: ./inv bake --refresh",
            )
        if ami["State"] != "available":
            raise InvalidError(f"image {source}: it is {ami['State']}", next_step="See: ./inv images --cloud aws")
        return ami

    def _base(self, source: str) -> Ami:
        if source not in self._seen:
            try:
                answer = self.client.ask(f"image {source}", "describe_images", ImageIds=[source], IncludeDeprecated=True)
            except InvalidError as error:
                raise NotFoundError(error.message, next_step=error.next_step) from error
            if not answer["Images"]:
                raise NotFoundError(f"image {source}: not found on aws", next_step="Take the newest base: ./inv bake --refresh")
            self._seen[source] = answer["Images"][0]
        return self._seen[source]

    def snapshot(self, instance: str, image: str, labels: Mapping[str, str], *, is_off: bool = True) -> str:
        """Ask for an image of an instance, and return its id. ConflictError: the name is taken.

        EC2 shuts an instance that runs down for it, and boots it again
        (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html, NoReboot).
        """
        self._requested[image] = self.client.clock()
        try:
            return self._create(instance, image, labels, is_off=is_off)
        except ConflictError as error:
            return self._same(image, labels, error)
        except (DeniedError, InvalidError, NotFoundError, QuotaError):  # nothing was created
            del self._requested[image]
            raise

    def _create(self, instance: str, image: str, labels: Mapping[str, str], *, is_off: bool) -> str:
        tags = naming.to_tags({**labels, "name": image}, image)
        answer = self.client.ask(
            f"image {image}",
            "create_image",
            InstanceId=instance,
            Name=image,
            Description=f"Baked by Bakehouse: {image}",
            NoReboot=is_off,
            TagSpecifications=naming.specifications(tags, ("image", "snapshot")),
        )
        return str(answer["ImageId"])

    def _same(self, image: str, labels: Mapping[str, str], error: ConflictError) -> str:
        """Accept a name that is taken by the very image that is asked for: the answer to an earlier request was lost.

        CreateImage takes no ClientToken. ConflictError: it is another image.
        """
        found = self._find(image)
        if found and labels.get("bake") and labels.items() <= naming.from_tags(found).items():
            return str(found["ImageId"])
        raise ConflictError(f"image {image}: the name is taken", next_step="Bake again, for the next version.") from error

    def is_ready(self, image: str, ami: str) -> bool:
        """Say whether an image is finished. FailedError: it will never be. NotFoundError: it was deleted meanwhile."""
        try:
            listed = self.client.ask(f"image {image}", "describe_images", ImageIds=[ami])["Images"]
        except NotFoundError:
            listed = []
        if not listed:  # it may not be listed yet
            if self.client.clock() - self._absent_since.setdefault(ami, self.client.clock()) > self.client.unseen_s:
                raise NotFoundError(f"image {image}: it was deleted while it was made", next_step="Bake again.")
            return False
        self._absent_since.pop(ami, None)
        found: Ami = listed[0]
        if found.get("State") in ("failed", "error", "invalid"):
            raise failures.of_state(f"image {image}", found.get("StateReason", {}))
        return bool(found.get("State") == "available")

    def get(self, name: str) -> Ami:
        """Return an image of ours. NotFoundError: there is none."""
        found = self._find(name)
        if found is None:
            raise NotFoundError(f"image {name}: not found on aws", next_step="See: ./inv images --cloud aws")
        return found

    def _find(self, name: str) -> Ami | None:
        """Return the image of ours that has a name, or None. The name of an AMI is unique in an account and region."""
        filters = naming.tag_filters({}, name=name)
        listed = self.client.items(
            f"image {name}", "describe_images", "Images", Owners=["self"], Filters=filters, IncludeDisabled=True
        )
        return next((ami for ami in listed if ami["Name"] == name), None)

    def find(self, name: str) -> Resource | None:
        """Return an image, or None."""
        found = self._find(name)
        return _resource(found) if found else None

    def resources(self, labels: Mapping[str, str]) -> list[Resource]:
        """Return the images that carry all these labels."""
        listed = self.client.items(
            "images", "describe_images", "Images", Owners=["self"], Filters=naming.tag_filters(labels), IncludeDisabled=True
        )
        return [_resource(ami) for ami in listed if labels.items() <= naming.from_tags(ami).items()]

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those of an image and its snapshots."""
        ami = self.get(name)
        self.client.ask_about_new(
            f"image {name}", "create_tags", Resources=[ami["ImageId"], *snapshots_of(ami)], Tags=naming.to_tags(labels, name)
        )

    def delete(self, name: str) -> str:
        """Take an image out of use and return the ids of its snapshots, which `are_gone` deletes.

        Those are found by their tags too: an earlier attempt may have ended between the two halves.
        """
        found = self._find(name)
        snapshots = set(snapshots_of(found)) if found else set()
        if found:
            with suppress(NotFoundError):
                self.client.ask(f"image {name}", "deregister_image", ImageId=found["ImageId"])
        return " ".join(sorted(snapshots | self._listed_snapshots(name)))

    def are_gone(self, name: str, snapshots: str) -> bool:
        """Delete the snapshots of an image, and say whether all are gone: an image that is gone may use its own for a while.

        Those of an image that this process has requested may not be listed yet.
        """
        known = {*snapshots.split(), *(self._listed_snapshots(name) if name in self._requested else ())}
        if not known and self._may_come(name, ""):
            return False
        left = [one for one in sorted(known) if not self._has_deleted(name, one)]
        return not left and self._find(name) is None

    def _listed_snapshots(self, name: str) -> set[str]:
        return {snapshot["SnapshotId"] for snapshot in our_snapshots(self.client, {"name": name})}

    def _has_deleted(self, name: str, snapshot: str) -> bool:
        """Delete a snapshot of an image; return False if it is still in use, or may not be found yet."""
        if snapshot in self._deleted:
            return True
        try:
            self.client.ask(f"image {name}: snapshot {snapshot}", "delete_snapshot", SnapshotId=snapshot)
        except NotFoundError:
            return not self._may_come(name, snapshot)
        except NotReadyError:
            return False
        self._deleted.add(snapshot)
        return True

    def _may_come(self, name: str, snapshot: str) -> bool:
        """Return whether a snapshot that was not found may exist: its image was requested lately, or few looks were taken."""
        if name not in self._requested:
            return False
        self._looks[snapshot] = self._looks.get(snapshot, 0) + 1
        return self._looks[snapshot] < _LOOKS or self.client.clock() - self._requested[name] < self.client.unseen_s


def snapshots_of(ami: Ami) -> list[str]:
    """Return the ids of the snapshots that an image consists of."""
    disks = (disk.get("Ebs", {}) for disk in ami.get("BlockDeviceMappings", ()))
    return [disk["SnapshotId"] for disk in disks if disk.get("SnapshotId")]


def our_snapshots(client: Client, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the snapshots of this account that carry all these labels."""
    listed = client.items("snapshots", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=naming.tag_filters(labels))
    return [one for one in listed if labels.items() <= naming.from_tags(one).items()]


def _size_gb(ami: Ami) -> int:
    """Return the size of an image's disks in GiB; a pending one does not say."""
    return sum(int(disk.get("Ebs", {}).get("VolumeSize") or 0) for disk in ami.get("BlockDeviceMappings", ()))


def _resource(ami: Ami) -> Resource:
    labels = naming.from_tags(ami)
    if ami["State"] == "disabled" or (ami.get("DeprecationTime") and seconds(ami["DeprecationTime"]) < time.time()):
        labels["state"] = names.DEPRECATED
    return Resource(
        kind=Kind.IMAGE,
        name=ami["Name"],
        state=State.READY if ami["State"] == "disabled" else _STATES.get(ami["State"], State.BROKEN),
        labels={key: value for key, value in labels.items() if key != "name"},
        created_at=seconds(ami["CreationDate"]),
        size_bytes=_size_gb(ami) * _GIB,
    )
