"""moto's EC2 responses, made strict: one method per action that differs from moto's own."""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import camelcase_to_underscores, method_names_from_class
from moto.ec2.responses import EC2Response

from tests.servers.ec2 import consoles, ids, launch, life, metadata, paging, states, tag_rules, tokens, unseen
from tests.servers.ec2.errors import ApiError, NotServed, invalid_combination
from tests.servers.ec2.image_responses import ImageResponse

NOT_SERVED = {"request_spot_instances", "request_spot_fleet", "create_fleet", "register_image", "copy_snapshot", "create_snapshots"}
"""What moto answers too leniently to be of use here."""

Tree = dict[str, Any]


class StrictResponse(ImageResponse):
    """Serves one request, whose parameters have been checked: `tree` holds them by their names in the service model."""

    def call_action(self) -> Any:
        """Serve; raises ApiError, which the server renders."""
        name = camelcase_to_underscores(self.action)
        if name not in _served():
            raise NotServed(self.action)
        try:
            result = tokens.once(self.cloud, self.ec2_backend, self.action, self.tree, getattr(self, name))
            if isinstance(result, ActionResult):
                result = ActionResult(paging.page(self.action, self.tree, result.result, self.cloud.switches.page_size))
                return self.serialized(result)
        except ServiceException as error:
            raise ApiError(_CODES.get(error.code, error.code), error.message) from None
        except NotImplementedError as error:
            raise NotServed(f"{self.action}: {error}") from None
        raise NotServed(self.action)

    # Instances

    def run_instances(self) -> ActionResult:
        backend, tree = self.ec2_backend, self.tree
        plan = launch.plan(backend, tree)
        self.error_on_dryrun()
        self._fill_in(plan)
        result = super().run_instances()
        self._begin(_made(result), plan, self.cloud.take_late())
        return result

    def _fill_in(self, plan: launch.Plan) -> None:
        """Say what the request leaves open, so that moto need not guess."""
        self.params["MinCount"] = plan.count
        self.params["ImageId"] = plan.image.id
        self.params["BlockDeviceMappings"] = plan.mappings
        nics = self.params.get("NetworkInterfaces")
        if nics:
            nics[0]["SubnetId"] = plan.subnet.id
        else:
            self.params["SubnetId"] = plan.subnet.id
        groups = [*self._get_param("SecurityGroupIds", []), *self._get_param("SecurityGroups", [])]
        if not groups and not (nics and nics[0].get("Groups")):
            default = self.ec2_backend.get_security_group_from_name("default", plan.subnet.vpc_id)
            if nics:
                nics[0]["Groups"] = [default.id]
            else:
                self.params["SecurityGroupIds"] = [default.id]

    def _begin(self, made: list[Any], plan: launch.Plan, late: Any) -> None:
        backend, tags = self.ec2_backend, self._parse_tag_specification()
        for instance in made:
            states.set_reason(instance, "", "")
            instance.spot_instance_request_id = None
            instance.cpu_options = launch.cpu_options(instance.instance_type)
            instance.disable_api_termination = bool(self.tree.get("DisableApiTermination"))
            # "The security groups for the instance", however they were given: API_Instance
            instance.security_groups = list(instance.nics[0].group_set)
            for nic in instance.nics.values():
                nic.delete_on_termination = True
                nic.public_ip = None
                nic.add_tags(tags.get("network-interface", {}))
            self._set_performance(instance, plan)
            if plan.spot:
                relaunch = self._relaunch()
                backend.make_spot_request(instance, plan.spot, tags.get("spot-instances-request", {}), relaunch)
            life.power_on(backend, instance, late)

    def _set_performance(self, instance: Any, plan: launch.Plan) -> None:
        """Give the volumes the type, IOPS and throughput that moto does not pass on."""
        wanted = {mapping["DeviceName"]: mapping["Ebs"] for mapping in plan.mappings}
        for device, block in instance.get_block_device_mapping:
            volume, ebs = self.ec2_backend.volumes[block.volume_id], wanted[device]
            volume.volume_type = ebs["VolumeType"]
            volume.iops, volume.throughput = ebs.get("Iops", volume.iops), ebs.get("Throughput", volume.throughput)

    def _relaunch(self) -> Any:
        """Return what makes another instance like those of this request, for a persistent Spot request."""
        backend, tree, parent = self.ec2_backend, self.tree, self

        def relaunch() -> Any:
            again = {key: value for key, value in tree.items() if key not in ("ClientToken", "TagSpecifications")}
            plan = launch.plan(backend, {**again, "MinCount": 1, "MaxCount": 1})
            parent.params.pop("TagSpecifications", None)
            parent._fill_in(plan)
            made = _made(EC2Response.run_instances(parent))
            plan.spot = None
            parent._begin(made, plan, None)
            return made[0]

        return relaunch

    def _parse_block_device_mapping(self) -> list[Tree]:
        """Return the disks in moto's form; `launch` has checked them."""
        plain = {"SnapshotId": None, "VolumeSize": None, "Iops": None, "KmsKeyId": None}
        return [
            {
                "DeviceName": mapping["DeviceName"],
                "NoDevice": None,
                "VirtualName": None,
                "Ebs": {**plain, **mapping["Ebs"], "VolumeType": "gp3"},
            }
            for mapping in self.params["BlockDeviceMappings"]
        ]

    def start_instances(self) -> ActionResult:
        self.error_on_dryrun()
        return self._changed("StartingInstances", self.ec2_backend.start_all(self.tree["InstanceIds"]))

    def stop_instances(self) -> ActionResult:
        self.error_on_dryrun()
        return self._changed("StoppingInstances", self.ec2_backend.stop_all(self.tree["InstanceIds"]))

    def terminate_instances(self) -> ActionResult:
        self.error_on_dryrun()
        return self._changed("TerminatingInstances", self.ec2_backend.terminate_all(self.tree["InstanceIds"]))

    def _changed(self, key: str, before: list[tuple[Any, Any]]) -> ActionResult:
        found = [
            {"InstanceId": instance.id, "CurrentState": states.shown(instance), "PreviousState": previous}
            for instance, previous in before
        ]
        return ActionResult({key: found})

    def describe_instances(self) -> ActionResult:
        filters = {item["Name"]: item.get("Values", []) for item in self.tree.get("Filters", [])}
        if self.tree.get("InstanceIds"):
            return ActionResult(
                {"Reservations": self.ec2_backend.get_reservations_by_instance_ids(self.tree["InstanceIds"], filters)}
            )
        return ActionResult({"Reservations": self.ec2_backend.all_reservations(filters)})

    def describe_instance_status(self) -> ActionResult:
        """Return running instances, or all with `IncludeAllInstances`."""
        filters = {item["Name"]: item.get("Values", []) for item in self.tree.get("Filters", [])}
        backend, ids_ = self.ec2_backend, self.tree.get("InstanceIds")
        found = backend.get_multi_instances_by_id(ids_, filters) if ids_ else backend.all_instances(filters)
        shown = [one for one in found if one.state == "running" or self.tree.get("IncludeAllInstances")]
        return ActionResult({"InstanceStatuses": [self._status(instance) for instance in shown]})

    def _status(self, instance: Any) -> Tree:
        """Return the status checks: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceStatusSummary.html."""
        started_at, check_s = self.cloud.console(instance.id).started_at, self.cloud.switches.status_check_s
        is_passed = self.cloud.engine.now() >= started_at + check_s
        status = "not-applicable" if instance.state != "running" else "ok" if is_passed else "initializing"
        detail = [{"Name": "reachability", "Status": "passed" if status == "ok" else status}]
        summary = {"Status": status, "Details": [] if status == "not-applicable" else detail}
        shown = {"InstanceId": instance.id, "AvailabilityZone": instance.availability_zone, "InstanceState": states.shown(instance)}
        return {**shown, "InstanceStatus": summary, "SystemStatus": summary}

    def modify_instance_attribute(self) -> Any:
        """Change one attribute; some only while the instance is stopped."""
        instance = self.ec2_backend.get_instance(self.tree["InstanceId"])
        for name, attribute in _ATTRIBUTES.items():
            if name in self.tree:
                if name == "DisableApiTermination" and instance.lifecycle == "spot":
                    # https://github.com/cloud-custodian/cloud-custodian/issues/2083
                    message = "Modifying 'disableApiTermination' is not supported for spot instances."
                    raise ApiError("UnsupportedOperation", message)
                self.error_on_dryrun()
                setattr(instance, attribute, self.tree[name]["Value"])
                return EmptyResult()
        for mapping in self.tree.get("BlockDeviceMappings", []):
            if mapping.get("DeviceName") not in instance.block_device_mapping:
                # the code and the words are those of Eucalyptus, which follows EC2 (VmControl.modifyInstanceAttribute)
                message = f"No device is currently mapped at {mapping.get('DeviceName')}"
                raise ApiError("InvalidInstanceAttributeValue", message)
        if {"UserData", "InstanceType"} & set(self.tree) and instance.state != "stopped":
            # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html
            message = f"The instance '{instance.id}' is not in the 'stopped' state."
            raise ApiError("IncorrectInstanceState", message)
        if "UserData" in self.tree:
            # in base64 once, as for RunInstances (API_ModifyInstanceAttribute); moto decodes it twice
            given = base64.b64encode(self.tree["UserData"]["Value"]).decode()
            launch.check_user_data(given)
            self.error_on_dryrun()
            instance.user_data = given
            return EmptyResult()
        return super().modify_instance_attribute()

    def modify_instance_metadata_options(self) -> ActionResult:
        instance = self.ec2_backend.get_instance(self.tree["InstanceId"])
        known = instance.metadata_options
        given = {key: self.tree[key] for key in _METADATA_OPTIONS if key in self.tree}
        for key, value in given.items():
            setattr(known, _METADATA_OPTIONS[key], value)
        metadata.refresh(self.ec2_backend, instance)
        return ActionResult({"InstanceId": instance.id, "InstanceMetadataOptions": known})

    def create_tags(self) -> ActionResult:
        tag_rules.check_list(self.tree.get("Tags", []))
        known = unseen.things(self.ec2_backend)
        for resource_id in self.tree["Resources"]:
            if resource_id not in known and ids.has_code(resource_id):
                raise ids.absent(resource_id)
        result = super().create_tags()
        for instance in self.ec2_backend.all_instances():
            if instance.id in self.tree["Resources"]:
                metadata.refresh(self.ec2_backend, instance)
        return result

    def get_console_output(self) -> ActionResult:
        instance = self.ec2_backend.get_instance(self.tree["InstanceId"])
        self.error_on_dryrun()
        return ActionResult(consoles.output(self.cloud, instance, latest=bool(self.tree.get("Latest"))))

    # Spot and networks

    def describe_spot_instance_requests(self) -> ActionResult:
        for request_id in self.tree.get("SpotInstanceRequestIds", []):
            if request_id not in self.ec2_backend.spot_instance_requests:
                message = f"The spot instance request ID '{request_id}' does not exist"
                raise ApiError("InvalidSpotInstanceRequestID.NotFound", message)
        return super().describe_spot_instance_requests()

    def describe_spot_price_history(self) -> ActionResult:
        return ActionResult({"SpotPriceHistory": self.ec2_backend.price_history(self.tree)})

    def delete_security_group(self) -> ActionResult:
        if not self.tree.get("GroupId") and not self.tree.get("GroupName"):
            raise ApiError("MissingParameter", "The request must contain the parameter groupName or groupId")
        return super().delete_security_group()

    def describe_addresses(self) -> ActionResult:
        if self.tree.get("PublicIps") and self.tree.get("AllocationIds"):
            raise invalid_combination("PublicIps and AllocationIds cannot be used together.")
        return super().describe_addresses()


@cache
def _served() -> frozenset[str]:
    return frozenset(method_names_from_class(StrictResponse)) - NOT_SERVED


_CODES = {"InvalidKeyPair.Format": "InvalidKey.Format"}
"""Codes that moto has otherwise than https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html."""

_ATTRIBUTES = {
    "InstanceInitiatedShutdownBehavior": "instance_initiated_shutdown_behavior",
    "DisableApiTermination": "disable_api_termination",
    "DisableApiStop": "disable_api_stop",
    "SourceDestCheck": "source_dest_check",
}

_METADATA_OPTIONS = {
    "HttpTokens": "http_tokens",
    "HttpPutResponseHopLimit": "http_put_response_hop_limit",
    "HttpEndpoint": "http_endpoint",
    "HttpProtocolIpv6": "http_protocol_ipv6",
    "InstanceMetadataTags": "instance_metadata_tags",
}


def _made(result: ActionResult) -> list[Any]:
    """Return the instances of moto's answer to RunInstances."""
    reservation: Any = result.result
    return list(reservation.instances)
