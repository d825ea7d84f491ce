"""RunInstances: what it checks, where it puts the instances, and what it makes.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES

from tests.servers.ec2 import spot, tag_rules
from tests.servers.ec2.errors import (
    ApiError,
    NotServed,
    insufficient_capacity,
    invalid_combination,
    invalid_value,
    missing,
    vcpu_limit,
)
from tests.servers.ec2.images import unavailable_image
from tests.servers.ec2.states import GONE

USER_DATA_BYTES = 16_384
TAGGABLE = ("instance", "volume", "network-interface", "spot-instances-request", "elastic-gpu")
"""https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html, TagSpecification.N."""

Tree = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a request comes to: how many instances, where, from which image, with which disks."""

    image: Any
    instance_type: str
    subnet: Any
    count: int
    mappings: list[Tree]
    spot: spot.Options | None


def plan(backend: Any, tree: Tree) -> Plan:
    """Check a request, and say what it comes to; raises ApiError. Nothing is made."""
    if "LaunchTemplate" in tree:
        raise NotServed("RunInstances with a launch template")
    least, most = tree["MinCount"], tree["MaxCount"]
    if least < 1 or most < least:
        raise invalid_value(
            "The maximum number of instances must be equal to or greater than the minimum number, which is at least 1."
        )
    image = _image(backend, tree)
    kind = tree.get("InstanceType", "m1.small")
    options = spot.options_of(tree)
    _check_architecture(kind, image)
    check_user_data(tree.get("UserData", ""))
    _check_key(backend, tree)
    tag_rules.check(tree, *TAGGABLE)
    _check_profile(backend, tree)
    mappings = _mappings(image, tree)
    subnet = _place(backend, tree, kind, least)
    _check_groups(backend, tree, subnet)
    zone = subnet.availability_zone
    if options:
        backend.check_price(options, kind, zone)
    _check_quota(backend, kind, most, is_spot=options is not None)
    room = backend.cloud.switches.capacity.get((kind, zone), most)
    return Plan(image=image, instance_type=kind, subnet=subnet, count=min(most, room), mappings=mappings, spot=options)


def _image(backend: Any, tree: Tree) -> Any:
    if "ImageId" not in tree:
        raise missing("ImageId")
    image_id = tree["ImageId"]
    if image_id.startswith("resolve:ssm:"):
        name = image_id.removeprefix("resolve:ssm:")
        parameters = backend.cloud.parameters.get(backend.region_name, {})
        if name not in parameters:
            raise invalid_value(f"Parameter {name} not found.")
        image_id = parameters[name]
    image = backend.get_image(image_id)
    if image.owner_id != backend.account_id and not image.is_public:
        raise ApiError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    if image.state != "available":
        raise unavailable_image(image)
    return image


def _check_architecture(kind: str, image: Any) -> None:
    if kind not in INSTANCE_TYPES:
        raise invalid_value(f"Invalid value '{kind}' for InstanceType.")
    known = INSTANCE_TYPES[kind]["ProcessorInfo"]["SupportedArchitectures"]
    if image.architecture not in known:
        # https://github.com/skypilot-org/skypilot/issues/6315
        raise invalid_value(
            f"The architecture '{','.join(known)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching architectures, "
            "and try again. You can use 'describe-instance-types' or 'describe-images' to discover the architecture of the "
            "instance type or AMI."
        )


def check_user_data(data: str) -> None:
    """Check user data as on the wire, in base64; the limit is that of the raw bytes."""
    try:
        raw = base64.b64decode(data, validate=True)
    except binascii.Error:
        # https://github.com/aws/aws-cli/issues/19
        raise invalid_value("Invalid BASE64 encoding of user data") from None
    if len(raw) > USER_DATA_BYTES:
        # https://github.com/dask/dask-cloudprovider/issues/249
        raise invalid_value(f"User data is limited to {USER_DATA_BYTES} bytes")


def _check_key(backend: Any, tree: Tree) -> None:
    name = tree.get("KeyName")
    if name is not None and name not in backend.key_pairs:
        # https://github.com/hashicorp/vault-guides/issues/260
        raise ApiError("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")


