"""The policies in docs/permissions are enough, and grant nothing that is not needed: the server enforces them on whole verbs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import clouds
from bakery.bake import Baked
from bakery.order import BakeOptions
from clouds import names
from clouds.aws.driver import Aws
from clouds.driver import End, Kind, Wishes
from clouds.errors import DeniedError
from clouds.findings import Size
from clouds.ledger import Ledger
from launcher import power
from launcher.images import delete_image
from launcher.launch import LaunchOptions
from tests import needed
from tests.cli.verbs import run
from tests.clouds.aws.stage import Cloud, Stage
from tests.clouds.aws.test_resume import kill
from tests.clouds.gcp.stage import bake_large, bake_tiny, launch_tiny
from tests.killing import take_up, unfinished
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
LARGEST = Size(cpus=2, memory_mb=4096, disk_gb=10)
ALL = Wishes(spot=True, max_price_usd=1.0, keep_disk=True, static_ip="front", machine_type="m6i.large")
DENIED = ("UnauthorizedOperation", "AccessDeniedException")
POLICY_CHARACTERS = 6144
"""The longest policy, without white space: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html."""


@pytest.fixture
def verbs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a cloud that verbs use."""
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: connect(stage))
    monkeypatch.setattr(clouds, "configured", lambda: ["aws"])
    return stage


def assume(stage: Stage, *roles: str) -> None:
    """Allow from now on what the policies of these roles say."""
    from tests.servers.ec2.iam import Policy

    stage.server.policy = Policy(needed.aws(*roles, account=stage.server.account))


def check_used(stage: Stage, *roles: str) -> None:
    """Check that nothing was denied, and that each action in the policies of these roles was needed."""
    from tests.servers.ec2.iam import Policy

    assert stage.server.policy
    assert [call for call in stage.server.calls if call.code in DENIED] == []
    assert Policy(needed.aws(*roles)).actions() - stage.server.policy.used == set()


def connect(stage: Stage) -> Cloud:
    cloud = stage.connect(scheduler_role=f"arn:aws:iam::{stage.server.account}:role/bakehouse-stop")
    cloud.regions = lambda: Aws.regions(cloud)[:2]  # type: ignore[method-assign]
    return cloud


def verb(name: str, /, **typed: str | bool) -> None:
    code, _, stderr = run(name, **typed)
    assert code == 0, stderr


def bakes(stage: Stage) -> None:
    """Bake with files that are sent over SSH, on spot capacity, and interrupted once the image was requested."""
    resumes(stage)
    bake_large(connect(stage), stage.home)
    bake_tiny(connect(stage), stage.home, options=BakeOptions(spot=True, force=True))
    stage.server.fault("CreateImage", when="after", error=lambda: signal.raise_signal(signal.SIGINT))
    stage.play(lambda: bake_tiny(connect(stage), stage.home, options=BakeOptions(force=True)))
    assert isinstance(stage.error, KeyboardInterrupt)
    verb("images", region="all")
    connect(stage).checks(LARGEST)["quota"]()


def forced(cloud: Cloud, home: Path) -> Baked:
    """Bake although nothing has changed."""
    return bake_tiny(cloud, home, options=BakeOptions(force=True))


def resumes(stage: Stage) -> None:
    """Resume a bake that was killed once its builder was there, and has left a volume, too."""
    assert kill(stage, forced, 10, "after")
    (note,) = unfinished(stage)
    assert connect(stage).find(Kind.MACHINE, note.id)
    tags = [{"Key": key, "Value": value} for key, value in {**note.labels, "role": "builder"}.items()]
    specification = [{"ResourceType": "volume", "Tags": tags}]
    policy, stage.server.policy = stage.server.policy, None
    volume = client(stage.server).create_volume(AvailabilityZone="us-east-1a", Size=8, TagSpecifications=specification)
    stage.server.policy = policy
    verb("bakes")
    assert take_up(stage, note.id).id == note.id
    assert not [line for line in stage.left() if volume["VolumeId"] in line or note.id in line]


def launches(stage: Stage) -> None:
    """Launch with every option, use each verb on the machine, and delete it all."""
    launch_tiny(connect(stage), stage.home, options=LaunchOptions(recipe="tiny", name="mine", wishes=ALL))
    connect(stage).checks(LARGEST)["quota"]()
    for name in ("machines", "images"):
        verb(name, region="all")
    for source in ("198.51.100.9/32", "127.0.0.1/32"):
        connect(stage).admit("mine", source)
    power.stop(connect(stage), "mine")
    power.start(connect(stage), "mine")
    verb("log", id="mine")
    verb("delete", name="mine", yes=True)
    verb("gc", yes=True)
    verb("delete-disk", disk="mine", yes=True)
    verb("delete-address", address="front", yes=True)


