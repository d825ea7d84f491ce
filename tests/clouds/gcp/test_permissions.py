"""The roles in docs/permissions are enough, and grant nothing that is not needed: the server enforces them on whole verbs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import clouds
from bakery.bake import Baked
from bakery.order import BakeOptions
from clouds import names
from clouds.driver import Base, Kind, Wishes
from clouds.errors import DeniedError, NotFoundError, QuotaError
from clouds.findings import Size
from clouds.ledger import Ledger
from clouds.lifecycle import settle
from launcher.images import delete_image
from launcher.launch import LaunchOptions
from tests import needed
from tests.cli.verbs import run
from tests.clouds.gcp.stage import Cloud, NewStage, Stage, Wire, bake_large, bake_tiny, launch_tiny
from tests.clouds.gcp.stub import SPEC
from tests.clouds.gcp.test_resume import kill
from tests.killing import take_up, unfinished
from tests.servers.asking import ZONE, done
from tests.servers.gce import quota_error, stock_out
from tests.servers.gce.iam import Role

pytestmark = pytest.mark.server
LARGEST = Size(cpus=2, memory_mb=4096, disk_gb=10)
ALL = Wishes(spot=True, keep_disk=True, static_ip="front", machine_type="e2-medium")


def assume(stage: Stage, *roles: str) -> None:
    """Grant from now on what these roles say."""
    stage.server.role = Role(needed.gcp(*roles))


def check_used(stage: Stage, *roles: str) -> None:
    """Check that nothing was denied, and that each permission of these roles was needed."""
    assert stage.server.role
    assert [call for call in stage.server.calls if call.status == 403] == []
    assert Role(needed.gcp(*roles)).permissions() - stage.server.role.used == set()


def bakes(stage: Stage) -> None:
    """Bake: with files that go over SSH from a changing address, without room, without quota, interrupted."""
    stage.connect().checks(LARGEST)["quota"]()
    resumes(stage)
    bake_large(stage.connect(), stage.home)
    stage.server.fault("compute.instances.insert", error=stock_out("us-central1-a", "e2-small", is_plain=True))
    bake_tiny(stage.connect(), stage.home, options=BakeOptions(force=True, machine_type="e2-medium"))
    stage.server.fault("compute.instances.insert", error=quota_error("CPUS", 24, "us-central1"))
    with pytest.raises(QuotaError):
        bake_tiny(stage.connect(), stage.home, options=BakeOptions(force=True))

    def strikes(method: str, _nth: int, when: str) -> None:
        if (method, when) == ("images.insert", "after"):
            raise KeyboardInterrupt

    stage.play(lambda cloud, home: bake_tiny(cloud, home, options=BakeOptions(force=True)), Wire(stage.server, strikes))
    assert isinstance(stage.error, KeyboardInterrupt)
    builder = replace(SPEC, name="bake-moves", token="moves", labels={"role": "builder", "token": "moves"}, receives=True, ports=())
    for cloud in (stage.connect(), stage.connect(source="198.51.100.9/32")):
        settle(cloud, cloud.boot(builder))
        settle(cloud, cloud.open_ssh(builder.name))
    settle(cloud, cloud.delete(Kind.MACHINE, builder.name))


def forced(cloud: Cloud, home: Path) -> Baked:
    """Bake although nothing has changed."""
    return bake_tiny(cloud, home, options=BakeOptions(force=True))


def resumes(stage: Stage) -> None:
    """Resume a bake that was killed once its builder was there, and has left a disk, too."""
    assert kill(stage, forced, 10, "after")
    (note,) = unfinished(stage)
    assert stage.connect().find(Kind.MACHINE, note.id)
    base = stage.connect().resolve_base(Base("trixie", "amd64")).id
    spec = replace(SPEC, name="bake-half", source=base, token="half", labels={**note.labels, "role": "builder", "token": "half"})
    settle(stage.connect(), stage.connect().boot(spec))
    role, stage.server.role = stage.server.role, None
    done(stage.server, "POST", f"{ZONE}/instances/bake-half/setDiskAutoDelete?autoDelete=false&deviceName=persistent-disk-0")
    done(stage.server, "DELETE", f"{ZONE}/instances/bake-half")
    stage.server.role = role
    verb("bakes")
    assert take_up(stage, note.id).id == note.id
    assert not [line for line in stage.there("disks") if "bake-half" in line]


def launches(stage: Stage) -> None:
    """Launch with every option, use each verb on the machine, and delete it all."""
    things = stage.server.cloud.store.things
    for path in [path for path in things if path.endswith(("/networks/bakehouse", "/subnetworks/bakehouse"))]:
        del things[path]  # as in a project where nothing has been baked
    stage.connect().checks(LARGEST)["quota"]()
    stage.connect().check_options(ALL)
    launch_tiny(stage.connect(), stage.home, options=LaunchOptions(recipe="tiny", name="mine", wishes=ALL))
    verb("machines")
    verb("images")
    for source in ("198.51.100.9/32", "127.0.0.1/32"):
        stage.connect().admit("mine", source)
    cloud = stage.connect()
    for turn_off in (cloud.suspend, cloud.stop):  # launcher.power would need a real SSH server
        settle(cloud, turn_off("mine"))
        settle(cloud, cloud.start("mine", deadline_s=3600, facts={"EXPIRES": "1"}))
    verb("log", id="mine")
    verb("delete", name="mine", yes=True)
    verb("gc", yes=True)
    verb("delete-disk", disk="mine", yes=True)
    verb("delete-address", address="front", yes=True)
    stage.server.fault("compute.instances.insert", error=stock_out("us-central1-a", "e2-small", is_plain=True))
    launch_tiny(stage.connect(), stage.home, options=LaunchOptions(recipe="tiny", name="second"))
    stage.server.fault("compute.instances.insert", error=quota_error("CPUS", 24, "us-central1"))
    with pytest.raises(QuotaError):
        launch_tiny(stage.connect(), stage.home, options=LaunchOptions(recipe="tiny", name="third"))

    def strikes(method: str, _nth: int, when: str) -> None:
        if (method, when) == ("instances.insert", "before"):
            things.pop("projects/demo/global/images/tiny-0-1-0-1", None)

    wire = Wire(stage.server, strikes)
    with pytest.raises(NotFoundError):
        launch_tiny(stage.connect(wire), stage.home, options=LaunchOptions(recipe="tiny", name="fourth"))


def verb(name: str, /, **typed: str | bool) -> None:
    code, _, stderr = run(name, **typed)
    assert code == 0, stderr


def removals(stage: Stage) -> None:
    """Remove what dead clients have left, pin, unpin and prune, and remove all images."""
    stage.collect()
    verb("pin", image="tiny-0.1.0-1")
    verb("unpin", image="tiny-0.1.0-1")
    verb("prune", keep="1", yes=True)
    for line in stage.there("images"):
        name = stage.server.get(f"global/images/{line.split()[0]}")["labels"]
        delete_image(
            stage.connect(), Ledger(stage.home / "ledger.sqlite3"), f"{name['recipe']}-{name['version']}".replace("_", ".")
        )


def leave(stage: Stage) -> None:
    """Leave what dead clients leave: a builder, a machine past its lifetime, a disk, a firewall rule."""
    cloud, expired = stage.connect(), {**names.client_labels(), "expires": "1"}
    for name, role in (("bake-left", "builder"), ("forgotten", "machine"), ("gone", "machine-in-progress")):
        settle(cloud, cloud.boot(replace(SPEC, name=name, token=name, labels={**expired, "role": role, "token": name})))
    done(stage.server, "POST", f"{ZONE}/instances/gone/setDiskAutoDelete?autoDelete=false&deviceName=persistent-disk-0")
    done(stage.server, "DELETE", f"{ZONE}/instances/gone")


def test_bakes_need_the_role_for_them_and_nothing_else(new_stage: NewStage) -> None:
    stage = new_stage()
    assume(stage, "bake")
    bakes(stage)
    check_used(stage, "bake")
    with pytest.raises(DeniedError) as caught:
        launch_tiny(stage.connect(), stage.home)
    assert "docs/permissions.md" in caught.value.next_step
    assert stage.there("instances") == []


def test_launches_need_the_role_for_them_and_nothing_else(stage: Stage) -> None:
    assume(stage, "launch")
    launches(stage)
    check_used(stage, "launch")
    with pytest.raises(DeniedError):
        bake_tiny(stage.connect(), stage.home, options=BakeOptions(force=True))


def test_rebuilds_need_the_roles_for_them_and_nothing_else(stage: Stage) -> None:
    leave(stage)
    assume(stage, "bake", "rebuild")
    bakes(stage)
    removals(stage)
    check_used(stage, "rebuild")
    assert stage.there("instances") == ["us-central1-a/forgotten TERMINATED"]
    assert stage.there("images") == []
    assert stage.there("disks") == ["us-central1-a/forgotten READY"]


@pytest.mark.parametrize("role", ["bake", "launch"])
def test_a_firewall_rule_of_somebody_else_cannot_be_deleted(stage: Stage, role: str) -> None:
    assume(stage, role)
    cloud = stage.connect()
    with pytest.raises(DeniedError, match=r"compute\.firewalls\.delete"):
        cloud._client.change("rule", cloud._client.services.firewalls.delete_unary, firewall="default-allow-ssh")


def test_a_machine_of_a_user_cannot_be_deleted_by_those_who_bake(stage: Stage) -> None:
    launch_tiny(stage.connect(), stage.home)
    assume(stage, "bake")
    with pytest.raises(DeniedError, match=r"compute\.instances\.delete"):
        stage.connect().delete(Kind.MACHINE, "mine")


@pytest.fixture
def stage(new_stage: NewStage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a cloud with an image, which verbs use."""
    made = new_stage("launch")
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: made.connect())
    return made
