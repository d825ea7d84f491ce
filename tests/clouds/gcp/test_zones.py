"""Machines that there is no room for, that the account may not have, that are taken away, or that end by their time."""

from __future__ import annotations

import pytest

from clouds.driver import End, Wishes
from clouds.errors import CapacityError, CloudError, QuotaError
from clouds.gcp.instances import FACTS
from clouds.ledger import Ledger
from clouds.lifecycle import settle
from launcher import power
from launcher.launch import LaunchOptions
from tests.clouds.gcp.stage import Cloud, NewStage, Stage, Wire, bake_tiny, launch_tiny
from tests.fake_cloud import Killed
from tests.servers.gce.errors import ApiError, forbidden
from tests.servers.gce.faults import quota_error, stock_out
from tests.servers.gce.operations import OperationError
from tests.servers.vm import silent

pytestmark = pytest.mark.server

INSERT, LIST_ZONES = "compute.instances.insert", "compute.zones.list"
BUILDER, TEST_MACHINE = 1, 2
"""Which request for a machine is theirs."""


def fill(stage: Stage, zone: str, *, nth: int | None = 1, available: str = "", is_plain: bool = True) -> None:
    """Let the nth machine that is asked for from now on find no room."""
    stage.server.fault(INSERT, nth=nth, error=stock_out(zone, "e2-small", available=available, is_plain=is_plain))


def launch_with(stage: Stage, wishes: Wishes = Wishes(), *, wire: Wire | None = None, lifetime_h: float = 1) -> list[str]:  # noqa: B008
    """Launch a machine `mine` and return its progress lines."""
    told: list[str] = []
    options = LaunchOptions(recipe="tiny", name="mine", wishes=wishes, lifetime_h=lifetime_h)
    stage.play(lambda cloud, home: launch_tiny(cloud, home, options=options, told=told), wire)
    return told


def zones_tried(stage: Stage) -> list[str]:
    """Return the zones in which a machine `mine` was asked for, in order."""
    asked = [call for call in stage.server.calls if call.method == INSERT and call.body["name"] == "mine"]
    return [call.query["zone"] for call in asked]


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    """Give a cloud with an image."""
    return new_stage("launch")


# Zones without room


def test_zone_that_has_room_by_the_error_is_taken_and_told(stage: Stage) -> None:
    fill(stage, "us-central1-a", available="us-central1-c, us-central1-f", is_plain=False)
    [told] = launch_with(stage)
    assert told.startswith("machine 'mine': ")
    assert told.endswith("; trying us-central1-c")
    assert stage.there("instances") == ["us-central1-c/mine RUNNING"]
    assert stage.server.count(LIST_ZONES) == 0


def test_builder_finds_room_elsewhere_and_the_bake_says_so(new_stage: NewStage) -> None:
    stage = new_stage()
    fill(stage, "us-central1-a", nth=BUILDER, available="us-central1-b", is_plain=False)
    stage.bake()
    assert stage.error is None
    assert any(note.endswith("trying us-central1-b") for note in stage.notes)


def test_machine_that_tests_an_image_finds_room_elsewhere_and_the_bake_says_so(new_stage: NewStage) -> None:
    stage = new_stage()
    fill(stage, "us-central1-a", nth=TEST_MACHINE, available="us-central1-b", is_plain=False)
    stage.bake()
    assert stage.error is None
    assert any(note.startswith("machine 'test-") and note.endswith("trying us-central1-b") for note in stage.notes)


def test_error_that_names_no_zones_leads_to_the_others_of_the_region(stage: Stage) -> None:
    fill(stage, "us-central1-a", nth=1)
    fill(stage, "us-central1-b", nth=2)
    told = launch_with(stage)
    assert [line.rpartition(" ")[2] for line in told] == ["us-central1-b", "us-central1-c"]
    assert stage.there("instances") == ["us-central1-c/mine RUNNING"]
    assert stage.server.count(LIST_ZONES) == 1


def test_zones_that_are_down_are_not_tried(stage: Stage) -> None:
    for zone in ("us-central1-b", "us-central1-c"):
        stage.server.cloud.store.get(f"projects/demo/zones/{zone}")["status"] = "DOWN"
    fill(stage, "us-central1-a")
    launch_with(stage)
    assert zones_tried(stage) == ["us-central1-a", "us-central1-f"]


def test_region_without_room_is_told_and_nothing_is_left(stage: Stage) -> None:
    fill(stage, "us-central1-a", nth=None)
    launch_with(stage)
    assert isinstance(stage.error, CapacityError)
    assert "--zone, --region or --type" in stage.told
    assert sorted(zones_tried(stage)) == ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]
    assert stage.left() == []


def test_five_zones_are_tried_and_no_more(stage: Stage) -> None:
    named = "us-central1-b,us-central1-c,us-central1-f,us-east1-b,us-east1-c,us-east1-d"
    fill(stage, "us-central1-a", nth=None, available=named, is_plain=False)
    launch_with(stage)
    assert isinstance(stage.error, CapacityError)
    assert zones_tried(stage) == ["us-central1-a", *named.split(",")[:4]]
    assert stage.left() == []


