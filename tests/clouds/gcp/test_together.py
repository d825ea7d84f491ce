"""Driver and strict server together, where each was changed to what the real service does."""

from __future__ import annotations

import pytest

from bakery.order import BakeOptions
from bakery.plan import plan
from clouds.driver import Kind
from clouds.errors import CloudError, ConflictError, UnreachableError
from clouds.ledger import Ledger
from launcher.launch import LaunchOptions
from launcher.machines import delete
from tests.clouds.gcp.stage import NewStage, Stage, Wire, bake_tiny, launch_tiny, tiny
from tests.servers.asking import BASE, ask
from tests.servers.gce import Page
from tests.servers.gce.errors import forbidden
from tests.servers.gce.faults import not_compatible
from tests.servers.gce.operations import OperationError

pytestmark = pytest.mark.server

ZONE = "us-central1-a"
INSERT = "compute.instances.insert"


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    """Give a cloud with an image and a machine `mine`."""
    made = new_stage("launch")
    made.play(launch_tiny)
    assert made.error is None
    return made


def test_first_bake_of_a_project_makes_the_network_and_asks_for_one_builder(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.bake()
    assert stage.error is None
    assert stage.server.count("compute.networks.insert") == 1
    assert stage.server.count(INSERT) == 2  # the builder, and the machine that tests the image
    assert stage.left() == []


def test_zone_out_of_reach_loses_nothing(stage: Stage) -> None:
    before = stage.server.inventory()
    stage.server.switches.unreachable_zones.add(ZONE)
    with pytest.raises(UnreachableError, match=ZONE):
        stage.connect().find(Kind.MACHINE, "mine")
    with pytest.raises(UnreachableError, match=ZONE):
        delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), "mine")
    with pytest.raises(CloudError, match=ZONE):
        stage.collect()
    stage.server.switches.unreachable_zones.clear()
    assert stage.server.inventory() == before
    assert stage.connect().find(Kind.MACHINE, "mine")


def test_name_that_may_be_taken_in_a_zone_that_a_list_left_out_is_refused_and_harms_nobody(stage: Stage) -> None:
    before = stage.server.inventory()
    stage.server.switches.unlisted_zones.add(ZONE)
    stage.play(launch_tiny)
    stage.server.switches.unlisted_zones.clear()
    assert ZONE in stage.told
    assert stage.server.inventory() == before


def test_kept_disk_of_a_machine_that_was_deleted_elsewhere_is_not_removed_by_gc(stage: Stage) -> None:
    [name] = [line for line in stage.there("instances") if "/mine" in line]
    assert name.startswith(ZONE)
    place = f"zones/{ZONE}/instances/mine"
    device = stage.server.instance("mine")["disks"][0]["deviceName"]
    kept = ask(stage.server, "POST", f"{place}/setDiskAutoDelete", None, autoDelete="false", deviceName=device)
    assert kept.status == 200
    assert ask(stage.server, "DELETE", place, None).status == 200
    stage.server.advance(300)
    stage.collect()
    assert stage.there("instances") == []
    [disk] = [thing for line, thing in stage.server.things().items() if line.startswith("disks ")]
    assert disk["labels"]["role"] == "machine"


