"""Layers on the disk: listed, used, removed only when nothing needs them; no QEMU runs here."""

import json
import os
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from clouds.errors import CloudError, GuestError
from clouds.local.base.esp import link_boot_files
from clouds.local.disk.overlays import make_overlay
from clouds.local.driver import LocalCloud
from clouds.local.host import files
from clouds.local.layers import Layers
from clouds.local.machines import Machines
from clouds.local.memory import trust
from clouds.local.memory.fit import shape
from clouds.local.memory.transport import STATE
from clouds.local.store import LAYER, Store
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import TCG
from clouds.local.vm.record import new_record, read_record
from clouds.partial import partial_folder
from tests.clouds.local.small import BASE, needs_tools, order
from tests.clouds.local.vm.test_sockets import GREETING, serving
from tests.dead import dead_partial

pytestmark = needs_tools


def put_layer(store: Store, name: str, source: str, *, parent: str = "", used_at: float = 1.0) -> str:
    """Lay a layer into a store as `Layers.keep` leaves it."""
    folder = store.layers / f"layer-{name}"
    folder.mkdir(parents=True)
    make_overlay(folder / qemu.DISK, store.source(source) / qemu.DISK, size_bytes=3 * 2**30)
    link_boot_files(store.source(source), folder)
    (folder / STATE).write_bytes(b"state")
    os.utime(folder / STATE, (0, 0))  # long ago: the clock of files may stand still for some milliseconds
    trust.seal(folder, shape(new_record(order("one"), created_at=0), TCG), "pc-q35-7.2")
    record = {
        "key": f"key-{name}",
        "parent": parent,
        "step": name,
        "own": f"own-{name}",
        "source": source,
        "used_at": used_at,
        "cpus": 1,
        "memory_mb": 64,
    }
    files.write_json(folder / LAYER, record)
    return folder.name


def test_layers_are_listed_with_what_they_are_made_of_the_longest_unused_first(store: Store, cloud: LocalCloud) -> None:
    first = put_layer(store, "a", BASE, used_at=9)
    put_layer(store, "b", first, parent="key-a", used_at=5)
    found = cloud.layers()
    assert [(layer.step, layer.key, layer.parent) for layer in found] == [("b", "key-b", "key-a"), ("a", "key-a", "")]
    assert {layer.disk_gb for layer in found} == {3}
    assert all(layer.size_bytes > 0 for layer in found)


def test_layer_that_another_one_overlays_stays(store: Store, cloud: LocalCloud) -> None:
    first = put_layer(store, "a", BASE)
    second = put_layer(store, "b", first)
    assert not cloud.remove_layer(first)
    assert cloud.remove_layer(second)
    assert cloud.remove_layer(first)
    assert cloud.layers() == []


def test_layer_of_a_builder_stays_and_its_base_too(store: Store, cloud: LocalCloud) -> None:
    layer = put_layer(store, "a", BASE)
    Machines(store).prepare(order("builder", layer, disk_gb=3))
    assert not cloud.remove_layer(layer)
    assert store.users(BASE) == [f"layer {layer}"]


def test_layer_is_whole_when_the_builder_has_gone_with_its_name_for_the_disk(store: Store, cloud: LocalCloud) -> None:
    layer = put_layer(store, "a", BASE)
    disk = store.layers / layer / qemu.DISK
    (store.folder / "name").hardlink_to(disk)
    (store.folder / "name").unlink()
    assert [found.id for found in cloud.layers()] == [layer]


def test_layer_that_is_gone_is_a_success(cloud: LocalCloud) -> None:
    assert cloud.remove_layer("layer-nosuch")


def test_listing_layers_removes_none(store: Store, cloud: LocalCloud) -> None:
    layer = put_layer(store, "a", BASE)
    (store.layers / layer / STATE).write_bytes(b"STATE")
    (store.layers / dead_partial("b")).mkdir()
    assert cloud.layers() == []
    assert len(list(store.layers.iterdir())) == 2


def test_layer_that_was_damaged_is_not_used_and_goes(store: Store, cloud: LocalCloud) -> None:
    layer = put_layer(store, "a", BASE)
    (store.layers / layer / STATE).write_bytes(b"STATE")
    assert cloud.layers() == []
    cloud.sweep()
    assert not (store.layers / layer).exists()


