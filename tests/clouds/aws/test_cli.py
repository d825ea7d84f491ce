"""The AWS CLI and Bakehouse look at the same cloud: each sees what the other has made or changed.

The cloud is the test server. Each command of the CLI takes about a second, so the tests share a cloud and start few of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bakery.bake import Baked
from bakery.order import BakeOptions
from clouds import names, waiter
from clouds.aws import instances, naming, user_data
from clouds.aws.instances import Instance
from clouds.driver import Base, Kind, State, Wishes
from clouds.errors import NotFoundError
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from launcher import gc
from launcher.access import identity
from launcher.images import delete_image, images
from launcher.machines import machines
from tests.clouds.aws.stage import Cloud, Stage
from tests.clouds.gcp.stage import LONG_AFTER, bake_tiny
from tests.servers.ec2 import serve
from tests.servers.ec2_asking import environment
from tests.servers.guests import played_on_ec2
from tests.servers.vm import ScriptedVms

pytestmark = pytest.mark.server
OURS = ("--filters", f"Name=tag:project,Values={names.PROJECT}")
STRANGER = "tiny-9.9.9-9"
"""A name as our images have it."""
STATE_S = 1.0
"""More than any change of state takes, in seconds of the server's clock."""


@dataclass
class Both:
    """One cloud with an image, Bakehouse's store, and the settings of the CLI."""

    stage: Stage
    environment: Mapping[str, str]
    baked: Baked

    def connect(self) -> Cloud:
        """Return a driver that remembers nothing, as a new command has it."""
        return self.stage.connect()

    def aws(self, *words: str) -> Any:
        """Run `aws ec2 WORDS`, let what it has begun happen, and return its result."""
        command = [sys.executable, "-m", "awscli", "ec2", *words, "--output", "json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}"
        self.stage.server.advance(STATE_S)
        return json.loads(done.stdout or "null")

    def aws_at_once(self, *commands: tuple[str, ...]) -> list[Any]:
        """Run several of these at the same time, and return their results in order."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda words: self.aws(*words), commands))

    def launch(self, name: str, **more: Any) -> None:
        self.stage.launch(name, **more)
        assert self.stage.error is None, self.stage.told

    def machine(self, name: str) -> Instance:
        """Return a machine of ours as the driver reads it; a stranger's may have its name."""
        return self.connect()._lookup.get(name)

    def id_of(self, machine: str) -> str:
        return instances.id_of(self.machine(machine))

    def image_id(self, image: str = "") -> str:
        """Return the id of an image of ours; by default that of the first bake."""
        return str(self.connect()._images.get(image or self.baked.image)["ImageId"])

    def states(self) -> dict[str, str]:
        """Return what `machines` shows."""
        return {machine.name: machine.state for machine in machines(self.connect())}

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.stage.home / "ledger.sqlite3")

    def collect(self) -> list[str]:
        """Remove what dead clients have left, and return what that was."""
        garbage = gc.find(self.connect(), self.ledger, now=0, is_dead=lambda labels: True)
        gc.collect(self.connect(), self.ledger, garbage)
        return [str(one).partition(":")[0] for one in garbage]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, furnished: Path) -> Iterator[Both]:
    """Give a cloud with an image and a machine `mine` for all tests of this module."""
    home = tmp_path_factory.mktemp("cli") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
        patch.setenv("BAKEHOUSE_HOME", str(home))
        shutil.copytree(furnished, home)
        vms = ScriptedVms(played_on_ec2([]))
        with serve(vms=vms) as server:
            stage = Stage(server, vms, home)
            both = Both(stage, {**os.environ, **environment(server)}, bake_tiny(stage.connect(), home))
            both.launch("mine")
            yield both
            assert server.crashes == []


@pytest.fixture
def both(shared: Both, monkeypatch: pytest.MonkeyPatch) -> Both:
    """Give the shared cloud, with Bakehouse's store where this process looks for it, and look often."""
    monkeypatch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
    monkeypatch.setenv("BAKEHOUSE_HOME", str(shared.stage.home))
    return shared


