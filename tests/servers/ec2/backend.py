"""moto's EC2 backend, made strict: the class that moto makes for each account and region from now on."""

from __future__ import annotations

from typing import Any

from moto.ec2 import models
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ssm.models import Parameter, ssm_backends

from tests.servers.ec2 import catalog, tag_rules
from tests.servers.ec2.cloud import CLOUDS
from tests.servers.ec2.errors import ApiError, invalid_value
from tests.servers.ec2.images import Images
from tests.servers.ec2.instances import Instances
from tests.servers.ec2.network import Network
from tests.servers.ec2.spot import Spot
from tests.servers.ec2.volumes import Volumes
from tests.servers.vm import Done


class StrictBackend(Instances, Images, Volumes, Spot, Network, EC2Backend):  # type: ignore[misc]
    """One region of one account."""

    def __init__(self, region_name: str, account_id: str) -> None:
        self.cloud = CLOUDS[account_id]
        self.disks: dict[str, Done] = {}
        super().__init__(region_name, account_id)
        self.cloud.backends[region_name] = self
        if not self.cloud.has_default_vpc:
            _remove_default_network(self)
        _seed_parameters(self)

    def create_tags(self, resource_ids: list[str], tags: dict[str, str]) -> bool:
        tag_rules.check_list([{"Key": key, "Value": value} for key, value in tags.items()])
        for resource_id in resource_ids:
            if len({*self.tags.get(resource_id, {}), *tags}) > 50:
                raise ApiError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
            self.tags[resource_id].update(tags)
        return True

    def create_key_pair(self, name: str, key_type: str, tags: dict[str, str]) -> Any:
        _check_key_name(name)
        return super().create_key_pair(name, key_type, tags)

    def import_key_pair(self, key_name: str, *args: Any, **kwargs: Any) -> Any:
        _check_key_name(key_name)
        return super().import_key_pair(key_name, *args, **kwargs)


StrictBackend.__module__ = models.__name__  # moto finds the paths of a service by the module of its backend
ec2_backends.backend = StrictBackend


def _remove_default_network(backend: StrictBackend) -> None:
    """Leave a region as one whose owner has deleted the default VPC."""
    for subnet in list(backend.describe_subnets()):
        backend.delete_subnet(subnet.id)
    backend.vpcs.clear()
    backend.groups.clear()


def _check_key_name(name: str) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html, KeyName."""
    if not 1 <= len(name) <= 255 or not name.isascii():
        raise invalid_value(f"Value ({name}) for parameter KeyName is invalid. Up to 255 ASCII characters are allowed.")


def _seed_parameters(backend: StrictBackend) -> None:
    """Let the Systems Manager of the same region know the public parameters, and only ours."""
    found = dict(catalog.parameters(backend.region_name))
    backend.cloud.parameters[backend.region_name] = found
    parameters = ssm_backends[backend.account_id][backend.region_name]._parameters
    parameters.latest_amis_loaded = True
    for name, value in found.items():
        if name not in parameters:
            parameters[name].append(
                Parameter(  # type: ignore[abstract]
                    account_id=backend.account_id,
                    name=name,
                    value=value,
                    parameter_type="String",
                    description="",
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=backend.cloud.engine.now(),
                    version=1,
                    data_type="aws:ec2:image",
                )
            )