def test_zones_that_cannot_be_listed_leave_the_error_as_it_is(stage: Stage) -> None:
    fill(stage, "us-central1-a")
    stage.server.fault(LIST_ZONES, error=forbidden("compute.zones.list", "projects/demo"))
    launch_with(stage)
    assert isinstance(stage.error, CapacityError)
    assert zones_tried(stage) == ["us-central1-a"]


def test_refusal_for_want_of_room_in_the_answer_itself_leads_on_too(stage: Stage) -> None:
    stage.server.fault(INSERT, error=ApiError(503, "insufficientCapacity", "No capacity."))
    launch_with(stage)
    assert zones_tried(stage) == ["us-central1-a", "us-central1-b"]
    assert stage.error is None


def test_zone_that_does_not_offer_the_type_is_passed_over(stage: Stage) -> None:
    stage.server.cloud.store.remove("projects/demo/zones/us-central1-b/machineTypes/c3-standard-4")
    fill(stage, "us-central1-a")
    told = launch_with(stage, Wishes(machine_type="c3-standard-4"))
    assert "type 'c3-standard-4' is not available in zone us-central1-b; trying us-central1-c" in told[1]
    assert stage.there("instances") == ["us-central1-c/mine RUNNING"]


def test_type_that_the_user_s_own_zone_does_not_offer_is_an_error_at_once(stage: Stage) -> None:
    launch_with(stage, Wishes(machine_type="no-such-1"))
    assert isinstance(stage.error, CloudError)
    assert not isinstance(stage.error, CapacityError)
    assert zones_tried(stage) == ["us-central1-a"]


# Quota


@pytest.mark.parametrize(
    "refusal",
    [
        quota_error("CPUS", 8, "us-central1"),
        ApiError(403, "quotaExceeded", "Quota 'CPUS' exceeded.  Limit: 8.0 in region us-central1."),
    ],
    ids=["in the operation", "in the answer"],
)
def test_quota_is_told_with_limit_need_and_where_to_ask_and_no_other_zone_is_tried(
    stage: Stage, refusal: OperationError | ApiError
) -> None:
    stage.server.fault(INSERT, error=refusal)
    launch_with(stage, Wishes(machine_type="e2-standard-8"))
    assert isinstance(stage.error, QuotaError)
    assert "Limit: 8.0 in region us-central1" in stage.told
    assert "requested: e2-standard-8 (8 processors)" in stage.told
    assert "https://console.cloud.google.com/iam-admin/quotas" in stage.told
    assert zones_tried(stage) == ["us-central1-a"]
    assert stage.left() == []


# Spot machines that are taken away


def taken_away(stage: Stage, *, times: int) -> Wire:
    """Let Google take the machine away so many times while it boots without a word; afterwards it comes up."""
    ordinary, boots, due = stage.vms.play, iter([silent] * times), iter(range(times))
    stage.vms.play = lambda vm: next(boots, ordinary)(vm)

    def strikes(method: str, nth: int, when: str) -> None:
        reads = (method, when) == ("instances.getSerialPortOutput", "before")
        if reads and stage.there("instances") == ["us-central1-a/mine RUNNING"] and next(due, None) is not None:
            stage.server.preempt("mine")

    return Wire(stage.server, strikes)


@pytest.mark.parametrize("on_preempt", [End.STOP, End.DELETE])
def test_spot_machine_that_is_taken_away_unheard_is_asked_for_once_more_and_that_is_told(stage: Stage, on_preempt: End) -> None:
    [told] = launch_with(stage, Wishes(spot=True, on_preempt=on_preempt), wire=taken_away(stage, times=1))
    assert told.endswith("while it was starting; starting it once more")
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]


@pytest.mark.parametrize("on_preempt", [End.STOP, End.DELETE])
def test_spot_machine_that_is_taken_away_twice_is_told_with_what_to_do(stage: Stage, on_preempt: End) -> None:
    launch_with(stage, Wishes(spot=True, on_preempt=on_preempt), wire=taken_away(stage, times=2))
    assert isinstance(stage.error, CloudError)
    assert "without --spot" in stage.told
    assert stage.left() == []


# Machines that end by their time


def kill_once_it_runs(stage: Stage) -> Wire:
    """Return a wire on which the process dies as it first reads a console."""

    def strikes(method: str, nth: int, when: str) -> None:
        if (method, when) == ("instances.getSerialPortOutput", "before"):
            wire.die()

    wire = Wire(stage.server, strikes)
    return wire


def pass_time(stage: Stage, hours: float) -> None:
    """Let time pass in the cloud, and what falls due end."""
    stage.server.advance(hours * 3600)
    stage.server.advance(60)


