"""Images on EC2 that are ours: an AMI and its snapshots, all with tags."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from clouds import names
from clouds.aws import failures, naming
from clouds.aws.bases import Ami, Bases, size_gb
from clouds.aws.client import Client
from clouds.aws.failures import NotReadyError
from clouds.aws.instances import seconds
from clouds.aws.places import Places
from clouds.driver import Kind, Resource, State
from clouds.errors import ConflictError, DeniedError, InvalidError, NotFoundError, QuotaError, TimedOutError

_GIB = 2**30
_STATES = {"available": State.READY, "pending": State.PENDING, "transient": State.PENDING}
_LOOKS = 3
"""How often a snapshot of an image of this process is looked for at least before it counts as gone."""


@dataclass(slots=True)
class Images:
    """The images of an account in a region."""

    client: Client
    places: Places
    bases: Bases
    _absent_since: dict[str, float] = field(default_factory=dict)
    _requested: dict[str, float] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)
    _looks: dict[str, int] = field(default_factory=dict)
    _listed: dict[str, Ami] = field(default_factory=dict)

    def source(self, source: str) -> Ami:
        """Return the image to start a machine from: a base by its id, or one of ours by its name.

        NotFoundError: there is none. InvalidError: it belongs to an account that nobody has named, or is not ready.
        """
        ami = self.bases.image(source) if source.startswith("ami-") else self._glance(source)
        if ami["OwnerId"] not in (*self.places.owners.values(), self.client.account):
            raise InvalidError(
                f"image {source}: it belongs to the account {ami['OwnerId']}, which your settings do not name",
                next_step="Take the newest base: ./inv bake --refresh",
            )
        if ami["State"] != "available":
            raise InvalidError(f"image {source}: it is {ami['State']}", next_step="See: ./inv images")
        return ami

    def look_again(self, source: str) -> None:
        """Raise NotFoundError or InvalidError, with what to do, when an image has gone since it was looked at."""
        self.bases.forget(source)
        self._listed.pop(source, None)
        self.source(source)

    def _glance(self, name: str) -> Ami:
        """Return a finished image of ours as this process has listed it, else as it is now. NotFoundError: not found.

        Its id, owner and root device never change. If it has been deleted since, EC2 refuses the request, and `look_again` says so.
        """
        ami = self._listed.get(name)
        return ami if ami and ami["State"] == "available" else self.get(name)

    def snapshot(self, instance: str, image: str, labels: Mapping[str, str], *, is_off: bool = True) -> str:
        """Ask for an image of an instance, and return its id. ConflictError: the name is taken.

        EC2 shuts an instance that runs down for it, and boots it again
        (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html, NoReboot). Guess: that this is no shutdown by the
        guest, at which the instance would be terminated; Packer relies on it too, since it does not stop spot instances before.
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

        CreateImage takes no ClientToken. ConflictError: it is another image. TimedOutError: EC2 did not say which one it is.
        """
        found = self._holder(image)
        if found and labels.get("bake") and labels.items() <= naming.from_tags(found).items():
            return str(found["ImageId"])
        raise ConflictError(f"image {image}: the name is taken", next_step="Bake again, for the next version.") from error

    def _holder(self, name: str) -> Ami | None:
        """Return the image of this account that has a name which is taken, with our tags or without, once EC2 lists it.

        None: it lists none. TimedOutError: it did not answer.
        """
        filters = [{"Name": "name", "Values": [name]}]
        search = {"Owners": ["self"], "Filters": filters, "IncludeDisabled": True}
        try:
            return self.client.until(
                lambda: next(self.client.items(f"image {name}", "describe_images", "Images", **search), None),
                what=f"image {name!r}: which image has the name",
                timeout_s=self.client.unseen_s,
            )
        except TimedOutError as error:
            if error.last_seen:  # it was throttled to the end
                raise
            return None

    def is_ready(self, image: str, ami: str) -> bool:
        """Return whether an image is finished and listed by its name.

        FailedError: it will never be finished. NotFoundError: it was deleted meanwhile.
        """
        named = self._find(image)
        found = named or self._by_id(image, ami)
        if found is None:  # it may not be listed yet
            if self.client.clock() - self._absent_since.setdefault(ami, self.client.clock()) > self.client.unseen_s:
                raise NotFoundError(f"image {image}: it was deleted while it was made", next_step="Bake again.")
            return False
        self._absent_since.pop(ami, None)
        if found.get("State") in ("failed", "error", "invalid"):
            raise failures.of_state(f"image {image}", found.get("StateReason", {}))
        return named is not None and found.get("State") == "available"

    def _by_id(self, image: str, ami: str) -> Ami | None:
        with suppress(NotFoundError):
            return next(iter(self.client.ask(f"image {image}", "describe_images", ImageIds=[ami])["Images"]), None)
        return None

    def get(self, name: str) -> Ami:
        """Return an image of ours. NotFoundError: there is none."""
        found = self._find(name)
        if found is None:
            raise NotFoundError(f"image {name}: not found on aws", next_step="See: ./inv images")
        return found

    def _find(self, name: str) -> Ami | None:
        """Return the image of ours that has a name, or None. The name of an AMI is unique in an account and region."""
        filters = naming.tag_filters({}, name=name)
        listed = self.client.items(
            f"image {name}", "describe_images", "Images", Owners=["self"], Filters=filters, IncludeDisabled=True
        )
        return next((self._note(ami) for ami in listed if ami["Name"] == name), None)

    def _note(self, ami: Ami) -> Ami:
        """Remember an image of ours as it was listed, and return it."""
        self._listed[ami["Name"]] = ami
        return ami

    def find(self, name: str) -> Resource | None:
        """Return an image, or None."""
        found = self._find(name)
        return _resource(found) if found else None

    def resources(self, labels: Mapping[str, str]) -> list[Resource]:
        """Return the images that carry all these labels."""
        listed = self.client.items(
            "images", "describe_images", "Images", Owners=["self"], Filters=naming.tag_filters(labels), IncludeDisabled=True
        )
        return [_resource(self._note(ami)) for ami in listed if labels.items() <= naming.from_tags(ami).items()]

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those of an image and its snapshots, whose ids never change once it is finished."""
        known = self._listed.get(name)
        if known and known["State"] == "available":
            with suppress(NotFoundError):  # deleted meanwhile, or not known everywhere yet
                self.client.ask(f"image {name}", "create_tags", **_tagging(known, labels))
                return
        self.client.ask_about_new(f"image {name}", "create_tags", **_tagging(self.get(name), labels))

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


def _tagging(ami: Ami, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"Resources": [ami["ImageId"], *snapshots_of(ami)], "Tags": naming.to_tags(labels, ami["Name"])}


def our_snapshots(client: Client, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the snapshots of this account that carry all these labels."""
    listed = client.items("snapshots", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=naming.tag_filters(labels))
    return [one for one in listed if labels.items() <= naming.from_tags(one).items()]


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
        size_bytes=size_gb(ami) * _GIB,
    )