def test_policy_that_forbids_addresses_names_the_flag_with_which_the_same_bake_works(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.server.switches.forbids_external_addresses = True
    stage.bake()
    assert "--no-public-ip" in stage.told
    assert stage.left() == []
    stage.error = None
    stage.play(lambda cloud, home: bake_tiny(cloud, home, options=BakeOptions(no_public_ip=True)))
    assert stage.error is None


def test_machine_type_that_a_zone_lacks_is_taken_in_another_zone_of_the_region(new_stage: NewStage) -> None:
    stage, told = new_stage("launch"), list[str]()
    stage.play(lambda cloud, home: launch_tiny(cloud, home, options=LaunchOptions(recipe="tiny", name="mine"), told=told))
    machine_type = stage.server.instance("mine")["machineType"].rpartition("/")[2]
    other, told = new_stage("launch"), list[str]()
    other.server.withdraw(f"zones/{ZONE}/machineTypes/{machine_type}")
    other.play(lambda cloud, home: launch_tiny(cloud, home, options=LaunchOptions(recipe="tiny", name="mine"), told=told))
    assert other.error is None, other.told
    assert "trying us-central1-" in told[0]
    assert not other.there("instances")[0].startswith(f"{ZONE}/")


@pytest.mark.parametrize("when", ["before", "after"])
def test_page_in_place_of_an_answer_is_no_success_and_leaves_nothing(new_stage: NewStage, when: str) -> None:
    stage = new_stage("launch")
    stage.server.fault(INSERT, when=when, error=Page())
    stage.play(launch_tiny)
    assert isinstance(stage.error, CloudError)
    stage.collect()
    assert stage.left() == []


def test_wait_that_answers_at_once_is_no_end_of_an_operation(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.server.switches.wait_returns_at_once = True
    stage.server.switches.guest_shutdown_s = 0.3
    stage.bake()
    assert stage.error is None, stage.told
    assert stage.left() == []


def test_guest_that_shuts_down_slowly_is_waited_for_by_the_clock_of_the_cloud(new_stage: NewStage) -> None:
    """Its clock stands still, but at each look at an operation: for 1 s in the launch, then 30 s. A machine takes 100 s to end."""
    stage = new_stage("launch", clock=lambda: 1_800_000_000.0)
    stage.server.switches.wait_returns_at_once = True
    stage.server.switches.guest_shutdown_s = 100
    waits: list[str] = []
    a_look_takes_s = 1.0

    def pass_time(method: str, nth: int, when: str) -> None:
        if when == "before" and method.endswith("Operations.wait"):
            waits.append(method)
            stage.server.advance(a_look_takes_s)

    wire = Wire(stage.server, pass_time)
    stage.play(launch_tiny, wire)
    assert stage.error is None, stage.told
    waits.clear()
    a_look_takes_s = 30.0
    delete(stage.connect(wire), Ledger(stage.home / "ledger.sqlite3"), "mine")
    assert waits.count("zoneOperations.wait") >= 4
    assert stage.there("instances") == []


def test_machine_that_is_gone_before_its_deletion_ends_was_deleted(stage: Stage) -> None:
    """As seen in hashicorp/terraform-provider-google#8422 and cloudfoundry/bosh-google-cpi-release#298."""
    error = OperationError("RESOURCE_NOT_FOUND", f"The resource 'projects/demo/zones/{ZONE}/instances/mine' was not found", 404)
    stage.server.fault("compute.instances.delete", when="after", error=error)
    ledger = Ledger(stage.home / "ledger.sqlite3")
    delete(stage.connect(), ledger, "mine")
    assert stage.left() == []
    assert [entry.name for entry in ledger.entries("gcp") if entry.name == "mine"] == []


def test_machine_that_could_not_be_looked_at_is_not_told_to_be_deleted_by_its_name(new_stage: NewStage) -> None:
    """Its name may be another's: `./inv gc` goes by the label alone."""
    stage = new_stage("launch")
    stage.server.fault(INSERT, when="before", error=not_compatible("pd-balanced", "e2-small"))
    stage.server.fault("compute.instances.aggregatedList", nth=2, error=forbidden("compute.instances.list", "projects/demo"))
    stage.play(launch_tiny)
    assert "left behind: machine 'mine'" in stage.told
    assert "to remove it: ./inv gc" in stage.told
    assert "./inv delete mine" not in stage.told


@pytest.mark.parametrize("zone", ["us-central1-b", "us-east1-b"])
def test_machine_of_the_same_name_in_another_zone_that_is_not_ours_stays(stage: Stage, zone: str) -> None:
    """Names of instances are unique in a zone alone."""
    _insert_foreign(stage, zone, "mine")
    delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), "mine")
    assert stage.there("instances") == [f"{zone}/mine RUNNING"]


def test_machine_that_bakehouse_did_not_make_is_not_deleted(stage: Stage) -> None:
    _insert_foreign(stage, ZONE, "other")
    before = stage.server.inventory()
    with pytest.raises(ConflictError, match="not created by Bakehouse"):
        delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), "other")
    assert stage.server.inventory() == before


def _insert_foreign(stage: Stage, zone: str, name: str) -> None:
    """Create an instance with the API alone, as another user would."""
    body = {
        "name": name,
        "machineType": f"zones/{zone}/machineTypes/e2-small",
        "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": BASE}}],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }
    assert ask(stage.server, "POST", f"zones/{zone}/instances", body).status == 200
    stage.server.advance(60)


def test_plan_says_that_the_base_is_newer_than_that_of_the_image(new_stage: NewStage) -> None:
    stage = new_stage("launch")
    kept = stage.home / "gcp" / "bases.json"
    kept.write_text(kept.read_text(encoding="utf-8").replace("trixie-v20261111", "trixie-v20261125"), encoding="utf-8")
    told = plan(stage.connect(), tiny(stage.home), home=stage.home)
    assert told[0].startswith("bake: would run: the base has changed since tiny-")
