"""IAM, as far as tests need it: which permissions a request needs, and roles that grant some of them.

Permissions: the section "IAM Permissions" of each method, and of the fields of its body, in the reference
(https://cloud.google.com/compute/docs/reference/rest/v1), as https://github.com/iann0036/iam-dataset has read it (gcp/map.json);
for the parts of a new instance https://cloud.google.com/compute/docs/instances/create-start-instance. Guesses: that labels of a
new disk need `disks.setLabels`, that `firewalls.insert` needs `networks.updatePolicy` as its siblings do, and that the name of a
new resource counts in a condition as that of an existing one.
Types and names of resources: https://cloud.google.com/iam/docs/conditions-resource-attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers.gce.catalog import PUBLIC_IMAGES
from tests.servers.gce.errors import Json, forbidden
from tests.servers.gce.schema import Call

_NEEDS: Mapping[str, str] = {
    "addresses.aggregatedList": "addresses.list",
    "addresses.delete": "addresses.delete",
    "addresses.get": "addresses.get",
    "addresses.insert": "addresses.create",
    "disks.aggregatedList": "disks.list",
    "disks.delete": "disks.delete",
    "disks.get": "disks.get",
    "disks.setLabels": "disks.setLabels",
    "firewalls.delete": "firewalls.delete networks.updatePolicy",
    "firewalls.get": "firewalls.get",
    "firewalls.insert": "firewalls.create networks.updatePolicy",
    "firewalls.list": "firewalls.list",
    "firewalls.patch": "firewalls.get firewalls.update networks.updatePolicy",
    "globalOperations.wait": "globalOperations.get",
    "images.delete": "images.delete",
    "images.get": "images.get",
    "images.insert": "images.create",
    "images.list": "images.list",
    "images.patch": "images.get images.update",
    "images.setLabels": "images.setLabels",
    "instances.aggregatedList": "instances.list",
    "instances.delete": "instances.delete",
    "instances.get": "instances.get",
    "instances.getSerialPortOutput": "instances.getSerialPortOutput",
    "instances.insert": "instances.create",
    "instances.resume": "instances.resume",
    "instances.setDiskAutoDelete": "disks.update instances.setDiskAutoDelete",
    "instances.setLabels": "instances.setLabels",
    "instances.setMetadata": "instances.setMetadata",
    "instances.setScheduling": "instances.setScheduling",
    "instances.start": "instances.start",
    "instances.stop": "instances.stop",
    "instances.suspend": "instances.suspend",
    "machineTypes.aggregatedList": "machineTypes.list",
    "machineTypes.get": "machineTypes.get",
    "networks.get": "networks.get",
    "networks.insert": "networks.create",
    "regions.get": "regions.get",
    "regionOperations.wait": "regionOperations.get",
    "zoneOperations.wait": "zoneOperations.get",
    "zones.list": "zones.list",
}
"""The permissions of each method, without `compute.`."""
_TYPES = {"disks": "Disk", "firewalls": "Firewall", "images": "Image", "instances": "Instance"}
"""The collections whose resources conditions can tell apart; a permission on anything else is asked of the project."""
_PROJECT = "cloudresourcemanager.googleapis.com/Project"


@dataclass(frozen=True, slots=True)
class Need:
    """A permission on a resource: its type and full name, as conditions see them."""

    permission: str
    type: str
    name: str


@dataclass(slots=True)
class Role:
    """What a principal may do: the permissions of roles, each with the condition of its binding ("": none); `used` were needed."""

    granted: list[tuple[frozenset[str], str]]
    used: set[str] = field(default_factory=set)

    def permissions(self) -> set[str]:
        return {permission for permissions, _ in self.granted for permission in permissions}

    def check(self, needs: list[Need]) -> None:
        """Raise ApiError for a permission that no binding grants."""
        for need in needs:
            self.used.add(need.permission)
            if not any(need.permission in permissions and _holds(condition, need) for permissions, condition in self.granted):
                raise forbidden(need.permission, need.name)


def needs(call: Call) -> list[Need]:
    """Return what a request needs."""
    if call["project"] in PUBLIC_IMAGES:  # only the owner of a project can grant something in it
        return []
    method = call.method.id.removeprefix("compute.")
    assert method in _NEEDS, f"{method}: look up its permissions in the reference, and enter them in {__name__}"
    own = str(call.body.get("name", "")) or str(call.params.get(call.collection.removesuffix("s"), ""))
    found = [_need(call, permission, own) for permission in _NEEDS[method].split()]
    if method == "instances.insert":
        found += [_need(call, permission, own) for permission in _of_instance(call.body)]
    if method == "images.insert" and "sourceDisk" in call.body:
        disk = str(call.body["sourceDisk"]).partition("/zones/")[2]
        found.append(Need("compute.disks.useReadOnly", _type("disks"), f"projects/{call['project']}/zones/{disk}"))
    return found


def _of_instance(body: Json) -> Iterator[str]:
    disks = [disk.get("initializeParams", {}) for disk in body.get("disks", [])]
    yield from ("disks.create", "subnetworks.use")
    fields = {"metadata": "instances.setMetadata", "tags": "instances.setTags", "labels": "instances.setLabels"}
    yield from (permission for field, permission in fields.items() if body.get(field))
    if any(disk.get("labels") for disk in disks):
        yield "disks.setLabels"
    if any(not _is_public(str(disk.get("sourceImage", ""))) for disk in disks):
        yield "images.useReadOnly"
    outside = [access for nic in body.get("networkInterfaces", []) for access in nic.get("accessConfigs", [])]
    if outside:
        yield "subnetworks.useExternalIp"
    if any(access.get("natIP") for access in outside):
        yield "addresses.use"
    if body.get("serviceAccounts"):
        yield from ("instances.setServiceAccount", "iam.serviceAccounts.actAs")


def _is_public(image: str) -> bool:
    return any(f"projects/{project}/" in image for project in PUBLIC_IMAGES)


def _need(call: Call, permission: str, own: str) -> Need:
    """Return a need of a request about a resource of the name `own` ("": a list, which is asked of the project)."""
    project, (collection, _, verb) = f"projects/{call['project']}", permission.partition(".")
    full = permission if permission.startswith("iam.") else f"compute.{permission}"
    if collection not in _TYPES or not own or verb == "useReadOnly":
        return Need(full, _PROJECT, project)
    place = f"zones/{call['zone']}" if "zone" in call.params else "global"
    return Need(full, _type(collection), f"{project}/{place}/{collection}/{own}")


def _type(collection: str) -> str:
    return f"compute.googleapis.com/{_TYPES[collection]}"


class _Text(str):
    """A string of the Common Expression Language (https://cloud.google.com/iam/docs/conditions-overview)."""

    __slots__ = ()

    def startsWith(self, prefix: str) -> bool:  # noqa: N802
        return self.startswith(prefix)

    def extract(self, template: str) -> _Text:
        """Return what stands at the `{name}` that ends a template, up to the next slash; "" if the text before it is missing."""
        before = template.partition("{")[0]
        return _Text(self.partition(before)[2].partition("/")[0])


@dataclass(frozen=True, slots=True)
class _Resource:
    type: str
    name: _Text


def _holds(condition: str, need: Need) -> bool:
    """Evaluate a condition: CEL is close enough to Python, once its operators are spelled so."""
    if not condition:
        return True
    text = re.sub(r"!(?!=)", " not ", condition.replace("||", " or ").replace("&&", " and "))
    names: dict[str, Any] = {"resource": _Resource(need.type, _Text(need.name)), "__builtins__": {}}
    return bool(eval(f"({text})", names))