@pytest.fixture(scope="module")
def strangers(shared: Both) -> list[str]:
    """Let the CLI make one of everything that Bakehouse makes, with names like ours; return the server's inventory of it."""
    before = Counter(shared.stage.left())
    base = shared.connect().resolve_base(Base("trixie", "amd64")).id
    marked = ("--tag-specifications", _named("instance", "mine"), _named("volume", "mine"))
    (found,) = shared.aws("run-instances", "--image-id", base, "--instance-type", "t3.micro", *marked)["Instances"]
    shared.aws_at_once(
        ("create-image", "--instance-id", found["InstanceId"], "--name", STRANGER, "--no-reboot"),
        ("create-security-group", "--group-name", "bakehouse-mine-12345678", "--description", "not of Bakehouse"),
        ("create-volume", "--availability-zone", "us-east-1a", "--size", "1", "--tag-specifications", _named("volume", "mine")),
        ("allocate-address", "--tag-specifications", _named("elastic-ip", "front")),
    )
    return sorted((Counter(shared.stage.left()) - before).elements())


def _named(kind: str, name: str) -> str:
    return f"ResourceType={kind},Tags=[{{Key=Name,Value={name}}},{{Key=project,Value=bread}}]"


def tags(found: Mapping[str, Any]) -> list[dict[str, str]]:
    return sorted(found["Tags"], key=lambda tag: str(tag["Key"]))


# What Bakehouse made, as the CLI reads it


def test_all_that_a_bake_and_a_launch_make_carries_the_tag_of_the_policy(both: Both) -> None:
    tagged = both.aws("describe-tags", "--filters", "Name=key,Values=project", f"Name=value,Values={names.PROJECT}")["Tags"]
    kinds = {"image", "instance", "network-interface", "security-group", "snapshot", "volume"}
    assert {tag["ResourceType"] for tag in tagged} >= kinds


def test_machine_is_as_it_was_asked_for(both: Both) -> None:
    (found,) = both.aws("describe-instances", *OURS, "Name=tag:Name,Values=mine")["Reservations"][0]["Instances"]
    ours = both.connect().find(Kind.MACHINE, "mine")
    assert ours is not None
    assert (found["InstanceType"], found["Placement"]["AvailabilityZone"]) == ("t3.medium", ours.zone)
    assert tags(found) == naming.to_tags(ours.labels, "mine")
    assert [group["GroupName"] for group in found["SecurityGroups"]] == [naming.group_name("mine", ours.labels["token"])]
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert not found.keys() & {"KeyName", "IamInstanceProfile"}


def test_machine_is_told_no_secret(both: Both) -> None:
    asked = ("--attribute", "userData", "--instance-id", both.id_of("mine"))
    data = user_data.from_base64(both.aws("describe-instance-attribute", *asked)["UserData"]["Value"])
    facts = user_data.facts_of(data)
    assert set(facts) == {"MACHINE", "NONCE", "AUTHORIZED_KEY", "PASSWORD_HASH", "EXPIRES", "ABOUT"}
    assert identity.user_key(both.stage.home) in facts["AUTHORIZED_KEY"]
    assert b"PRIVATE KEY" not in data
    assert user_data.script_of(data) == ""


def test_image_and_its_snapshot_have_the_same_tags(both: Both) -> None:
    named = (*OURS, f"Name=tag:Name,Values={both.baked.image}")
    answers = both.aws_at_once(
        ("describe-images", "--owners", "self", *named), ("describe-snapshots", "--owner-ids", "self", *named)
    )
    ((found,), (snapshot,)) = answers[0]["Images"], answers[1]["Snapshots"]
    ours = both.connect().find(Kind.IMAGE, both.baked.image)
    assert ours is not None
    assert (found["Name"], found["State"], found["EnaSupport"]) == (both.baked.image, "available", True)
    assert tags(found) == naming.to_tags({**ours.labels, "name": both.baked.image}, both.baked.image)
    assert ours.labels["state"] == names.STABLE
    (disk,) = [one for one in found["BlockDeviceMappings"] if "Ebs" in one]
    assert (disk["DeviceName"], disk["Ebs"]["Encrypted"]) == (found["RootDeviceName"], True)
    assert snapshot["SnapshotId"] == disk["Ebs"]["SnapshotId"]
    assert (snapshot["State"], snapshot["Encrypted"], tags(snapshot)) == ("completed", True, tags(found))