def _check_profile(backend: Any, tree: Tree) -> None:
    """Refuse an instance profile that moto's IAM does not know: https://github.com/CiscoDevNet/cloud-cml/issues/4.

    An empty name stands for none, as an empty zone and subnet do: Packer sends all three where its template names none
    (https://github.com/hashicorp/packer/blob/v1.6.6/builder/amazon/common/step_run_source_instance.go).
    """
    from moto.iam.models import iam_backends

    profile = tree.get("IamInstanceProfile", {})
    known = iam_backends[backend.account_id]["aws"].instance_profiles.values() if profile else ()
    for name, attribute in (("Name", "name"), ("Arn", "arn")):
        value = profile.get(name)
        if value and value not in {getattr(one, attribute) for one in known}:
            what = f"Invalid IAM Instance Profile {'name' if name == 'Name' else 'ARN'}"
            raise invalid_value(f"Value ({value}) for parameter iamInstanceProfile.{attribute} is invalid. {what}")


def _mappings(image: Any, tree: Tree) -> list[Tree]:
    """Return the disks: those of the image, changed and added to by the request; raises ApiError."""
    found = {mapping["DeviceName"]: dict(mapping["Ebs"]) for mapping in image.mappings}
    for given in tree.get("BlockDeviceMappings", []):
        device = given.get("DeviceName")
        if device is None:
            raise missing("DeviceName")
        if "NoDevice" in given:
            found.pop(device, None)
            continue
        ebs = given.get("Ebs", {})
        # whether another disk is kept by default, the documents do not say: the server keeps it, so that one forgotten shows
        known = found.get(device, {"DeleteOnTermination": False, "VolumeType": "gp2", "Encrypted": False})
        if not ebs.get("SnapshotId") and not known.get("SnapshotId") and "VolumeSize" not in ebs:
            # https://github.com/nortontruter/infracoders-workshop/pull/3
            message = f"Either snapshot ID or volume size must be provided for: {device}"
            raise ApiError("InvalidBlockDeviceMapping", message)
        _check_size(ebs, known)
        found[device] = {**known, **ebs}
    if image.root_device_name not in found:
        raise ApiError("InvalidBlockDeviceMapping", f"The root device {image.root_device_name} must have a volume.")
    return [{"DeviceName": device, "Ebs": ebs} for device, ebs in found.items()]


def _check_size(ebs: Tree, known: Tree) -> None:
    size, least = ebs.get("VolumeSize"), known.get("VolumeSize", 0)
    if size is not None and known.get("SnapshotId") and size < least:
        # https://github.com/scylladb/scylla-cluster-tests/issues/2484
        message = f"Volume of size {size}GB is smaller than snapshot '{known['SnapshotId']}', expect size >= {least}GB"
        raise ApiError("InvalidBlockDeviceMapping", message)


def _place(backend: Any, tree: Tree, kind: str, least: int) -> Any:
    """Return the subnet that the instances go to; raises ApiError."""
    nics = tree.get("NetworkInterfaces", [])
    if nics and (tree.get("SecurityGroupIds") or tree.get("SecurityGroups")):
        # https://github.com/aws/aws-sdk-php/issues/601
        message = "Network interfaces and an instance-level security groups may not be specified on the same request"
        raise invalid_combination(message)
    subnet_id = tree.get("SubnetId") or next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
    zone = tree.get("Placement", {}).get("AvailabilityZone") or None
    if subnet_id:
        subnet = backend.get_subnet(subnet_id)
        if zone not in (None, subnet.availability_zone):
            # https://github.com/InQuicker/kaws/pull/11
            where = f"Subnet '{subnet.id}' is in the availability zone {subnet.availability_zone}"
            raise invalid_value(f"Value ({zone}) for parameter availabilityZone is invalid. {where}")
        _check_zone(backend, kind, subnet.availability_zone, least)
        return subnet
    subnets = {subnet.availability_zone: subnet for subnet in backend.describe_subnets(filters={"default-for-az": ["true"]})}
    if not subnets:
        # https://github.com/ryanmurakami/hbfl/issues/40
        raise ApiError("VPCIdNotSpecified", "No default VPC for this user")
    if zone:
        if zone not in {known.name for known in backend.describe_availability_zones()}:
            raise invalid_value(f"Invalid availability zone: [{zone}]")
        _check_zone(backend, kind, zone, least)
        return subnets[zone]
    return _any_zone(backend, subnets, kind, least)


