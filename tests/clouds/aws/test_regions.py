"""`machines`, `images` and `gc` in all regions of an AWS account, at once."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import clouds
from clouds import names
from clouds.accounts import account_key
from clouds.aws.driver import Aws
from clouds.driver import Base, BootSpec, Kind
from clouds.errors import CloudError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine
from clouds.undo import Undo
from launcher import kept_disks
from launcher.access.identity import pin
from launcher.command.at_once import at_once
from tests.cli.verbs import run
from tests.clouds.aws.stage import Cloud, Stage
from tests.servers.ec2 import unavailable

pytestmark = pytest.mark.server
HERE, THERE, DOWN = "us-east-1", "eu-west-1", "ap-south-1"


@pytest.fixture
def two(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a cloud with a machine in each of two regions, and three enabled regions; let verbs use it."""
    monkeypatch.setattr(clouds, "connect", lambda _=None, given=None: stage.connect().in_region((given or {}).get("region", HERE)))
    monkeypatch.setattr(clouds, "configured", lambda: ["aws"])
    monkeypatch.setattr(Cloud, "regions", lambda self: [DOWN, THERE, HERE])
    for region, name in ((HERE, "near"), (THERE, "far")):
        boot(stage, stage.connect().in_region(region), name)
    return stage


def boot(stage: Stage, cloud: Aws, name: str, **labels: str) -> None:

    whole = {**names.client_labels(), "role": "machine", "machine": name, "notebook": "1", "image": "tiny-1", **labels}
    source = cloud.resolve_base(Base("trixie", "amd64")).id
    size = {"cpus": 2, "memory_mb": 2048, "disk_gb": 8, "deadline_s": 3600}
    with Undo() as undo:
        spec = BootSpec(name=name, token=names.new_nonce(), source=source, labels=whole, **size)
        create_machine(cloud, Ledger(stage.home / "ledger.sqlite3"), undo, spec)
        undo.release()


def test_the_regions_are_those_that_are_enabled(stage: Stage) -> None:
    found = stage.connect().regions()
    assert {HERE, THERE} <= set(found)
    assert found == sorted(found)
    assert stage.server.count("DescribeRegions") == 1


def test_machines_of_all_regions_are_one_list_with_their_regions(two: Stage) -> None:
    code, stdout, stderr = run("machines", region="all")
    assert (code, stderr) == (0, "")
    header, *rows = [line.split() for line in stdout.splitlines()]
    assert "REGION" in header
    assert {(row[0], row[header.index("REGION")]) for row in rows} == {("near", HERE), ("far", THERE)}
    assert f"./inv open far --region {THERE}" in stdout
    code, stdout, _ = run("machines", region="all", json=True)
    assert {(one["name"], one["region"]) for one in json.loads(stdout)} == {("near", HERE), ("far", THERE)}


def test_without_the_flag_the_region_of_the_settings_is_listed(two: Stage) -> None:
    two.server.calls.clear()
    _, stdout, _ = run("machines")
    assert "near" in stdout
    assert "far" not in stdout
    assert "REGION" not in stdout
    assert {call.region for call in two.server.calls} == {HERE}


def test_machine_that_is_not_found_may_be_in_another_region(two: Stage) -> None:
    code, _, stderr = run("stop", name="elsewhere")
    assert code == 1
    assert f"error: machine 'elsewhere' not found on aws in {HERE}\n" in stderr
    assert "add --region REGION. To look in all of them: ./inv machines --region all\n" in stderr


def test_image_for_a_launch_in_another_region_is_baked_there(two: Stage) -> None:
    code, _, stderr = run("launch", recipe="tiny", region=THERE)
    assert code == 1
    assert f"has no stable image on aws in {THERE}\n" in stderr
    assert f"./inv bake --recipe PATH.toml --region {THERE}\n" in stderr


