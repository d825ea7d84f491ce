"""Images on Compute Engine: bases by family from the project that owns them, and ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clouds import names
from clouds.driver import Base, BaseImage, Kind, Resource, State
from clouds.errors import ConflictError, InvalidError, NotFoundError
from clouds.gcp import naming
from clouds.gcp.calls import Calls
from clouds.gcp.instances import seconds
from clouds.gcp.labelling import lay
from clouds.gcp.operations import finish, refer
from clouds.home import write_private

_BASES = {
    ("trixie", "amd64"): ("debian-cloud", "debian-13"),
    ("noble", "amd64"): ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64"),
}
"""Suite and architecture: the project that owns the image, and its family (cloud.google.com/compute/docs/images/os-details)."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a project; `kept` is the file that remembers which base a suite stood for."""

    calls: Calls
    region: str
    kept: Path
    _seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def resolve(self, base: Base, *, refresh: bool) -> BaseImage:
        """Return the newest image of a base's family, or the one that it was when it was asked for last."""
        owner, family = _family_of(base)
        known: dict[str, dict[str, Any]] = json.loads(self.kept.read_text(encoding="utf-8")) if self.kept.exists() else {}
        if refresh or family not in known:
            what = f"base {base.suite}: newest image of family {family} of {owner}"
            image = self.calls.get(what, f"global/images/family/{family}", project=owner)
            known[family] = {"name": image["name"], "disk_gb": int(image["diskSizeGb"])}
            self.kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.kept, json.dumps(known))
        found = known[family]
        return BaseImage(f"projects/{owner}/global/images/{found['name']}", owner, base, found["disk_gb"])

    def snapshot(self, instance: Mapping[str, Any], image: str, labels: Mapping[str, str]) -> str:
        """Ask for an image of an instance's boot disk and return the operation. ConflictError: the name is taken."""
        disk = next(disk["source"] for disk in instance["disks"] if disk.get("boot"))
        body = {
            "name": naming.image_name(image),
            "sourceDisk": disk[disk.index("projects/") :],
            "labels": naming.to_labels({**labels, "name": image}),
            "storageLocations": [self.region],
            "description": f"Baked by Bakehouse: {image}",
        }
        try:
            operation = self.calls.change(f"image {image}", "global/images", body)
        except ConflictError:
            raise ConflictError(f"image {image}: the name is taken", next_step="Bake again, for the next version.") from None
        return refer([operation])

    def get(self, name: str) -> dict[str, Any]:
        """Return an image. NotFoundError: there is none."""
        try:
            self._seen[name] = image = self.calls.get(f"image {name}", _path(name))
            return image
        except NotFoundError:
            raise NotFoundError(f"image {name}: there is none", next_step="See: ./inv images --cloud gcp") from None

    def find(self, name: str) -> Resource | None:
        """Return an image, or None."""
        try:
            return _resource(self.get(name))
        except NotFoundError:
            return None

    def resources(self, labels: Mapping[str, str]) -> list[Resource]:
        """Return the images that carry all these labels."""
        pages = self.calls.pages("images", "global/images", naming.label_filter(labels))
        return [_resource(image) for page in pages for image in page.get("items", ())]

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those of an image; one that becomes stable joins the family of its recipe.

        What was read of it before serves, however old it is: the fingerprint tells whether its labels are still those.
        """

        def read() -> dict[str, Any]:
            image = self._seen.get(name) or self.get(name)
            del self._seen[name]
            return image

        image, now = lay(self.calls, f"image {name}", _path(name), labels, read)
        self._set_family(name, image, now)

    def _set_family(self, name: str, image: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        wanted = naming.family(labels.get("recipe", "")) if labels.get("state") == names.STABLE and labels.get("recipe") else ""
        if wanted and wanted != image.get("family", ""):
            operation = self.calls.change(f"image {name}", _path(name), {"family": wanted}, method="PATCH")
            finish(self.calls, f"image {name}", operation)

    def delete(self, name: str) -> str:
        """Ask for the removal of an image and return the operation; "" when it is gone."""
        try:
            return refer([self.calls.change(f"image {name}", _path(name), method="DELETE")])
        except NotFoundError:
            return ""


def _path(name: str) -> str:
    """Return the part of an image's URL behind the project."""
    return f"global/images/{naming.image_name(name)}"


def _family_of(base: Base) -> tuple[str, str]:
    if (base.suite, base.architecture) not in _BASES:
        known = ", ".join(f"{suite}/{architecture}" for suite, architecture in _BASES)
        raise InvalidError(
            f"base {base.suite}/{base.architecture}: Google Cloud has no image of it", next_step=f"Choose one of: {known}."
        )
    return _BASES[base.suite, base.architecture]


def _resource(image: Mapping[str, Any]) -> Resource:
    labels = naming.from_labels(image.get("labels", {}))
    if image.get("deprecated", {}).get("state", "ACTIVE") != "ACTIVE":  # as `gcloud compute images deprecate` leaves it
        labels["state"] = names.DEPRECATED
    return Resource(
        kind=Kind.IMAGE,
        name=labels.pop("name", image["name"]),
        state=State.READY if image.get("status") == "READY" else State.PENDING,
        labels=labels,
        created_at=seconds(image.get("creationTimestamp", "")),
        size_bytes=int(image.get("archiveSizeBytes", 0)) or int(image.get("diskSizeGb", 0)) * 2**30,
    )
