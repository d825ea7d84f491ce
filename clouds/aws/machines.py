"""The life of a machine on EC2: asked for, found, stopped, started, labelled, removed.

EC2 knows no names. A machine is found by its tags, or by its id once that is known, and a name counts as taken only after a second
look: two commands that ask for one name at once both find it free, and the later of the two gives way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from clouds.aws import addresses, failures, instance_types, instances, naming, network, prices, user_data
from clouds.aws.client import Client
from clouds.aws.failures import NotReadyError, PriceError
from clouds.aws.groups import Groups
from clouds.aws.images import Images
from clouds.aws.instances import Instance, Site
from clouds.aws.lookup import Lookup
from clouds.aws.network import Subnet, Subnets
from clouds.aws.places import Places
from clouds.aws.schedules import Schedules
from clouds.driver import BootSpec, Resource, State, Wishes
from clouds.errors import CapacityError, ForeignError, InvalidError, NotFoundError, QuotaError, ThrottledError, machine_exists

SPOT_LAG_S = 120.0
"""For how long a stopped machine of spot capacity cannot be started, since its request is not `disabled` yet
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html: marked-for-stop). The time is a guess."""
_WAIT = "Wait: AWS starts it again when there is capacity. Or launch another machine: its disk is kept until you delete it."
_GUEST = "Client.InstanceInitiatedShutdown"
"""The reason of an instance that has powered itself off (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html)."""


@dataclass(slots=True)
class Machines:
    """The machines of an account in a region."""

    client: Client
    places: Places
    images: Images
    subnets: Subnets
    groups: Groups
    lookup: Lookup
    schedules: Schedules
    _tokens: dict[str, str] = field(default_factory=dict)
    _types: set[str] = field(default_factory=set)

    def create(self, spec: BootSpec) -> str:
        """Ask for a machine and its security group; return its id and that of its address. The same token is the same machine."""
        prices.check(spec.wishes.max_price_usd)
        if spec.deadline_s:
            self.schedules.check()
        self._check_free(spec)
        image = self.images.source(spec.source)
        self._check_type(spec.wishes.machine_type)
        subnet = self.subnets.choose(spec.zone or self.places.zone)
        address = addresses.reserved(self.client, spec) if spec.wishes.static_ip else ""
        self._tokens[spec.name] = spec.token
        # A builder that receives files is opened later; whether that is possible is found out now.
        sources = [network.source_range(self.places, self.client)] if network.ports(spec) or spec.receives else []
        group = self.groups.make(spec, subnet.network, sources)
        site = Site(
            subnet=subnet.id,
            group=group,
            image=image["ImageId"],
            root_device=image["RootDeviceName"],
            instance_type=spec.wishes.machine_type or instance_types.choose(spec.cpus, spec.memory_mb),
            instance_profile=self.places.instance_profile,
        )
        return f"{self._run(spec, site, subnet)} {address}".strip()

    def check(self, wishes: Wishes) -> None:
        """Raise InvalidError for a price, an instance type, a zone or a subnet with which no machine can be created."""
        prices.check(wishes.max_price_usd)
        self._check_type(wishes.machine_type)
        self.subnets.choose(self.places.zone)

    def _check_type(self, name: str) -> None:
        """Check an instance type that the user names ("": none), once in a process."""
        if name and name not in self._types:
            instance_types.check(self.client, name)
            self._types.add(name)

    def _check_free(self, spec: BootSpec) -> None:
        """Raise ConflictError when another machine has the name, or had it a moment ago.

        This saves the start of a second one; `has_booted` decides. Names of builders and test machines are random.
        """
        if spec.labels.get("role") in ("builder", "test") or self.lookup.was_free(spec.name):
            return
        for other in self.lookup.named(spec.name, ("pending", "running", "stopping", "stopped")):
            if naming.from_tags(other).get("token") != spec.token:
                raise machine_exists(spec.name, "aws")

    def _run(self, spec: BootSpec, site: Site, subnet: Subnet) -> str:
        """Ask for the instance and return its id. The security group of one that is refused serves in the next zone."""
        token = naming.client_token(spec.token, subnet.id)
        try:
            answer = self._ask_to_run(spec, site, token)
        except (ThrottledError, ForeignError, KeyboardInterrupt):  # the request may have arrived all the same
            self.lookup.unanswered[spec.name] = token
            raise
        except (CapacityError, QuotaError) as error:
            if isinstance(error, PriceError) and spec.wishes.max_price_usd:
                found = prices.current(self.client, site.instance_type)
                error.message += f"; {site.instance_type} costs {found}" if found else ""
                raise  # without other zones: the user compares prices
            self._explain(error, site.instance_type, subnet.zone)
            raise
        except NotFoundError:
            self.images.look_again(spec.source)
            raise
        instance: Instance = answer["Instances"][0]
        self.lookup.know(spec.name, instances.id_of(instance))
        return instances.id_of(instance)

    def _ask_to_run(self, spec: BootSpec, site: Site, token: str) -> dict[str, Any]:
        wanted = instances.request(spec, site, token, self.schedules.tags(spec))
        return self.client.ask_about_new(f"machine {spec.name}", "run_instances", **wanted)

    def _explain(self, error: Exception, instance_type: str, zone: str) -> None:
        """Add to a refusal what EC2 leaves out: how much was asked for; in which zones there may be room."""
        if isinstance(error, QuotaError):
            error.message += f"; {instance_types.need(self.client, instance_type)} was asked for"
        elif isinstance(error, CapacityError):
            usable = self.subnets.zones()
            named = [other for other in error.zones if other in usable]
            error.zone, error.zones = zone, tuple(other for other in named or usable if other != zone)

    def has_booted(self, name: str, instance_id: str, address: str) -> bool:
        """Say whether an instance runs, and give it its reserved address. ConflictError: an older machine has the name."""
        named = self.lookup.named(name, instances.LIVE)
        instance = next((one for one in named if instances.id_of(one) == instance_id), None) or self.lookup.by_id(instance_id)
        if instance is None:  # not listed yet
            return False
        if self._is_late(instance, named):
            return self._give_way(name, instance)
        if instances.phase(instance) == "pending":
            return False
        if instances.phase(instance) in ("shutting-down", "terminated"):
            return self._judge_end(name, instance)
        if address and not instance.get("PublicIpAddress"):  # it has no other public address
            addresses.associate(self.client, name, instance_id, address)
            return False
        self.lookup.see(instance)
        self.schedules.make_wanted(instance)
        return True

    def _is_late(self, instance: Instance, named: Iterable[Instance]) -> bool:
        """Say whether an older machine has the name of an instance. Of two of one second both are late."""
        rivals = (one for one in named if naming.from_tags(one).get("token") != naming.from_tags(instance).get("token"))
        ours = instances.created_at(instance)
        return any(instances.created_at(one) <= ours for one in rivals if instances.phase(one) != "shutting-down")

    def _give_way(self, name: str, instance: Instance) -> bool:
        """Remove an instance whose name an older machine has; raise ConflictError once it is gone with its security group."""
        if instances.phase(instance) not in ("shutting-down", "terminated"):
            self._terminate(instance)
        if self.has_gone(naming.group_name(name, naming.raw_tags(instance).get("token", "")), instances.id_of(instance)):
            raise machine_exists(name, "aws")
        return False

    def _judge_end(self, name: str, instance: Instance) -> bool:
        """Say that a machine has booted that has powered itself off already; raise why another one never ran."""
        reason = instances.reason(instance)
        if reason.get("Code") == _GUEST:
            return True
        self._cancel_request(instance)
        error = failures.of_state(f"machine {name}", reason)
        self._explain(error, instance.get("InstanceType", ""), instances.zone_of(instance))
        raise error

    def has_started(self, name: str, instance_id: str, before: str = "") -> bool:
        """Say whether an instance runs. CloudError: it went off again.

        EC2 may show for a while what the instance was like before its start (`before`): boto/boto3#4386.
        """
        instance = self.lookup.require(name, instance_id)
        if before and instances.last_change(instance) == before:
            return False
        if instances.phase(instance) == "stopped" and instances.reason(instance).get("Code") not in (None, "", _GUEST):
            raise failures.of_state(f"machine {name}", instances.reason(instance))
        return instances.phase(instance) in ("running", "stopping", "stopped")

    def has_stopped(self, name: str, instance_id: str) -> bool:
        """Say whether an instance is off. NotFoundError: it has ended for good."""
        return instances.phase(self.lookup.require(name, instance_id)) == "stopped"

    def has_gone(self, group: str, instance_id: str) -> bool:
        """Say whether an instance has ended and its security group is deleted. CloudError: its schedule was not deleted."""
        has_gone = self._has_gone(group, instance_id)
        if has_gone:
            self.schedules.raise_failure(instance_id)
        return has_gone

    def _has_gone(self, group: str, instance_id: str) -> bool:
        """Say whether an instance has ended and its security group is deleted, which is possible only then.

        So the group alone tells both (aws/aws-sdk-java#163), where this process has made it and need not search it.
        """
        if group and self.groups.knows(group):
            return self.groups.has_gone(group)
        if instance_id and (found := self.lookup.by_id(instance_id)) and instances.phase(found) != "terminated":
            return False
        return not group or self.groups.has_gone(group)

    def find(self, name: str) -> Resource | None:
        """Return a machine, or None."""
        try:
            return instances.resource(self.lookup.get(name))
        except NotFoundError:
            return None

    def start(self, name: str, facts: Mapping[str, str], deadline_s: int) -> str:
        """Start a machine that is off; return its id and what it was like before (for `has_started`), or "" when it is on.

        InvalidError: AWS has stopped it.
        """
        instance = self.lookup.get(name)
        if instances.state(instance) is not State.STOPPED:
            return ""
        if instances.was_reclaimed(instance):
            raise InvalidError(f"machine {name}: AWS has reclaimed its spot capacity, and only AWS can start it", next_step=_WAIT)
        self._tell(name, instance, facts)
        self.schedules.renew(instance, deadline_s)  # before it runs: the old one would stop it
        self.lookup.forget(name)
        try:
            self.client.ask_while(
                NotReadyError, SPOT_LAG_S, f"machine {name}", "start_instances", InstanceIds=[instances.id_of(instance)]
            )
        except CapacityError as error:  # its disk is in this zone
            error.zone, error.zones = instances.zone_of(instance), ()
            error.next_step = f"Try later, or launch another machine in another --zone; the disk of {name} stays where it is."
            raise
        return f"{instances.id_of(instance)} {instances.last_change(instance)}"

    def _tell(self, name: str, instance: Instance, facts: Mapping[str, str]) -> None:
        """Lay facts over those that a machine was told; EC2 changes the user data only of an instance that is off."""
        where = {"InstanceId": instances.id_of(instance)}
        answer = self.client.ask(f"machine {name}", "describe_instance_attribute", Attribute="userData", **where)
        data = user_data.from_base64(answer.get("UserData", {}).get("Value", ""))
        if not facts.items() <= user_data.facts_of(data).items():
            told = {"UserData": {"Value": user_data.with_facts(data, facts)}}
            self.client.ask(f"machine {name}", "modify_instance_attribute", **where, **told)

    def stop(self, name: str) -> str:
        """Ask for a machine's orderly end and return its id; "" when it is off. NotFoundError: it has ended."""
        instance = self.lookup.recall(name)
        if instance is None or instances.state(instance) is State.STOPPED:
            instance = self.lookup.get(name)
            if instances.state(instance) is State.STOPPED:
                return ""
        self.lookup.forget(name)
        try:
            self.client.ask_about_new(f"machine {name}", "stop_instances", InstanceIds=[instances.id_of(instance)])
        except NotReadyError:
            self.lookup.get(name)
            raise
        return instances.id_of(instance)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those of a machine and its disks.

        Its security group keeps the labels of an unfinished machine, so that `gc` removes it when the machine has gone without it.
        """
        instance = self.lookup.glance(name)
        self.lookup.forget(name)
        things = [instances.id_of(instance), *instances.disks_of(instance)]
        self.client.ask_about_new(f"machine {name}", "create_tags", Resources=things, Tags=naming.to_tags(labels, name))

    def keep_disk(self, name: str, *, keep: bool) -> None:
        """Set whether EC2 deletes the root volume of a machine when the machine is terminated.

        docs.aws.amazon.com/AWSEC2/latest/UserGuide/configure-root-volume-delete-on-termination.html
        """
        instance = self.lookup.glance(name)
        self.lookup.forget(name)
        disk = {"DeviceName": instance["RootDeviceName"], "Ebs": {"DeleteOnTermination": not keep}}
        where = {"InstanceId": instances.id_of(instance)}
        self.client.ask_about_new(f"machine {name}: disk", "modify_instance_attribute", **where, BlockDeviceMappings=[disk])

    def delete(self, name: str) -> str:
        """Ask for the end of a machine, and return the name of its security group and its id; what is gone is gone.

        Of a machine that is absent only the group goes that this process has made for it, and the spot request of one that has
        ended, which would start another one.
        """
        try:
            known = self.lookup.recall(name)
            is_spot = known and known.get("SpotInstanceRequestId")  # another instance may have taken its place
            instance = self.lookup.same(name) if known is None or is_spot else known
        except NotFoundError:
            if ended := self.lookup.ended(name):
                self._cancel_request(ended)
                self.schedules.discard(ended)
            token = self._tokens.get(name)
            return naming.group_name(name, token) if token else ""
        self._terminate(instance)
        self.schedules.discard(instance)
        group = naming.group_name(name, naming.raw_tags(instance).get("token", ""))  # one that ends may not show its groups
        return f"{group} {instances.id_of(instance)}"

    def _terminate(self, instance: Instance) -> None:
        """Terminate an instance; first its spot request is cancelled, which would otherwise start another one."""
        name = instances.name_of(instance)
        self.lookup.forget(name)
        self.lookup.unanswered.pop(name, None)
        self._cancel_request(instance)
        with suppress(NotFoundError):
            self.client.ask_about_new(f"machine {name}", "terminate_instances", InstanceIds=[instances.id_of(instance)])

    def _cancel_request(self, instance: Instance) -> None:
        """Cancel the spot request of an instance; one that ended a while ago is not found any more (NixOS/nixops#514)."""
        if request := instance.get("SpotInstanceRequestId"):
            what = f"machine {instances.name_of(instance)}: spot request"
            with suppress(NotFoundError):
                self.client.ask_about_new(what, "cancel_spot_instance_requests", SpotInstanceRequestIds=[request])

    def was_reclaimed(self, name: str) -> bool:
        """Return whether AWS has taken the spot capacity of a machine back; it shows the reason for about an hour."""
        found = self.lookup.ended(name)
        return found is not None and instances.was_reclaimed(found)

    def require_at_rest(self, name: str) -> Instance:
        """Return a machine whose image can be created. InvalidError: it is on, and can be stopped.

        A one-time spot request allows no stop; Packer does not stop its spot builders either (hashicorp/packer,
        builder/amazon/common/step_stop_ebs_instance.go). A machine that was off when it was read a moment ago counts as off:
        EC2 may show an older state again after a newer one (aws-samples/aws-python-sample#10).
        """
        instance = self.lookup.glance(name)
        is_spot = instances.state(instance) is State.RUNNING and instances.is_spot(instance)
        if instances.state(instance) is not State.STOPPED and not is_spot:
            raise InvalidError(f"machine {name}: still on", next_step=f"Stop it first: ./inv stop {name}")
        return instance