def price_too_low(stage: Stage) -> None:
    stage.server.switches.spot_price = 0.5
    wishes = Wishes(spot=True, max_price_usd=0.01)
    stage.play(lambda: launch_tiny(connect(stage), stage.home, options=LaunchOptions(recipe="tiny", name="dear", wishes=wishes)))
    assert "costs 0.5 USD" in stage.told


def leave(stage: Stage) -> None:
    """Leave what dead clients leave: a builder on spot capacity, a machine past its lifetime, a volume."""
    expired = {**names.client_labels(), "expires": "1"}
    stage.boot(name="bake-left", labels={**expired, "role": "builder"}, wishes=Wishes(spot=True), at_deadline=End.DELETE)
    stage.boot(name="forgotten", labels={**expired, "role": "machine"})
    tags = [{"Key": key, "Value": value} for key, value in {**expired, "role": "builder"}.items()]
    specification = [{"ResourceType": "volume", "Tags": tags}]
    client(stage.server).create_volume(AvailabilityZone="us-east-1a", Size=8, TagSpecifications=specification)


def removals(stage: Stage) -> None:
    """Remove what dead clients have left, pin, unpin and prune, and remove all images."""
    stage.collect()
    verb("pin", image="tiny-0.1.0-1")
    verb("unpin", image="tiny-0.1.0-1")
    verb("prune", keep="1", yes=True)
    for line in [line for line in stage.left() if line.startswith("images ")]:
        delete_image(connect(stage), Ledger(stage.home / "ledger.sqlite3"), line.split()[1].partition("/")[2])


def test_bakes_need_the_policies_for_them_and_nothing_else(verbs: Stage) -> None:
    assume(verbs, "bake", "scheduler")
    bakes(verbs)
    check_used(verbs, "bake")
    with pytest.raises(DeniedError) as caught:
        launch_tiny(connect(verbs), verbs.home)
    assert "docs/permissions.md" in caught.value.next_step
    assert [line for line in verbs.left() if line.startswith("instances ")] == []


def test_launches_need_the_policies_for_them_and_nothing_else(verbs: Stage) -> None:
    verbs.bake()
    assume(verbs, "launch", "scheduler")
    for work in (launches, price_too_low):
        work(verbs)
    check_used(verbs, "launch", "scheduler")
    with pytest.raises(DeniedError):
        bake_tiny(connect(verbs), verbs.home, options=BakeOptions(force=True))
    assert [line.partition(" ")[0] for line in verbs.left()] == ["images", "snapshots"]


def test_rebuilds_need_the_policies_for_them_and_nothing_else(verbs: Stage) -> None:
    leave(verbs)
    assume(verbs, "bake", "rebuild", "scheduler")
    bakes(verbs)
    removals(verbs)
    check_used(verbs, "bake", "rebuild")
    assert [line.split()[1].partition("/")[2] for line in verbs.left("volumes", "security-groups")] == ["forgotten"]


@pytest.mark.parametrize("role", ["bake", "launch", "rebuild"])
def test_what_somebody_else_has_made_cannot_be_changed(verbs: Stage, role: str) -> None:
    stranger = client(verbs.server).create_security_group(GroupName="other", Description="any")["GroupId"]
    assume(verbs, role)
    with pytest.raises(DeniedError):
        verbs.connect()._client.ask("group", "delete_security_group", GroupId=stranger)


def test_a_finished_image_cannot_be_deleted_by_those_who_bake_or_launch(verbs: Stage) -> None:
    verbs.bake()
    ledger = Ledger(verbs.home / "ledger.sqlite3")
    [image] = [line.split()[1].partition("/")[2] for line in verbs.left() if line.startswith("images ")]
    for role in ("bake", "launch"):
        assume(verbs, role)
        with pytest.raises(DeniedError):
            delete_image(connect(verbs), ledger, image)


def test_a_policy_is_not_longer_than_iam_takes() -> None:
    for path in needed.FOLDER.glob("aws-*.json"):
        assert len("".join(path.read_text(encoding="utf-8").split())) < POLICY_CHARACTERS, path.name


@pytest.mark.parametrize("action", ["scheduler:CreateSchedule", "iam:PassRole"])
def test_without_a_statement_for_the_scheduler_a_launch_says_so_and_leaves_nothing(verbs: Stage, action: str) -> None:
    assume(verbs, "bake", "scheduler")
    policy = verbs.server.policy
    assert policy
    policy.statements = [one for one in policy.statements if action not in one["Action"]]
    with pytest.raises(DeniedError, match=action) as caught:
        verbs.boot(connect(verbs), labels={"role": "builder"})
    assert "docs/permissions.md" in caught.value.next_step
    assert verbs.left() == []
