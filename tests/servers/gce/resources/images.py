"""Images."""

from __future__ import annotations

from tests.servers.gce import checks
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import Json, bad_usage, in_use, not_found
from tests.servers.gce.links import found
from tests.servers.gce.operations import Work
from tests.servers.gce.schema import Call
from tests.servers.gce.store import Store, fingerprint, link, parent_of, unlink

SOURCES = ("sourceDisk", "sourceImage", "sourceSnapshot", "rawDisk")
_KEPT = (
    "description",
    "family",
    "labels",
    "licenses",
    "guestOsFeatures",
    "architecture",
    "storageLocations",
    "shieldedInstanceInitialState",
)


def newest_of_family(cloud: Cloud, project: str, family: str) -> Json:
    """Return the newest image of a family that is ready and not deprecated."""
    images = [
        image
        for image in cloud.store.children(f"projects/{project}/global/images")
        if image.get("family") == family and image["status"] == "READY" and is_active(image)
    ]
    if not images:
        raise not_found(f"projects/{project}/global/images/family/{family}")
    return max(images, key=lambda image: (image["creationTimestamp"], int(image["id"])))


def is_active(image: Json) -> bool:
    return bool(image.get("deprecated", {}).get("state", "ACTIVE") == "ACTIVE")


@serves("compute.images.getFromFamily")
def get_from_family(cloud: Cloud, call: Call) -> Json:
    return newest_of_family(cloud, call["project"], call["family"])


@serves("compute.imageFamilyViews.get")
def get_family_view(cloud: Cloud, call: Call) -> Json:
    return {"image": newest_of_family(cloud, call["project"], call["family"])}


@serves("compute.images.insert")
def insert(cloud: Cloud, call: Call) -> Json:
    body = call.body
    given = [name for name in SOURCES if name in body]
    if len(given) != 1:
        raise bad_usage("Must specify exactly one source for an image.")
    checks.labels(body.get("labels", {}), "resource.labels")
    if "family" in body:
        checks.name(body["family"], "resource.family")
    source = _source(cloud, given[0], body)
    if given[0] == "sourceDisk" and not call.params.get("forceCreate"):
        _check_unused(cloud.store, source)
    path = f"{call.path}/{body['name']}"
    image = cloud.store.add(path, _new(body, given[0], source), created=cloud.now_text())
    work = Work(
        start=lambda: cloud.vms.copy_disk(unlink(source["selfLink"]), path),
        finish=lambda: image.update(status="READY", archiveSizeBytes="734003200"),
        undo=lambda: cloud.store.remove(path),
    )
    return cloud.begin(call, image, work)


def _source(cloud: Cloud, kind: str, body: Json) -> Json:
    if kind not in ("sourceDisk", "sourceImage"):
        raise bad_usage(f"This test server makes no image from {kind}")
    collection = {"sourceDisk": "disks", "sourceImage": "images"}[kind]
    return cloud.store.get(found(cloud.store, body[kind], f"resource.{kind}", project=cloud.project, collection=collection))


def _check_unused(store: Store, disk: Json) -> None:
    """Refuse a disk that is attached to an instance that is on."""
    for user in disk.get("users", []):
        if store.get(unlink(user))["status"] not in ("TERMINATED", "SUSPENDED"):
            raise in_use("disk", unlink(disk["selfLink"]), unlink(user))


def _new(body: Json, kind: str, source: Json) -> Json:
    image: Json = {key: source[key] for key in ("licenses", "guestOsFeatures", "architecture") if key in source}
    image |= {key: body[key] for key in _KEPT if key in body}
    size_gb = source.get("sizeGb") or source["diskSizeGb"]
    image.update({kind: source["selfLink"], f"{kind}Id": source["id"]}, status="PENDING", sourceType="RAW", diskSizeGb=size_gb)
    image.setdefault("storageLocations", ["us"])
    image["labelFingerprint"] = fingerprint(body.get("labels", {}))
    return image


@serves("compute.images.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    image = cloud.store.get(call.path)
    path = unlink(image["selfLink"])

    def finish() -> None:
        cloud.vms.delete_image(path)
        cloud.store.remove(path)

    return cloud.begin(call, image, Work(finish=finish, begun=lambda: image.update(status="DELETING")))


@serves("compute.images.deprecate")
def deprecate(cloud: Cloud, call: Call) -> Json:
    image = cloud.store.get(parent_of(call.path))
    status = dict(call.body)
    if "replacement" in status:
        replacement = found(cloud.store, status["replacement"], "resource.replacement", project=cloud.project, collection="images")
        status["replacement"] = link(replacement)

    def finish() -> None:
        image.pop("deprecated", None)
        if status.get("state", "ACTIVE") != "ACTIVE":
            image["deprecated"] = status

    return cloud.begin(call, image, Work(finish=finish))


@serves("compute.images.patch")
def patch(cloud: Cloud, call: Call) -> Json:
    """Change description, family or deprecation; the service takes no other field."""
    image = cloud.store.get(call.path)
    allowed = {key: value for key, value in call.body.items() if key in ("description", "family", "deprecated", "name")}
    if extra := sorted(call.body.keys() - allowed.keys() - {"labels", "labelFingerprint"}):
        raise bad_usage(f"Cannot patch {extra[0]} of an image")
    if "family" in allowed:
        checks.name(allowed["family"], "resource.family")
    return cloud.begin(call, image, Work(finish=lambda: image.update(allowed)))