def test_machine_of_another_region_is_found_by_its_pinned_key_or_with_the_flag(two: Stage) -> None:
    there = two.connect().in_region(THERE)
    assert run("delete", name="far", yes=True)[0] == 1
    pin(home(), account_key(there), "far", "ssh-ed25519 AAAA")
    code, _, stderr = run("stop", name="far")
    assert (code, f"./inv start far --region {THERE}\n" in stderr) == (0, True), stderr
    there.keep_disk("far", keep=True)
    there.label(Kind.MACHINE, "far", kept_disks.LABEL)
    code, _, stderr = run("delete", name="far", yes=True)
    assert (code, f"./inv delete-disk far --region {THERE}\n" in stderr) == (0, True), stderr
    kept = next(line for line in run("gc", region="all")[2].splitlines() if "is kept and billed" in line)
    assert kept.endswith(f" --region {THERE}")
    assert run("delete-disk", disk="far", yes=True)[0] == 1
    assert run("delete-disk", disk="far", region=THERE, yes=True)[0] == 0
    assert run("stop", name="near", region=HERE)[0] == 0


@pytest.mark.parametrize("verb", ["machines", "images", "gc"])
def test_a_region_that_cannot_be_reached_is_told_and_the_others_are_shown(two: Stage, verb: str) -> None:
    for action in ("DescribeInstances", "DescribeImages"):
        two.server.fault(action, error=unavailable(), nth=None, region=DOWN)
    code, stdout, stderr = run(verb, region="all")
    assert code == 1
    told = [line for line in stderr.splitlines() if line.startswith(f"aws in {DOWN}: ")]
    assert len(told) == 1
    if verb == "machines":
        assert "near" in stdout
        assert "far" in stdout


def test_regions_that_cannot_be_listed_are_an_error(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: stage.connect())
    stage.server.fault("DescribeRegions", error=unavailable(), nth=None)
    code, stdout, stderr = run("machines", region="all")
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error: regions: ")


def test_gc_asks_once_and_cleans_up_each_region(two: Stage) -> None:
    for region in (HERE, THERE):
        boot(two, two.connect().in_region(region), "left", role="machine-in-progress", **{"client-start": "1"})
    code, _, stderr = run("gc", region="all")
    assert code == 2  # nobody to ask
    assert stderr.count("delete machine 'left'") == 2
    assert f"{THERE}: delete machine 'left'" in stderr
    code, _, stderr = run("gc", region="all", yes=True)
    assert code == 0, stderr
    assert "cleaned up 2 resources" in stderr
    left = [line.split()[1].split("/")[1] for line in two.left() if line.startswith("instances ")]
    assert sorted(left) == ["far", "near"]


def test_images_of_all_regions_are_one_list(two: Stage) -> None:
    two.bake()
    assert two.error is None, two.told
    code, stdout, _ = run("images", region="all", json=True)
    assert code == 0
    assert [(one["name"], one["region"]) for one in json.loads(stdout)] == [(f"tiny-{names.release()}-1", HERE)]


def test_the_regions_are_asked_at_the_same_time(two: Stage) -> None:
    together = threading.Barrier(3, timeout=60)
    two.server.latency_s = 0
    results: list[Any] = at_once([together.wait] * 3)
    assert sorted(results) == [0, 1, 2]


def test_no_more_run_at_once_than_threads_are_allowed() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def work() -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        with lock:
            running[0] -= 1
            return running[0]

    assert len(at_once([work] * 50, threads=2)) == 50
    assert most[0] <= 2


def test_an_error_of_one_is_its_result_and_a_bug_is_raised() -> None:
    def fail() -> int:
        raise CloudError("no")

    def crash() -> int:
        raise ZeroDivisionError

    first, second = at_once([fail, lambda: 1])
    assert isinstance(first, CloudError)
    assert second == 1
    with pytest.raises(ZeroDivisionError):
        at_once([crash])


def test_other_regions_use_the_same_account_and_credentials(stage: Stage) -> None:
    cloud = stage.connect()
    here, there = cloud.in_region(HERE), cloud.in_region(THERE)
    assert here is cloud
    assert there.account == cloud.account.replace(HERE, THERE)
    assert stage.server.count("GetCallerIdentity") <= 1
