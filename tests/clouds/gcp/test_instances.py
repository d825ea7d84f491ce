"""What a machine is asked for as, and how it is read back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.driver import BootSpec, End, State, Wishes
from clouds.errors import InvalidError, UsageError
from clouds.gcp import instances, network, sdk
from clouds.gcp.machine_types import choose
from clouds.gcp.places import Places, places
from tests.clouds.gcp.stub import Stub, instance, operation

HERE = places({"project": "demo", "zone": "us-central1-a"})
SPEC = BootSpec(
    name="lab",
    token="t",
    source="jupyter-1.4.0-7",
    cpus=2,
    memory_mb=4096,
    disk_gb=10,
    labels={"version": "1.4.0-7"},
    deadline_s=3600,
    ports=(22, 8888),
)


def body(spec: BootSpec = SPEC, where: Places = HERE) -> dict[str, Any]:
    """Return the JSON that is sent."""
    return sent(instances.body(spec, where, zone="us-central1-a", tags=["bakehouse-lab-ssh"], address=""))


def sent(message: Any) -> dict[str, Any]:
    return dict(json.loads(type(message).to_json(message, always_print_fields_with_no_presence=False)))


def metadata(spec: BootSpec) -> dict[str, str]:
    return {item["key"]: item["value"] for item in body(spec)["metadata"]["items"]}


def test_a_machine_gets_the_smallest_type_that_fits() -> None:
    assert body()["machineType"].endswith("/e2-medium")
    assert choose(3, 1024) == "e2-standard-4"
    assert choose(2, 9000) == "e2-highmem-2"


def test_what_no_type_holds_is_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidError) as refused:
        choose(1000, 1)
    assert "--type" in refused.value.next_step


def test_a_type_that_is_named_is_taken() -> None:
    assert body(replace(SPEC, wishes=Wishes(machine_type="c3-standard-4")))["machineType"].endswith("/c3-standard-4")


@pytest.mark.parametrize(
    ("machine_type", "disk"),
    [
        ("", "pd-balanced"),
        ("n1-standard-1", "pd-balanced"),
        ("custom-2-4096", "pd-balanced"),
        ("c3-standard-4", None),
        ("n4-standard-2", None),
    ],
)
def test_disk_is_never_of_the_slowest_type_unless_asked_for(machine_type: str, disk: str | None) -> None:
    spec = replace(SPEC, wishes=Wishes(machine_type=machine_type))
    found = body(spec)["disks"][0]["initializeParams"].get("diskType")
    assert found == (f"zones/us-central1-a/diskTypes/{disk}" if disk else None)
    chosen = body(replace(spec, wishes=replace(spec.wishes, disk_type="pd-standard")))["disks"][0]["initializeParams"]
    assert chosen["diskType"].endswith("/pd-standard")


def test_nobody_but_the_owner_s_key_lets_anybody_in() -> None:
    told = metadata(replace(SPEC, facts={"AUTHORIZED_KEY": "ssh-ed25519 AAAA me"}))
    assert told["block-project-ssh-keys"] == "TRUE"
    assert told["enable-oslogin"] == "FALSE"
    assert instances.read_facts(told[instances.FACTS]) == {"AUTHORIZED_KEY": "ssh-ed25519 AAAA me"}


def test_a_machine_has_no_account_of_the_cloud_unless_one_is_named() -> None:
    assert "serviceAccounts" not in body()
    named = places({"project": "demo", "service_account": "baker@demo.iam.gserviceaccount.com"})
    assert [account["email"] for account in body(where=named)["serviceAccounts"]] == ["baker@demo.iam.gserviceaccount.com"]


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,10}", fullmatch=True), st.text("ab'\"$ =\\`;", max_size=20)))
def test_facts_come_back_as_they_were(facts: dict[str, str]) -> None:
    assert instances.read_facts(instances.write_facts(facts)) == facts


@pytest.mark.parametrize(
    ("wishes", "deadline_s", "at_deadline", "action"),
    [
        (Wishes(), 0, End.STOP, None),
        (Wishes(), 60, End.STOP, "STOP"),
        (Wishes(), 60, End.DELETE, "DELETE"),
        (Wishes(spot=True), 0, End.STOP, "STOP"),
        (Wishes(spot=True, on_preempt=End.DELETE), 60, End.STOP, "DELETE"),
    ],
)
def test_a_machine_ends_as_it_was_asked_to(wishes: Wishes, deadline_s: int, at_deadline: End, action: str | None) -> None:
    wanted = sent(instances.scheduling(replace(SPEC, wishes=wishes, deadline_s=deadline_s, at_deadline=at_deadline)))
    assert wanted.get("instanceTerminationAction") == action
    assert ("maxRunDuration" in wanted) == bool(deadline_s)
    assert wanted["automaticRestart"] == (action is None)


def test_a_lifetime_that_is_too_long_is_refused_and_one_too_short_is_stretched() -> None:
    schedule = sdk.compute.Scheduling()
    instances.limit_run_time(schedule, 5)
    assert sent(schedule) == {"maxRunDuration": {"seconds": "30"}}
    with pytest.raises(InvalidError, match="2880 h"):
        instances.limit_run_time(schedule, 121 * 24 * 3600)


def test_a_machine_without_a_public_address_has_none() -> None:
    [interface] = body(replace(SPEC, wishes=Wishes(no_public_ip=True)))["networkInterfaces"]
    assert "accessConfigs" not in interface


@pytest.mark.parametrize(
    ("status", "state"),
    [("STAGING", State.STARTING), ("RUNNING", State.RUNNING), ("SUSPENDED", State.SUSPENDED), ("TERMINATED", State.STOPPED)],
)
def test_states_are_read_in_our_words(status: str, state: State) -> None:
    assert instances.state(sdk.compute.Instance(status=status)) is state


# Firewall rules


def rules(spec: BootSpec = SPEC, **settings: str) -> dict[str, dict[str, Any]]:
    made = network.rules(spec, places({"project": "demo", **settings}), "203.0.113.7/32")
    return {rule.name: sent(rule) for rule in made}


def test_ssh_alone_is_let_in_and_from_the_caller_alone() -> None:
    [(name, rule)] = rules().items()
    assert name == "bakehouse-lab-ssh"
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    assert rule["sourceRanges"] == ["203.0.113.7/32"]
    assert rule["targetTags"] == [name]


def test_a_builder_lets_nobody_in() -> None:
    assert rules(replace(SPEC, ports=())) == {}


def test_https_has_a_rule_and_a_tag_of_its_own() -> None:
    rule = rules(replace(SPEC, wishes=Wishes(https_port=8443)))["bakehouse-lab-https"]
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["8443"]}]
    assert rule["targetTags"] == ["bakehouse-lab-https"]


def test_in_a_network_of_others_a_machine_is_shut_first() -> None:
    made = rules(network="default")
    assert made["bakehouse-lab-shut"]["denied"] == [{"IPProtocol": "all"}]
    assert made["bakehouse-lab-ssh"]["priority"] < made["bakehouse-lab-shut"]["priority"] < 1000


# Places


def test_a_project_must_be_set() -> None:
    with pytest.raises(UsageError) as refused:
        places({})
    assert "GOOGLE_CLOUD_PROJECT" in refused.value.next_step


@pytest.mark.parametrize("settings", [{"zone": "nowhere"}, {"zone": "us-east1-b", "region": "us-central1"}])
def test_a_zone_that_is_none_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="zone"):
        places({"project": "demo", **settings})


def test_the_region_is_that_of_the_zone() -> None:
    assert places({"project": "demo", "zone": "europe-west1-c"}).region == "europe-west1"
    assert places({"project": "demo", "region": "europe-west1"}).zone == "europe-west1-b"
    assert places({"project": "demo", "zone": "us-central1-ai1a"}).region == "us-central1"


# A machine that starts again


def started(folder: Path, scheduling: dict[str, Any], *, deadline_s: int, facts: dict[str, str]) -> dict[str, Any]:
    """Start a machine that is off, and return the bodies that were sent by the last part of their path."""
    lab, done = "zones/us-central1-a/instances/lab", operation("go", "zones/us-central1-a/instances/lab")
    told = {"fingerprint": "f1", "items": [{"key": instances.FACTS, "value": "NONCE=old\n"}, {"key": "mine", "value": ""}]}
    there = instance("lab", status="TERMINATED", scheduling=scheduling, metadata=told)
    replies: dict[str, Any] = {f"POST {lab}/{verb}": done for verb in ("start", "setMetadata", "setScheduling")}
    listed = {"items": {"zones/us-central1-a": {"instances": [there]}}}
    service = Stub({**replies, "GET aggregated/instances": listed, "POST zones/us-central1-a/operations/go/wait": done})
    service.cloud(folder).start("lab", deadline_s=deadline_s, facts=facts)
    return {key.rpartition("/")[2]: body for key, body in service.bodies.items() if key.startswith("POST") and lab in key}


def test_machine_that_starts_again_has_its_new_deadline_and_keeps_the_rest(tmp_path: Path) -> None:
    before = {"preemptible": False, "automaticRestart": True, "onHostMaintenance": "MIGRATE", "maxRunDuration": {"seconds": "9"}}
    sent = started(tmp_path, before, deadline_s=3600, facts={})
    assert sent["setScheduling"] == {
        "automaticRestart": False,
        "instanceTerminationAction": "STOP",
        "maxRunDuration": {"seconds": "3600"},
    }
    assert "setMetadata" not in sent


def test_scheduling_that_this_release_does_not_know_is_not_sent_and_so_stays(tmp_path: Path) -> None:
    before = {"protectionTier": "ADVANCED", "terminationTime": "2026-01-01T00:00:00Z", "instanceTerminationAction": "STOP"}
    sent = started(tmp_path, {**before, "automaticRestart": False}, deadline_s=3600, facts={})
    assert sent["setScheduling"] == {"maxRunDuration": {"seconds": "3600"}, "terminationTime": None}


def test_deadline_that_is_taken_away_takes_its_action_with_it(tmp_path: Path) -> None:
    before = {"maxRunDuration": {"seconds": "9"}, "instanceTerminationAction": "STOP", "automaticRestart": False}
    cleared = {"maxRunDuration": None, "instanceTerminationAction": None}
    assert started(tmp_path, before, deadline_s=0, facts={})["setScheduling"] == cleared


def test_facts_are_laid_over_the_old_ones_and_other_metadata_stays(tmp_path: Path) -> None:
    sent = started(tmp_path, {}, deadline_s=0, facts={"NONCE": "new"})
    items = [{"key": instances.FACTS, "value": "NONCE=new\n"}, {"key": "mine", "value": ""}]
    assert sent["setMetadata"] == {"fingerprint": "f1", "items": items}
    assert "setScheduling" not in sent
