"""Security groups, addresses, subnets, networks: what depends on what, quotas, and which ports are open."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from tests.servers.ec2.errors import ApiError, dependency
from tests.servers.ec2.states import GONE


class Network:
    """The part of the backend that serves networks."""

    cloud: Any
    addresses: list[Any]
    enis: dict[str, Any]
    groups: dict[str, dict[str, Any]]
    vpcs: dict[str, Any]

    def delete_security_group(self, name: str | None = None, group_id: str | None = None) -> None:
        """Delete a group that nothing uses; raises ApiError."""
        group = self._named_group(name, group_id)
        if group is None:
            raise ApiError("InvalidGroup.NotFound", f"The security group '{group_id or name}' does not exist")
        if group.name == "default":
            message = f'the specified group: "{group.id}" name: "default" cannot be deleted by a user'
            raise ApiError("CannotDelete", message)
        users = [nic for nic in self.enis.values() if group.id in {used.id for used in nic.group_set}]
        if users or any(group.id in _groups_in(other) for other in self._all_groups() if other is not group):
            raise dependency(group.id)
        super().delete_security_group(group_id=group.id)  # type: ignore[misc]

    def _named_group(self, name: str | None, group_id: str | None) -> Any:
        return next((group for group in self._all_groups() if group.id == group_id or (name and group.name == name)), None)

    def _all_groups(self) -> Iterator[Any]:
        for groups in self.groups.values():
            yield from groups.values()

    def allocate_address(self, domain: str, address: str | None = None, tags: dict[str, str] | None = None) -> Any:
        limit = self.cloud.switches.addresses
        if len(self.addresses) >= limit:
            # https://github.com/opstrace/opstrace/issues/273
            raise ApiError("AddressLimitExceeded", "The maximum number of addresses has been reached.")
        return super().allocate_address("vpc", address or self.cloud.next_address(), tags)  # type: ignore[misc]

    def release_address(self, address: str | None = None, allocation_id: str | None = None) -> None:
        """Release an address; in a default VPC whatever uses it loses it, in others such a one is refused.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html
        """
        found = [one for one in self.addresses if allocation_id == one.allocation_id or (address and one.public_ip == address)]
        if not found:
            message = f"The allocation ID '{allocation_id}' does not exist"
            raise ApiError("InvalidAllocationID.NotFound", message)
        if found[0].association_id and not self._is_in_default_network(found[0]):
            raise ApiError("InvalidIPAddress.InUse", f"Address {found[0].public_ip} is in use.")
        super().release_address(found[0].public_ip)  # type: ignore[misc]
        self.cloud.returned_addresses.append(found[0].public_ip)

    def _is_in_default_network(self, address: Any) -> bool:
        vpc = self.vpcs[address.eni.subnet.vpc_id]
        return str(vpc.is_default).lower() == "true"

    def associate_address(self, instance: Any = None, **more: Any) -> Any:
        """Give an address to an instance; raises ApiError for one that is pending or has ended.

        https://github.com/hashicorp/terraform-provider-aws/pull/3072, .../cloudposse/terraform-aws-ec2-instance/issues/95
        """
        if instance is not None and instance.state in ("pending", *GONE):
            message = f"The {instance.state} instance '{instance.id}' is not in a valid state for this operation."
            raise ApiError("InvalidInstanceID", message)
        return super().associate_address(instance=instance, **more)  # type: ignore[misc]

    def delete_subnet(self, subnet_id: str) -> Any:
        if any(nic.subnet.id == subnet_id for nic in self.enis.values()):
            # https://github.com/chef-boneyard/chef-provisioning-aws/issues/498
            message = f"The subnet '{subnet_id}' has dependencies and cannot be deleted."
            raise ApiError("DependencyViolation", message)
        return super().delete_subnet(subnet_id)  # type: ignore[misc]

    def is_open(self, instance: Any, port: int, source: str) -> bool:
        """Return whether the rules of an instance's groups let an address reach a TCP port."""
        nics = instance.nics.values()
        return any(_lets_in(rule, port, source) for nic in nics for group in nic.group_set for rule in group.ingress_rules)


def _groups_in(group: Any) -> set[str]:
    """Return the ids of the groups that the rules of a group refer to."""
    return {rule.source_group.get("GroupId", "") for rule in [*group.ingress_rules, *group.egress_rules]}


def _lets_in(rule: Any, port: int, source: str) -> bool:
    if str(rule.ip_protocol) not in ("-1", "tcp", "6"):
        return False
    if str(rule.ip_protocol) != "-1" and not int(rule.from_port) <= port <= int(rule.to_port):
        return False
    cidr = rule.ip_range.get("CidrIp")
    return bool(cidr) and ipaddress.ip_address(source) in ipaddress.ip_network(cidr)
