"""Instances: finding them, filters, and the requests that change their state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from tests.servers.ec2 import ids, launch, life, stale, states
from tests.servers.ec2.errors import ApiError, NotServed
from tests.servers.ec2.states import GONE

Filters = dict[str, list[str]]

_VALUES: dict[str, Callable[[Any], Any]] = {
    "architecture": lambda it: it.architecture,
    "availability-zone": lambda it: it.availability_zone,
    "block-device-mapping.volume-id": lambda it: [block.volume_id for block in it.block_device_mapping.values()],
    "client-token": lambda it: it.client_token or "",
    "image-id": lambda it: it.image_id,
    "instance-id": lambda it: it.id,
    "instance-lifecycle": lambda it: it.lifecycle or "",
    "instance-state-code": lambda it: it.state_code,
    "instance-state-name": lambda it: it.state,
    "instance-type": lambda it: it.instance_type,
    "instance.group-id": lambda it: [group.id for group in it.security_groups],
    "instance.group-name": lambda it: [group.name for group in it.security_groups],
    "ip-address": lambda it: it.public_ip or "",
    "key-name": lambda it: it.key_name or "",
    "owner-id": lambda it: it.owner_id,
    "private-ip-address": lambda it: it.private_ip or "",
    "root-device-name": lambda it: it.root_device_name,
    "spot-instance-request-id": lambda it: getattr(it, "spot_instance_request_id", None) or "",
    "state-reason-code": states.reason_code,
    "subnet-id": lambda it: it.subnet_id,
    "vpc-id": lambda it: it.vpc_id,
}
_VALUES["network-interface.group-id"] = _VALUES["instance.group-id"]


def passes(instance: Any, filters: Filters) -> bool:
    """Return whether an instance has, for each filter, one of its values; `*` and `?` are wildcards."""
    return all(_passes(instance, name, values) for name, values in filters.items())


def _passes(instance: Any, name: str, values: list[str]) -> bool:
    tags = instance.ec2_backend.tags.get(instance.id, {})
    if name.startswith("tag:"):
        found = [tags[name[4:]]] if name[4:] in tags else []
    elif name == "tag-key":
        found = list(tags)
    elif name in _VALUES:
        value = _VALUES[name](instance)
        found = value if isinstance(value, list) else [value]
    else:
        raise NotServed(f"DescribeInstances with the filter '{name}'")
    return any(fnmatchcase(str(one), pattern) for one in found for pattern in values)


class Instances:
    """The part of the backend that serves instances."""

    cloud: Any
    reservations: dict[str, Any]

    def all_reservations(self, filters: Filters | None = None) -> list[Any]:
        shown = []
        for reservation in list(self.reservations.values()):
            one = copy.copy(reservation)
            one.instances = [instance for instance in reservation.instances if passes(instance, filters or {})]
            if one.instances:
                shown.append(one)
        return shown

    def get_instance(self, instance_id: str) -> Any:
        for reservation in self.reservations.values():
            for instance in reservation.instances:
                if instance.id == instance_id:
                    return instance
        raise ids.absent(instance_id)

    def get_multi_instances_by_id(self, instance_ids: list[str], filters: Any = None) -> list[Any]:
        found = [self.get_instance(instance_id) for instance_id in instance_ids]
        return [instance for instance in found if passes(instance, _plain(filters))]

    def get_reservations_by_instance_ids(self, instance_ids: list[str], filters: Filters | None = None) -> list[Any]:
        self.get_multi_instances_by_id(instance_ids)
        wanted = {**(filters or {})}
        reservations = [copy.copy(one) for one in self.all_reservations(wanted)]
        for one in reservations:
            one.instances = [instance for instance in one.instances if instance.id in instance_ids]
        return [one for one in reservations if one.instances]

    def all_instances(self, filters: Any = None) -> list[Any]:
        return [instance for one in self.all_reservations(_plain(filters)) for instance in one.instances]

    def all_running_instances(self, filters: Any = None) -> list[Any]:
        return [instance for instance in self.all_instances(filters) if instance.state == "running"]

    def start_all(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Start instances; none when one of them cannot be started. Returns them with their states before."""
        instances = self.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            if instance.state not in ("running", "pending", "stopped"):
                message = f"The instance '{instance.id}' is not in a state from which it can be started."
                raise ApiError("IncorrectInstanceState", message)
            if instance.state == "stopped":
                self._check_spot_start(instance)
                launch.check_start(self, instance)
        before = [(instance, states.shown(instance)) for instance in instances]
        late = self.cloud.take_late()
        stale.note_change(self.cloud, [instance for instance in instances if instance.state == "stopped"])
        for instance in instances:
            if instance.state == "stopped":
                states.set_reason(instance, "", "")
                self.spot_instance_started(instance)  # type: ignore[attr-defined]
                life.power_on(self, instance, late)
        return before

    def _check_spot_start(self, instance: Any) -> None:
        """Refuse to start a Spot instance whose request does not allow it, yet or at all.

        https://github.com/hashicorp/terraform-provider-aws/issues/33399;
        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-interruptions.html: what it has stopped, the service alone starts.
        """
        request = self.request_of(instance)  # type: ignore[attr-defined]
        if request and request.state != "disabled":
            why = "the associated Spot Instance request is not in an appropriate state to support start."
            message = f"You can't start the Spot Instance '{instance.id}' because {why}"
            raise ApiError("IncorrectSpotRequestState", message)

    def stop_all(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Stop instances; none when one of them cannot be stopped."""
        instances = self.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            self._check_stop(instance)
        before = [(instance, states.shown(instance)) for instance in instances]
        stale.note_change(self.cloud, [instance for instance in instances if instance.state == "running"])
        for instance in instances:
            if instance.state == "running":
                states.by_user(instance, self.cloud.now())
                if request := self.request_of(instance):  # type: ignore[attr-defined]
                    request.set_status("marked-for-stop", "The Spot Instance is marked for stopping.")
                life.stop(self, instance)
        return before

    def _check_stop(self, instance: Any) -> None:
        if instance.disable_api_stop:
            message = (
                f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance attribute and try again."
            )
            raise ApiError("OperationNotPermitted", message)
        if self.is_one_time(instance):  # type: ignore[attr-defined]
            # https://github.com/diodonfrost/terraform-aws-lambda-scheduler-stop-start/pull/8
            message = (
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot Instance request. "
                "You can only stop Spot Instances associated with persistent Spot Instance requests."
            )
            raise ApiError("UnsupportedOperation", message)
        if instance.state == "pending":
            # https://github.com/cloud-custodian/cloud-custodian/pull/6014
            message = f"Instance '{instance.id}' cannot be stopped as it has never reached the 'running' state."
            raise ApiError("IncorrectInstanceState", message)
        if instance.state in GONE:
            # https://github.com/ansible-collections/amazon.aws/issues/146
            message = f"This instance '{instance.id}' is not in a state from which it can be stopped."
            raise ApiError("IncorrectInstanceState", message)

    def terminate_all(self, instance_ids: list[str]) -> list[tuple[Any, Any]]:
        """Terminate instances; none when one of them is absent or protected. Terminating twice is no error."""
        instances = self.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            if instance.disable_api_termination:
                # https://github.com/rebuy-de/aws-nuke/issues/279
                message = (
                    f"The instance '{instance.id}' may not be terminated. "
                    "Modify its 'disableApiTermination' instance attribute and try again."
                )
                raise ApiError("OperationNotPermitted", message)
        before = [(instance, states.shown(instance)) for instance in instances]
        for instance in instances:
            if instance.state not in GONE:
                states.by_user(instance, self.cloud.now())
                life.terminate(self, instance)
        return before

    def reboot_instances(self, instance_ids: list[str]) -> list[Any]:
        instances = self.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            if instance.state != "running":
                # the code is that of the list of codes, the text a guess
                message = f"The instance '{instance.id}' is not in a state from which it can be rebooted."
                raise ApiError("IncorrectInstanceState", message)
        for instance in instances:
            life.reboot(self, instance)
        return instances


def _plain(filters: Any) -> Filters:
    """Return filters as a mapping; DescribeInstanceStatus has them as a list."""
    if isinstance(filters, list):
        return {item["name"]: item["values"] for item in filters}
    return filters or {}