def test_security_group_admits_nothing_but_ssh_from_the_caller(both: Both) -> None:
    (found,) = both.aws("describe-security-groups", *OURS, "Name=tag:machine,Values=mine")["SecurityGroups"]
    (rule,) = found["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 22)
    assert ([one["CidrIp"] for one in rule["IpRanges"]], rule["Ipv6Ranges"]) == (["127.0.0.1/32"], [])


def test_console_reads_the_same(both: Both) -> None:
    found = both.aws("get-console-output", "--latest", "--instance-id", both.id_of("mine"))
    assert found["Output"] == both.connect().console("mine").text
    assert " fact host-key " in found["Output"]


def test_static_address_is_reserved_and_in_use_until_the_cli_terminates_its_machine(both: Both) -> None:
    both.launch("fixed", wishes=Wishes(static_ip="front"))
    (found,) = both.aws("describe-addresses", *OURS, "Name=tag:Name,Values=front")["Addresses"]
    assert (found["InstanceId"], found["PublicIp"]) == (both.id_of("fixed"), instances.address(both.machine("fixed")))
    both.aws("terminate-instances", "--instance-ids", both.id_of("fixed"))
    assert [(kept.name, kept.state) for kept in both.connect().owned({}, {Kind.ADDRESS})] == [("front", State.READY)]
    assert "fixed" not in both.states()
    assert [line.partition("-fixed-")[0] for line in both.collect()] == ["delete rule 'bakehouse"]
    remove(both.connect(), both.ledger, Kind.ADDRESS, "front")
    assert [line for line in both.stage.left() if "fixed" in line or found["PublicIp"] in line] == []


# What the CLI made or changed, as Bakehouse reads it


def test_stop_and_start_are_seen(both: Both) -> None:
    both.aws("stop-instances", "--instance-ids", both.id_of("mine"))
    assert both.states()["mine"] == "stopped"
    both.aws("start-instances", "--instance-ids", both.id_of("mine"))
    assert both.states()["mine"] == "running"


def test_tags_of_a_machine_and_an_image_are_seen_and_kept(both: Both) -> None:
    cloud = both.connect()
    things = ((Kind.MACHINE, "mine"), (Kind.IMAGE, both.baked.image))
    for kind, name in things:
        cloud.find(kind, name)
    both.aws("create-tags", "--resources", both.id_of("mine"), both.image_id(), "--tags", "Key=team,Value=bread")
    for kind, name in things:
        cloud.label(kind, name, {"mood": "good"})  # with what this driver had read before the CLI came
        found = both.connect().find(kind, name)
        assert found is not None
        assert {"team": "bread", "mood": "good", "project": names.PROJECT}.items() <= found.labels.items()


def test_an_image_that_the_cli_deregistered_is_gone_and_what_is_left_of_it_is_removed(both: Both) -> None:
    doomed = bake_tiny(both.connect(), both.stage.home, options=BakeOptions(force=True)).image
    assert [image.name for image in images(both.connect())] == [both.baked.image, doomed]
    both.aws("deregister-image", "--image-id", both.image_id(doomed))
    assert [image.name for image in images(both.connect())] == [both.baked.image]
    assert any(line.endswith(f"/{doomed} completed") for line in both.stage.left())
    remove(both.connect(), both.ledger, Kind.IMAGE, doomed)
    assert not any(doomed in line for line in both.stage.left())


def test_what_others_made_is_never_listed_nor_removed(both: Both, strangers: list[str]) -> None:
    kinds = {line.partition(" ")[0] for line in strangers}
    assert kinds == {"addresses", "images", "instances", "security-groups", "snapshots", "volumes"}
    cloud = both.connect()
    (mine,) = [machine for machine in machines(cloud) if machine.name == "mine"]
    assert mine.labels["role"] == "machine"  # not the stranger's, which has that name too
    assert STRANGER not in [image.name for image in images(cloud)]
    assert cloud.find(Kind.IMAGE, STRANGER) is None
    assert cloud.owned({}, {Kind.ADDRESS, Kind.DISK, Kind.RULE}) == []
    garbage = gc.find(cloud, both.ledger, now=LONG_AFTER, is_dead=lambda labels: True)
    assert {str(one).partition(":")[0] for one in garbage} <= {f"stop machine '{name}'" for name in both.states()}
    with pytest.raises(NotFoundError):
        delete_image(cloud, both.ledger, STRANGER)
    gc.collect(cloud, both.ledger, garbage)
    assert Counter(strangers) <= Counter(both.stage.left())
