"""Images on Compute Engine: our own, and bases by family from their owner's project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clouds import names
from clouds.driver import Base, BaseImage, Kind, Resource, State
from clouds.errors import ConflictError, InvalidError, NotFoundError
from clouds.gcp import naming, sdk
from clouds.gcp.client import Client
from clouds.gcp.instances import seconds
from clouds.gcp.labelling import merge_labels
from clouds.gcp.operations import finish, refer
from clouds.home import read_json, write_private

_BASES = {
    ("trixie", "amd64"): ("debian-cloud", "debian-13"),
    ("noble", "amd64"): ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64"),
}
"""Suite and architecture: the project that owns the image, and its family (cloud.google.com/compute/docs/images/os-details)."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a project; `kept` is the file that stores which base each family resolved to."""

    client: Client
    region: str
    kept: Path
    _seen: dict[str, sdk.compute.Image] = field(default_factory=dict)

    def resolve(self, base: Base, *, refresh: bool) -> BaseImage:
        """Return the image of a base's family that was newest at the last lookup; `refresh` looks it up again."""
        owner, family = _family_of(base)
        known = read_json(self.kept) or {}
        found = known.get(family)
        if refresh or not (isinstance(found, dict) and found.keys() >= {"name", "disk_gb"}):
            what = f"newest image of family {family!r} of project {owner!r} (base {base.suite})"
            image = self.client.ask(what, self.client.services.images.get_from_family, project=owner, family=family)
            found = known[family] = {"name": image.name, "disk_gb": image.disk_size_gb}
            self.kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.kept, json.dumps(known))
        return BaseImage(f"projects/{owner}/global/images/{found['name']}", owner, base, found["disk_gb"])

    def snapshot(self, instance: sdk.compute.Instance, image: str, labels: Mapping[str, str]) -> str:
        """Request an image of an instance's boot disk and return the operation. ConflictError: the image exists."""
        disk = next(disk.source for disk in instance.disks if disk.boot)
        body = sdk.compute.Image(
            name=naming.image_name(image),
            source_disk=disk[disk.index("projects/") :],
            labels=naming.to_labels({**labels, "name": image}),
            storage_locations=[self.region],
            description=f"Baked by Bakehouse: {image}",
        )
        try:
            operation = self.client.change(f"image {image!r}", self.client.services.images.insert_unary, image_resource=body)
        except ConflictError:
            raise ConflictError(f"image {image!r} already exists", next_step="Bake again, which uses the next version.") from None
        return refer([operation])

    def get(self, name: str) -> sdk.compute.Image:
        """Return an image. NotFoundError: no such image."""
        try:
            image = self.client.ask(f"image {name!r}", self.client.services.images.get, image=naming.image_name(name))
        except NotFoundError:
            raise NotFoundError(f"image {name!r} not found on gcp", next_step="See: ./inv images --cloud gcp") from None
        self._seen[name] = image
        return image

    def find(self, name: str) -> Resource | None:
        """Return an image, or None."""
        try:
            return _resource(self.get(name))
        except NotFoundError:
            return None

    def resources(self, labels: Mapping[str, str]) -> list[Resource]:
        """Return the images with all these labels."""
        pages = self.client.pages("images", self.client.services.images.list, naming.label_filter(labels))
        return [_resource(image) for page in pages for image in page.items]

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of an image; a stable image joins the family of its recipe.

        Uses the image as it was read before, however long ago: its fingerprint detects changed labels.
        """
        what, resource = f"image {name!r}", naming.image_name(name)

        def read() -> sdk.compute.Image:
            image = self._seen.get(name) or self.get(name)
            del self._seen[name]
            return image

        def set_labels(fields: dict[str, object]) -> sdk.compute.Operation:
            send = self.client.services.images.set_labels_unary
            return self.client.relabel(what, send, resource=resource, global_set_labels_request_resource=fields)

        image, now = merge_labels(self.client, what, set_labels, labels, read)
        self._set_family(name, image, now)

    def _set_family(self, name: str, image: sdk.compute.Image, labels: Mapping[str, str]) -> None:
        wanted = naming.family(labels.get("recipe", "")) if labels.get("state") == names.STABLE and labels.get("recipe") else ""
        if wanted and wanted != image.family:
            what, send = f"image {name!r}", self.client.services.images.patch_unary
            operation = self.client.change(what, send, image=naming.image_name(name), image_resource={"family": wanted})
            finish(self.client, what, operation)

    def delete(self, name: str) -> str:
        """Request the deletion of an image and return the operation; "" if it does not exist."""
        try:
            send = self.client.services.images.delete_unary
            return refer([self.client.change(f"image {name!r}", send, image=naming.image_name(name))])
        except NotFoundError:
            return ""


def _family_of(base: Base) -> tuple[str, str]:
    if (base.suite, base.architecture) not in _BASES:
        known = ", ".join(f"{suite}/{architecture}" for suite, architecture in _BASES)
        raise InvalidError(f"base {base.suite}/{base.architecture} is not supported on gcp", next_step=f"Choose one of: {known}.")
    return _BASES[base.suite, base.architecture]


def _resource(image: sdk.compute.Image) -> Resource:
    labels = naming.from_labels(image.labels)
    if (image.deprecated.state or "ACTIVE") != "ACTIVE":  # as `gcloud compute images deprecate` leaves it
        labels["state"] = names.DEPRECATED
    return Resource(
        kind=Kind.IMAGE,
        name=labels.pop("name", image.name),
        state=State.READY if image.status == "READY" else State.PENDING,
        labels=labels,
        created_at=seconds(image.creation_timestamp),
        size_bytes=image.archive_size_bytes or image.disk_size_gb * 2**30,
    )