def test_builder_of_a_dead_client_is_deleted_at_its_deadline_and_leaves_nothing(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(bake_tiny, kill_once_it_runs(stage))
    assert isinstance(stage.error, Killed)
    assert len(stage.there("instances")) == 1
    pass_time(stage, 1)
    assert stage.left() == []


def test_builder_that_the_cloud_has_ended_is_forgotten_by_gc(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(bake_tiny, kill_once_it_runs(stage))
    pass_time(stage, 1)
    stage.collect()
    assert Ledger(stage.home / "ledger.sqlite3").entries("gcp.demo") == []


def test_machine_is_stopped_when_its_lifetime_is_over_and_its_disk_stays(stage: Stage) -> None:
    launch_with(stage, lifetime_h=2)
    pass_time(stage, 1.9)
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]
    pass_time(stage, 0.2)
    assert stage.there("instances") == ["us-central1-a/mine TERMINATED"]
    assert stage.there("disks") == ["us-central1-a/mine READY"]


def test_machine_that_starts_again_without_a_lifetime_stays(stage: Stage) -> None:
    launch_with(stage, lifetime_h=2)
    cloud = stage.connect()
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=0, facts={}))
    pass_time(stage, 24 * 365)
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]


def test_machine_without_a_lifetime_stays(stage: Stage) -> None:
    launch_with(stage, lifetime_h=0)
    pass_time(stage, 24 * 365)
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]


def test_resumed_machine_runs_as_long_as_it_could_before_and_is_told_when_it_ends(stage: Stage) -> None:
    launch_with(stage, lifetime_h=2)
    cloud = stage.connect()
    pass_time(stage, 1)
    settle(cloud, cloud.suspend("mine"))
    limit_s = cloud.resumed_for_s("mine")
    assert limit_s and limit_s >= 2 * 3600
    settle(cloud, cloud.start("mine", deadline_s=9 * 3600, facts={"EXPIRES": "4711"}))
    facts = next(
        item["value"]
        for line, thing in stage.server.things().items()
        if line.startswith("instances ")
        for item in thing["metadata"]["items"]
        if item["key"] == FACTS
    )
    assert "4711" in facts
    pass_time(stage, 1.9)
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]
    pass_time(stage, 0.2)
    assert stage.there("instances") == ["us-central1-a/mine TERMINATED"]


def test_resumed_machine_without_a_limit_has_none(stage: Stage) -> None:
    launch_with(stage, lifetime_h=0)
    cloud = stage.connect()
    settle(cloud, cloud.suspend("mine"))
    assert cloud.resumed_for_s("mine") is None


# Machines that are suspended


def suspended(stage: Stage) -> Cloud:
    """Launch a machine `mine` and suspend it."""
    launch_with(stage, lifetime_h=2)
    cloud = stage.connect()
    settle(cloud, cloud.suspend("mine"))
    return cloud


def test_suspended_machine_that_is_stopped_is_off_and_its_memory_is_gone(stage: Stage) -> None:
    cloud = suspended(stage)
    assert power.stop(cloud, "mine")
    assert stage.there("instances") == ["us-central1-a/mine TERMINATED"]
    assert not power.stop(cloud, "mine")


def test_suspended_machine_that_is_stopped_takes_another_lifetime(stage: Stage) -> None:
    cloud = suspended(stage)
    power.stop(cloud, "mine")
    power.start(cloud, "mine", lifetime_h=9)
    pass_time(stage, 8.9)
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]


def test_suspended_machine_that_cannot_be_resumed_stays_and_stop_says_what_to_do(stage: Stage) -> None:
    cloud = suspended(stage)
    stage.server.fault("compute.instances.resume", error=stock_out("us-central1-a", "e2-small"))
    with pytest.raises(CapacityError, match="cannot resume machine 'mine', which is required to stop it") as raised:
        power.stop(cloud, "mine")
    assert "stays suspended" in raised.value.next_step
    assert "./inv delete mine" in raised.value.next_step
    assert stage.there("instances") == ["us-central1-a/mine SUSPENDED"]


def test_interrupted_stop_of_a_suspended_machine_says_that_it_may_run(stage: Stage) -> None:
    suspended(stage)

    def strikes(method: str, nth: int, when: str) -> None:
        if (method, when) == ("instances.resume", "after"):
            raise KeyboardInterrupt

    stage.play(lambda cloud, home: power.stop(cloud, "mine"), Wire(stage.server, strikes))
    assert isinstance(stage.error, KeyboardInterrupt)
    assert "./inv stop mine" in stage.told


def test_machine_that_is_being_suspended_is_not_stopped_and_that_is_said(stage: Stage) -> None:
    cloud = suspended(stage)
    stage.server.cloud.store.get("projects/demo/zones/us-central1-a/instances/mine")["status"] = "SUSPENDING"
    with pytest.raises(CloudError, match="machine 'mine' is being suspended") as raised:
        power.stop(cloud, "mine")
    assert "./inv stop mine" in raised.value.next_step