def _check_zone(backend: Any, kind: str, zone: str, least: int) -> None:
    offered = _zones_with(backend, kind)
    if zone not in offered:
        # https://github.com/skyplane-project/skyplane/issues/172
        raise ApiError(
            "Unsupported",
            f"Your requested instance type ({kind}) is not supported in your requested Availability Zone ({zone}). "
            f"Please retry your request by not specifying an Availability Zone or choosing {', '.join(offered)}.",
        )
    capacity = backend.cloud.switches.capacity
    if capacity.get((kind, zone), least) < least:
        others = [other for other in offered if capacity.get((kind, other), least) >= least]
        raise insufficient_capacity(kind, zone, *others)


def _any_zone(backend: Any, subnets: dict[str, Any], kind: str, least: int) -> Any:
    capacity = backend.cloud.switches.capacity
    offered = [zone for zone in _zones_with(backend, kind) if zone in subnets]
    for zone in offered:
        if capacity.get((kind, zone), least) >= least:
            return subnets[zone]
    if not offered:
        raise ApiError("Unsupported", "The requested configuration is currently not supported. Please check the documentation.")
    raise ApiError("InsufficientInstanceCapacity", f"There is no Spot or On-Demand capacity for {kind} in {backend.region_name}.")


def _zones_with(backend: Any, kind: str) -> list[str]:
    offers = INSTANCE_TYPE_OFFERINGS["availability-zone"].get(backend.region_name, [])
    return sorted(offer["Location"] for offer in offers if offer["InstanceType"] == kind)


def _check_groups(backend: Any, tree: Tree, subnet: Any) -> None:
    if tree.get("SecurityGroups") and tree.get("SubnetId"):
        # https://github.com/aws/aws-cli/issues/5679
        raise invalid_combination("The parameter groupName cannot be used with the parameter subnet")
    for name in tree.get("SecurityGroups", []):
        if backend.get_security_group_from_name(name, subnet.vpc_id) is None:
            # https://github.com/aws/aws-cli/issues/5348
            message = f"The security group '{name}' does not exist in default VPC '{subnet.vpc_id}'"
            raise ApiError("InvalidGroup.NotFound", message)
    named = [
        *tree.get("SecurityGroupIds", []),
        *(group for nic in tree.get("NetworkInterfaces", []) for group in nic.get("Groups", [])),
    ]
    for group_id in named:
        group = backend.get_security_group_from_id(group_id)
        if group is None:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist")
        if group.vpc_id != subnet.vpc_id:
            # https://github.com/ansible/ansible-modules-core/issues/347
            raise ApiError("InvalidParameter", f"Security group {group_id} and subnet {subnet.id} belong to different networks.")


def _check_quota(backend: Any, kind: str, count: int, *, is_spot: bool) -> None:
    """Refuse more vCPUs than the quota; stopped instances do not count."""
    of = {True: 0, False: 0}
    for instance in backend.all_instances():
        if instance.state not in ("stopping", "stopped", *GONE):
            of[instance.lifecycle == "spot"] += vcpus(instance.instance_type)
    wanted = vcpus(kind) * count
    switches = backend.cloud.switches
    if is_spot:
        spot.check_spot_quota(of[True], wanted, switches.spot_vcpus)
    elif of[False] + wanted > switches.vcpus:
        raise vcpu_limit(switches.vcpus)


def cpu_options(kind: str) -> dict[str, int]:
    """Return the processors of an instance: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CpuOptions.html."""
    found = INSTANCE_TYPES[kind]["VCpuInfo"]
    return {"CoreCount": int(found["DefaultCores"]), "ThreadsPerCore": int(found["DefaultThreadsPerCore"])}


def vcpus(kind: str) -> int:
    return int(INSTANCE_TYPES[kind]["VCpuInfo"]["DefaultVCpus"])


def check_start(backend: Any, instance: Any) -> None:
    """Refuse to start a stopped instance without quota or capacity; raises ApiError."""
    _check_quota(backend, instance.instance_type, 1, is_spot=instance.lifecycle == "spot")
    _check_zone(backend, instance.instance_type, instance.availability_zone, 1)
