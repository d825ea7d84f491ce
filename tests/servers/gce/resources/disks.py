"""Disks."""

from __future__ import annotations

from dataclasses import dataclass

from tests.servers.gce import checks, quotas
from tests.servers.gce.catalog import region_of
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, in_use, invalid
from tests.servers.gce.links import IMAGE_FAMILY, absolute, found
from tests.servers.gce.operations import Work
from tests.servers.gce.resources.images import newest_of_family
from tests.servers.gce.schema import Call
from tests.servers.gce.store import fingerprint, link, name_of, parent_of, unlink

SMALLEST_GB = 10
LARGEST_GB = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlan:
    """A disk to make, checked."""

    path: str
    type: str
    size_gb: int
    image: str
    labels: dict[str, str]
    description: str = ""


def plan(cloud: Cloud, call: Call, name: str, wanted: Json, fields: dict[str, str], *, with_instance: bool = False) -> DiskPlan:
    """Check what a disk is to be like; `fields` tells under which names the request says so.

    References to nothing are refused in other words when the disk is made with an instance (`with_instance`).
    """
    zone = f"zones/{call['zone']}"
    path = f"projects/{cloud.project}/{zone}/disks/{name}"
    absent_image = "image" if with_instance and cloud.switches.missing_image_status == 400 else ""
    image = image_path(cloud, wanted["image"], fields["image"], absent_image) if wanted.get("image") else ""
    least_gb = int(cloud.store.get(image)["diskSizeGb"]) if image else SMALLEST_GB
    size_gb = int(wanted.get("size") or (least_gb if image else 500))
    if size_gb < least_gb:
        raise invalid(fields["size"], size_gb, f"Requested disk size cannot be smaller than the image size ({least_gb} GB)")
    if not SMALLEST_GB <= size_gb <= LARGEST_GB:
        raise invalid(fields["size"], size_gb, f"Disk size must be between {SMALLEST_GB} and {LARGEST_GB} GB.")
    checks.labels(wanted.get("labels", {}), fields["labels"])
    kind = wanted.get("type") or f"{zone}/diskTypes/pd-standard"
    kind = found(
        cloud.store,
        kind,
        fields["type"],
        project=cloud.project,
        collection="diskTypes",
        scope=zone,
        absent_kind="diskType" if with_instance else "",
    )
    return DiskPlan(
        path=path,
        type=kind,
        size_gb=size_gb,
        image=image,
        labels=wanted.get("labels", {}),
        description=wanted.get("description", ""),
    )


def image_path(cloud: Cloud, reference: str, field: str, absent_kind: str = "") -> str:
    """Return the path of the image behind a URL, also that of a family; raises ApiError 400 or 404 (see `found`).

    A family without an image is 404 for an instance, too: https://github.com/googlecodelabs/feedback/issues/463.
    """
    if family := IMAGE_FAMILY.fullmatch(absolute(reference, cloud.project)):
        return unlink(newest_of_family(cloud, family[1], family[2])["selfLink"])
    path = found(cloud.store, reference, field, project=cloud.project, collection="images", absent_kind=absent_kind)
    image = cloud.store.get(path)
    state = image.get("deprecated", {}).get("state")
    if state in ("OBSOLETE", "DELETED"):
        raise invalid(field, reference, f"The resource '{path}' is {state.lower()}.")
    if image["status"] != "READY":
        raise ApiError(400, "resourceNotReady", f"The resource '{path}' is not ready")
    return path


def create(cloud: Cloud, wanted: DiskPlan, *, status: str = "CREATING") -> Json:
    """Put a planned disk into the store."""
    body: Json = {
        "status": status,
        "sizeGb": str(wanted.size_gb),
        "type": link(wanted.type),
        "zone": link(parent_of(parent_of(wanted.path))),
        "labelFingerprint": fingerprint(wanted.labels),
        "physicalBlockSizeBytes": "4096",
    }
    if wanted.labels:
        body["labels"] = wanted.labels
    if wanted.description:
        body["description"] = wanted.description
    if wanted.image:
        image = cloud.store.get(wanted.image)
        body.update(sourceImage=link(wanted.image), sourceImageId=image["id"])
        body.update({key: image[key] for key in ("licenses", "guestOsFeatures", "architecture") if key in image})
    return cloud.store.add(wanted.path, body, created=cloud.now_text())


def remove(cloud: Cloud, path: str) -> None:
    cloud.vms.delete_disk(path)
    cloud.store.remove(path)


@serves("compute.disks.insert")
def insert(cloud: Cloud, call: Call) -> Json:
    body = call.body
    wanted = {
        "image": call.params.get("sourceImage") or body.get("sourceImage"),
        "size": body.get("sizeGb"),
        "type": body.get("type"),
        "labels": body.get("labels", {}),
        "description": body.get("description", ""),
    }
    fields = {"image": "resource.sourceImage", "size": "resource.sizeGb", "type": "resource.type", "labels": "resource.labels"}
    planned = plan(cloud, call, body["name"], wanted, fields)
    quotas.check(cloud, region_of(call["zone"]), quotas.disk_amount(name_of(planned.type), planned.size_gb))
    disk = create(cloud, planned)
    work = Work(
        start=lambda: cloud.vms.create_disk(planned.path, planned.size_gb, planned.image),
        finish=lambda: disk.update(status="READY"),
        undo=lambda: cloud.store.remove(planned.path),
    )
    return cloud.begin(call, disk, work)


@serves("compute.disks.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    disk = cloud.store.get(call.path)
    path = unlink(disk["selfLink"])
    if users := disk.get("users"):
        raise in_use("disk", path, unlink(users[0]))
    return cloud.begin(call, disk, Work(finish=lambda: remove(cloud, path)))


@serves("compute.disks.resize")
def resize(cloud: Cloud, call: Call) -> Json:
    disk = cloud.store.get(parent_of(call.path))
    size_gb = int(call.body.get("sizeGb", 0))
    if size_gb <= int(disk["sizeGb"]):
        raise invalid("sizeGb", size_gb, f"New disk size '{size_gb}' GB must be larger than existing size '{disk['sizeGb']}' GB.")
    return cloud.begin(call, disk, Work(finish=lambda: disk.update(sizeGb=str(size_gb))))


def by_reference(cloud: Cloud, reference: str, field: str, zone: str, absent_kind: str = "") -> Json:
    """Return the disk behind a URL of a zone; raises ApiError."""
    path = found(
        cloud.store,
        reference,
        field,
        project=cloud.project,
        collection="disks",
        scope=f"zones/{zone}",
        absent_kind=absent_kind,
    )
    return cloud.store.get(path)


def users_of(disk: Json) -> list[str]:
    return [unlink(user) for user in disk.get("users", [])]
