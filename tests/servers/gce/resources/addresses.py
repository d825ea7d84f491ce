"""Static external addresses of a region."""

from __future__ import annotations

from tests.servers.gce import checks, quotas
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, in_use, invalid
from tests.servers.gce.operations import Work
from tests.servers.gce.schema import Call
from tests.servers.gce.store import fingerprint, link, parent_of, unlink


@serves("compute.addresses.insert")
def insert(cloud: Cloud, call: Call) -> Json:
    body = call.body
    if body.get("addressType", "EXTERNAL") != "EXTERNAL":
        raise ApiError(400, "unsupportedOperation", "This test server keeps external addresses only")
    checks.labels(body.get("labels", {}), "resource.labels")
    quotas.check(cloud, call["region"], {"STATIC_ADDRESSES": 1})
    path = f"{call.path}/{body['name']}"
    promoted = _promoted(cloud, body["address"]) if "address" in body and path not in cloud.store else ""
    full: Json = {
        "addressType": "EXTERNAL",
        "networkTier": body.get("networkTier", "PREMIUM"),
        "status": "RESERVING",
        "region": link(parent_of(call.path)),
        "labels": body.get("labels", {}),
        "labelFingerprint": fingerprint(body.get("labels", {})),
        **({"description": body["description"]} if "description" in body else {}),
    }
    address = cloud.store.add(path, full, created=cloud.now_text())
    address["address"] = promoted or cloud.next_address()

    def finish() -> None:
        users = _users(cloud, address["address"])
        address.update({"users": users} if users else {}, status="IN_USE" if users else "RESERVED")

    return cloud.begin(call, address, Work(finish=finish, undo=lambda: _remove(cloud, address)))


def _promoted(cloud: Cloud, address: str) -> str:
    """Return an address that an instance has already; nobody can choose another one."""
    if by_address(cloud, address):
        raise invalid("resource.address", address, "The specified IP address is already reserved.")
    if not _users(cloud, address):
        raise invalid(
            "resource.address",
            address,
            "Specified IP address is not allocated to the project or does not belong to the specified scope.",
        )
    return address


def _users(cloud: Cloud, address: str) -> list[str]:
    instances = (instance for _, instance in cloud.store.everywhere(cloud.project, "instances"))
    return [instance["selfLink"] for instance in instances if address in quotas.external_addresses(instance)]


@serves("compute.addresses.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    address = cloud.store.get(call.path)
    if users := address.get("users"):
        raise in_use("address", unlink(address["selfLink"]), unlink(users[0]))
    return cloud.begin(call, address, Work(finish=lambda: _remove(cloud, address)))


def _remove(cloud: Cloud, address: Json) -> None:
    cloud.store.remove(unlink(address["selfLink"]))
    if not _users(cloud, address["address"]):
        cloud.returned_addresses.append(address["address"])


def by_address(cloud: Cloud, address: str) -> Json | None:
    return next((thing for _, thing in cloud.store.everywhere(cloud.project, "addresses") if thing["address"] == address), None)


def take(cloud: Cloud, address: str, field: str, region: str) -> str:
    """Check that a reserved address of the region is free, for an instance that asks for it."""
    thing = by_address(cloud, address)
    if not thing or not thing["selfLink"].endswith(f"/regions/{region}/addresses/{thing['name']}"):
        raise invalid(
            field, address, "The specified external IP address '" + address + "' was not found in region '" + region + "'."
        )
    if thing.get("users"):
        raise ApiError(400, "externalIpAddressInUse", f"External IP address: {address} is already in-use.")
    return address


def mark(cloud: Cloud, instance: Json) -> None:
    """Write down that an instance uses its addresses."""
    for address in quotas.external_addresses(instance):
        if thing := by_address(cloud, address):
            thing.update(status="IN_USE", users=[instance["selfLink"]])


def release(cloud: Cloud, instance: Json, *, static: bool) -> None:
    """Give back the ephemeral addresses of an instance, and with `static` also the reserved ones."""
    for nic in instance["networkInterfaces"]:
        for config in nic.get("accessConfigs", []):
            address = config.get("natIP")
            thing = by_address(cloud, address) if address else None
            if thing and static:
                thing.pop("users", None)
                thing["status"] = "RESERVED"
            elif address and not thing:
                del config["natIP"]
                cloud.returned_addresses.append(address)
