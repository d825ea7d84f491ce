"""Machines that are off and images made of them, on real small disks; no QEMU runs here."""

import json
import subprocess
from pathlib import Path

import pytest

from clouds.driver import BootSpec, Kind, State
from clouds.errors import CloudError, ConflictError, InvalidError, NotFoundError
from clouds.local.disk.overlays import virtual_bytes
from clouds.local.driver import LocalCloud
from clouds.local.host import files
from clouds.local.machines import Machines
from clouds.local.store import MANIFEST, Store
from clouds.local.vm import qemu
from clouds.local.vm.record import MACHINE
from tests.clouds.local.small import BASE, needs_tools, order
from tests.dead import dead_partial

MIDST = "100M 64k"

pytestmark = needs_tools


def prepare(store: Store, spec: BootSpec) -> Path:
    """Make a machine that has not been started, as one is left whose client was killed just before."""
    Machines(store).prepare(spec)
    return store.machine(spec.name)


def backing(disk: Path) -> str:
    """Return the backing file in a disk's header."""
    argv = ["qemu-img", "info", "--output=json", str(disk)]
    described = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    return str(described.get("backing-filename", ""))


def holds(disk: Path, pattern: int) -> bool:
    """Say whether a disk holds what a test wrote in its midst."""
    argv = ["qemu-io", "-r", "-c", f"read -P {pattern} {MIDST}", str(disk)]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_machine_that_was_never_started_is_listed_with_its_labels_and_can_be_removed(store: Store, cloud: LocalCloud) -> None:
    prepare(store, order("one"))
    (found,) = cloud.owned({"of": "one"})
    assert (found.kind, found.name, found.state) == (Kind.MACHINE, "one", State.STOPPED)
    assert cloud.check(cloud.delete(Kind.MACHINE, "one"))
    assert cloud.owned({}) == []
    assert list(store.machines.iterdir()) == []


def test_disk_of_a_machine_is_as_large_as_ordered_and_survives_a_move_of_the_store(store: Store) -> None:
    disk = prepare(store, order("one", disk_gb=3)) / qemu.DISK
    assert virtual_bytes(disk) == 3 * 2**30
    assert not backing(disk).startswith("/")
    moved = store.folder.rename(store.folder.with_name("moved"))
    subprocess.run(["qemu-img", "check", "-q", str(moved / "machines/one" / qemu.DISK)], check=True)


def test_disk_smaller_than_its_image_is_refused_and_nothing_is_left(store: Store) -> None:
    disk = store.bases.folder / BASE / qemu.DISK
    disk.chmod(0o644)
    subprocess.run(["qemu-img", "resize", "-q", str(disk), "2G"], check=True)
    with pytest.raises(InvalidError, match="1 GB") as raised:
        prepare(store, order("one", disk_gb=1))
    assert "2 GB" in raised.value.next_step
    assert list(store.machines.iterdir()) == []


def test_source_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="nosuch"):
        prepare(store, order("one", "nosuch-1.0-1"))


def test_image_holds_the_disk_without_a_copy_and_the_machine_goes_on_above_it(store: Store, cloud: LocalCloud) -> None:
    machine = prepare(store, order("one"))
    inode = (machine / qemu.DISK).stat().st_ino
    assert cloud.check(cloud.snapshot("one", "i-1.0-1", {"version": "1.0-1"}))
    image = store.image("i-1.0-1") / qemu.DISK
    assert image.stat().st_ino == inode
    assert image.stat().st_mode & 0o222 == 0
    assert backing(machine / qemu.DISK) == "frozen.qcow2"
    assert backing(image) == f"../../bases/{BASE}/disk.qcow2"
    found = cloud.find(Kind.IMAGE, "i-1.0-1")
    assert found
    assert (found.state, found.labels) == (State.READY, {"version": "1.0-1"})


def test_machine_and_image_go_independently_of_each_other(store: Store, cloud: LocalCloud) -> None:
    machine = prepare(store, order("one"))
    subprocess.run(["qemu-io", "-c", f"write -P 0x77 {MIDST}", str(machine / qemu.DISK)], check=True, capture_output=True)
    cloud.snapshot("one", "i-1.0-1", {})
    cloud.delete(Kind.IMAGE, "i-1.0-1")
    subprocess.run(["qemu-img", "check", "-q", str(machine / qemu.DISK)], check=True)
    cloud.snapshot("one", "i-1.0-2", {})
    cloud.delete(Kind.MACHINE, "one")
    assert backing(store.image("i-1.0-2") / qemu.DISK) == f"../../bases/{BASE}/disk.qcow2"
    assert holds(store.image("i-1.0-2") / qemu.DISK, 0x77)
    assert not holds(store.bases.folder / BASE / qemu.DISK, 0x77)


def test_name_of_an_image_that_is_taken_is_a_conflict_and_harms_neither(store: Store, cloud: LocalCloud) -> None:
    machine = prepare(store, order("one"))
    cloud.snapshot("one", "i-1.0-1", {"first": "yes"})
    before = backing(machine / qemu.DISK)
    with pytest.raises(ConflictError, match=r"i-1\.0-1"):
        cloud.snapshot("one", "i-1.0-1", {})
    found = cloud.find(Kind.IMAGE, "i-1.0-1")
    assert found
    assert found.labels == {"first": "yes"}
    assert backing(machine / qemu.DISK) == before


def test_deletion_that_this_computer_refuses_is_told(store: Store, cloud: LocalCloud) -> None:
    (store.folder / ".lock").mkdir()
    with pytest.raises(CloudError, match="Is a directory"):
        cloud.delete(Kind.IMAGE, "i-1.0-1")