def test_layer_on_a_damaged_one_is_not_used_and_both_go(store: Store, cloud: LocalCloud) -> None:
    below = put_layer(store, "b", BASE)
    put_layer(store, "a", below)
    put_layer(store, "c", below)
    (store.layers / below / qemu.DISK).write_bytes(b"damaged")
    assert cloud.layers() == []
    cloud.sweep()
    assert list(store.layers.iterdir()) == []


def test_layer_of_which_nobody_knows_what_was_before_it_is_not_used(store: Store, cloud: LocalCloud) -> None:
    layer = store.layers / put_layer(store, "a", BASE)
    record = json.loads((layer / LAYER).read_text())
    del record["parent"]  # as an earlier release wrote it
    files.write_json(layer / LAYER, record)
    assert cloud.layers() == []


def test_layer_stays_on_which_another_is_being_made(store: Store, cloud: LocalCloud) -> None:
    below = put_layer(store, "a", BASE)
    above = put_layer(store, "b", below)
    (store.layers / above).rename(partial_folder(store.layers, above))
    assert not cloud.remove_layer(below)


def test_builder_whose_disk_is_lost_on_the_way_to_a_layer_ends_its_bake(store: Store) -> None:
    """QEMU reports that it could not change the disk, but it may have done so."""
    machines = Machines(store)
    machines.prepare(replace(order("builder"), build_settings=True))
    folder = store.machine("builder")

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        if message["execute"] == "blockdev-snapshot-sync":
            return {"error": {"class": "GenericError", "desc": "no room"}}
        return {"return": "pc-q35-7.2-machine" if message["execute"] == "qom-get" else {"status": "completed"}}

    record = read_record(folder)
    assert record
    with (
        serving(folder, qemu.QMP, answer, greeting=GREETING),
        pytest.raises(GuestError, match=r"builder 'builder': its disk was lost .*: no room"),
    ):
        Layers(store).keep(record, TCG, key="k" * 32, parent="", step="boot", own="o", note=lambda _layer, _disk: None)
    assert list(store.layers.iterdir()) == []


def test_builder_that_could_not_be_paused_in_time_is_resumed(store: Store) -> None:
    Machines(store).prepare(order("builder"))
    record, folder = read_record(store.machine("builder")), store.machine("builder")
    assert record

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"desc": "the disk is slow"}} if message["execute"] == "stop" else {"return": {}}

    with serving(folder, qemu.QMP, answer, greeting=GREETING) as asked, pytest.raises(ConnectionError, match="the disk is slow"):
        Layers(store).keep(record, TCG, key="k" * 32, parent="", step="boot", own="o", note=lambda _layer, _disk: None)
    assert asked[-1]["execute"] == "cont"


def test_layer_that_goes_while_it_is_looked_at_is_none(store: Store, cloud: LocalCloud) -> None:
    stays, goes = put_layer(store, "a", BASE), put_layer(store, "b", BASE)
    (store.layers / goes / qemu.DISK).unlink()
    trust.seal(store.layers / goes, shape(new_record(order("one"), created_at=0), TCG), "pc-q35-7.2")
    assert [layer.id for layer in cloud.layers()] == [stays]


def test_layer_that_this_computer_does_not_let_us_read_is_told_as_such(store: Store, cloud: LocalCloud) -> None:
    record = store.layers / put_layer(store, "a", BASE) / LAYER
    record.unlink()
    record.mkdir()
    with pytest.raises(CloudError, match="Is a directory"):
        cloud.layers()


def test_base_below_layers_is_found(store: Store) -> None:
    second = put_layer(store, "b", put_layer(store, "a", BASE))
    assert store.below_layers(second) == BASE
    assert store.suite(second) == "trixie"


def test_image_of_a_machine_on_layers_overlays_the_base_alone_and_holds_what_they_held(store: Store, cloud: LocalCloud) -> None:
    layer = put_layer(store, "a", BASE)
    subprocess.run(["qemu-io", "-c", "write -P 7 100M 64k", str(store.layers / layer / qemu.DISK)], check=True, capture_output=True)
    Machines(store).prepare(order("builder", layer, disk_gb=3))
    cloud.snapshot("builder", "image-1", {})
    image = store.images / "image-1" / qemu.DISK
    described = json.loads(
        subprocess.run(["qemu-img", "info", "--output=json", str(image)], capture_output=True, check=True).stdout
    )
    assert described["backing-filename"].endswith(f"bases/{BASE}/{qemu.DISK}")
    subprocess.run(["qemu-io", "-r", "-c", "read -P 7 100M 64k", str(image)], check=True, capture_output=True)