def test_image_in_use_is_not_deleted_and_its_users_are_named(store: Store, cloud: LocalCloud) -> None:
    prepare(store, order("one"))
    cloud.snapshot("one", "i-1.0-1", {})
    prepare(store, order("two", "i-1.0-1"))
    with pytest.raises(ConflictError, match="machine two") as raised:
        cloud.delete(Kind.IMAGE, "i-1.0-1")
    assert raised.value.next_step.endswith("./inv delete two")
    cloud.delete(Kind.MACHINE, "two")
    cloud.delete(Kind.IMAGE, "i-1.0-1")
    assert cloud.find(Kind.IMAGE, "i-1.0-1") is None


def test_image_knows_the_suite_of_the_base_below_it(store: Store, cloud: LocalCloud) -> None:
    prepare(store, order("one"))
    cloud.snapshot("one", "i-1.0-1", {})
    assert store.suite("i-1.0-1") == "trixie"


def test_labels_that_somebody_has_written_by_hand_are_text(store: Store, cloud: LocalCloud) -> None:
    labels = {"project": "bakehouse", "expires": 5, "version": None}
    Machines(store).prepare(order("one"))
    machine = store.machine("one") / "machine.json"
    machine.write_text(json.dumps({**json.loads(machine.read_text()), "labels": labels}))
    image = store.images / "tiny-1.0.0-1"
    image.mkdir(parents=True)
    (image / MANIFEST).write_text(json.dumps({"labels": labels, "source": BASE, "created_at": 1.0}))
    expected = {"project": "bakehouse", "expires": "5", "version": "None"}
    assert {found.name: found.labels for found in cloud.owned({})} == {"one": expected, image.name: expected}


def test_half_made_image_of_a_dead_process_is_swept(store: Store, cloud: LocalCloud) -> None:
    (store.images / dead_partial("i-1.0-1")).mkdir(parents=True)
    assert cloud.owned({}) == []
    assert len(list(store.images.iterdir())) == 1  # to list removes nothing
    cloud.sweep()
    assert list(store.images.iterdir()) == []


def test_image_or_machine_that_goes_while_they_are_listed_is_left_out(store: Store, cloud: LocalCloud) -> None:
    for gone in (store.images / "i-1.0-1", store.machines / "one"):
        gone.mkdir(parents=True)  # its files went first
    assert cloud.owned({}) == []
    assert cloud.find(Kind.IMAGE, "i-1.0-1") is None
    assert cloud.find(Kind.MACHINE, "one") is None


def test_console_of_a_machine_that_is_being_removed_is_not_found(store: Store, cloud: LocalCloud) -> None:
    folder = prepare(store, order("one"))
    for file, read in ((qemu.CONSOLE, cloud.console), (qemu.STEPS, cloud.log)):
        (folder / file).unlink()
        with pytest.raises(NotFoundError, match="machine 'one' not found on local"):
            read("one", 0)


def test_image_that_is_removed_meanwhile_has_no_memory(cloud: LocalCloud) -> None:
    assert cloud.memory_bytes("i-1.0-1") == 0


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.MACHINE])
def test_path_is_no_name_and_nothing_outside_the_store_is_found_or_deleted(kind: Kind, cloud: LocalCloud, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for record in (MANIFEST, MACHINE):
        (mine / record).write_text("{}")
    for name in (str(mine), f"../../{mine.name}", "..", ".", "", "x" * 300, "\udcff" * 300):
        assert cloud.find(kind, name) is None
        assert cloud.check(cloud.delete(kind, name))
        with pytest.raises(NotFoundError):
            cloud.label(kind, name, {"pinned": "1"})
    assert [path.name for path in sorted(mine.iterdir())] == sorted([MANIFEST, MACHINE])


def test_deleting_what_is_absent_is_a_success(cloud: LocalCloud) -> None:
    for kind in Kind:
        assert cloud.check(cloud.delete(kind, "nosuch"))


def test_files_are_kept_beside_an_image(store: Store, cloud: LocalCloud, tmp_path: Path) -> None:
    prepare(store, order("one"))
    cloud.snapshot("one", "i-1.0-1", {})
    (tmp_path / "log").write_text("first")
    cloud.attach("i-1.0-1", {"bake.log": tmp_path / "log"})
    (tmp_path / "log").write_text("second")
    cloud.attach("i-1.0-1", {"bake.log": tmp_path / "log"})
    kept = cloud.attached("i-1.0-1", "bake.log")
    assert kept
    assert kept.read_text() == "second"
    assert cloud.attached("i-1.0-1", "other") is None
    assert cloud.attached("nosuch", "bake.log") is None
    with pytest.raises(NotFoundError):
        cloud.attach("nosuch", {})


def test_port_that_was_not_asked_for_is_refused(store: Store, cloud: LocalCloud) -> None:
    prepare(store, order("one"))
    with pytest.raises(InvalidError, match="8888"):
        cloud.address("one", 8888)


def test_old_base_goes_only_when_nothing_overlays_it(store: Store) -> None:
    newer = store.bases.folder / "base-4567"
    newer.mkdir()
    files.write_json(newer / "base.json", {"suite": "trixie", "definition": "d", "packages": [], "checked_at": 2.0})
    prepare(store, order("one"))
    store.prune_bases()
    assert store.bases.path(BASE)
    files.discard(store.machine("one"))
    store.prune_bases()
    assert store.bases.path(BASE) is None
    assert store.bases.path("base-4567")
