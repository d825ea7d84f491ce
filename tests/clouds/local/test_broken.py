"""A file that cannot be read costs its own entry, and no verb."""

import json
from pathlib import Path

import pytest

from bakery.order import images_of
from clouds import catalogue
from clouds.driver import Kind, State
from clouds.errors import CloudError, ConflictError
from clouds.local.driver import LocalCloud
from clouds.local.host import files
from clouds.local.machines import Machines
from clouds.local.memory import trust
from clouds.local.memory.fit import Shape, difference
from clouds.local.store import LAYER, MANIFEST, Store
from clouds.names import ImageVersion, release
from launcher.images import find_image, images
from launcher.machines import find_machine, machines, running_machine
from tests.clouds.local.small import BASE, needs_tools, order
from tests.clouds.local.test_layers import put_layer

pytestmark = needs_tools
TEXTS = ["", "{", "[]", '{"labels": 3}', '{"labels": ["a"], "source": 1}']


def put_image(store: Store, name: str, source: str = BASE) -> Path:
    folder = store.images / name
    folder.mkdir(parents=True)
    recipe, version = name.split("-", 1)
    labels = {"project": "bakehouse", "role": "image", "recipe": recipe, "version": version, "state": "stable"}
    labels |= {"cpus": "1", "memory-mb": "512", "disk-gb": "4"}
    files.write_json(folder / MANIFEST, {"labels": labels, "source": source, "created_at": 1.0})
    return folder


@pytest.mark.parametrize("text", TEXTS)
def test_machine_whose_record_cannot_be_read_is_listed_as_broken_and_can_be_deleted(
    store: Store, cloud: LocalCloud, text: str
) -> None:
    for name in ("good", "bad"):
        Machines(store).prepare(order(name))
    (store.machines / "bad/machine.json").write_text(text)
    assert {machine.name: machine.state for machine in machines(cloud)} == {"good": "stopped", "bad": "broken"}
    with pytest.raises(CloudError, match="is broken") as raised:
        running_machine(cloud, "bad")
    assert "./inv delete bad" in raised.value.next_step
    assert find_machine(cloud, "bad").state == "broken"
    cloud.delete(Kind.MACHINE, "bad")
    assert [machine.name for machine in machines(cloud)] == ["good"]


@pytest.mark.parametrize(
    "text", [*TEXTS, *(f'{{"labels": {{}}, "created_at": {time}}}' for time in ('"x"', "null", "NaN", "1e99"))]
)
def test_image_whose_record_cannot_be_read_is_listed_as_broken_keeps_its_version_and_can_be_deleted(
    store: Store, cloud: LocalCloud, text: str
) -> None:
    good, bad = (f"mine-{release()}-{build}" for build in (1, 2))
    put_image(store, good)
    (put_image(store, bad) / MANIFEST).write_text(text)
    assert {image.name: image.state for image in images(cloud)} == {good: "stable", bad: "broken"}
    assert find_image(cloud, recipe="mine").name == good
    assert catalogue.next_version(images_of(cloud, "mine"), "mine") == ImageVersion(release(), 3)
    with pytest.raises(CloudError, match="is broken") as raised:
        find_image(cloud, recipe="mine", name=bad)
    assert f"./inv delete-image {bad}" in raised.value.next_step
    cloud.delete(Kind.IMAGE, bad)
    assert [image.name for image in images(cloud)] == [good]


def test_nothing_is_removed_that_a_broken_machine_may_need(store: Store, cloud: LocalCloud) -> None:
    put_image(store, "mine-1.0-1")
    Machines(store).prepare(order("bad"))
    (store.machines / "bad/machine.json").write_text("{")
    with pytest.raises(ConflictError, match="machine bad"):
        cloud.delete(Kind.IMAGE, "mine-1.0-1")
    store.prune_bases()
    assert store.bases.path(BASE)


@pytest.mark.parametrize("text", ["", "[]", '{"key": "a"}'])
def test_layers_whose_records_cannot_be_read_are_of_no_use_and_keep_each_other_from_nothing(
    store: Store, cloud: LocalCloud, text: str
) -> None:
    good = put_layer(store, "a", BASE)
    for name in ("b", "c"):
        (store.layers / put_layer(store, name, BASE) / LAYER).write_text(text)
    assert [layer.id for layer in cloud.layers()] == [good]
    cloud.sweep()
    assert [path.name for path in store.layers.iterdir()] == [good]


def test_image_without_some_of_its_labels_is_shown(store: Store, cloud: LocalCloud) -> None:
    folder = put_image(store, "mine-1.0-1")
    files.write_json(folder / MANIFEST, {"labels": {"project": "bakehouse", "role": "image"}})
    (image,) = images(cloud)
    assert (image.version, image.state) == ("", "damaged")


def test_labels_that_others_have_spoilt_keep_no_machine_from_being_listed(store: Store, cloud: LocalCloud) -> None:
    Machines(store).prepare(order("one"))
    cloud.label(Kind.MACHINE, "one", {"expires": "never", "https": "x", "notebook": "1"})
    (machine,) = machines(cloud)
    assert (machine.expires, machine.state) == (0, State.STOPPED)


def test_base_whose_record_cannot_be_read_is_none(store: Store) -> None:
    (store.bases.folder / BASE / "base.json").write_text("{}")
    store.prune_bases()
    assert store.bases.suite(store.bases.folder / BASE) == ""


def test_memory_of_another_release_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text(json.dumps({"shape": {"cpus": 1}, "files": {}}))
    wanted = Shape("tcg", "p", "q", 1, 64, "d")
    assert difference(tmp_path, wanted) == "its memory was saved by another release of Bakehouse"
    (tmp_path / "memory.json").write_text("[]")
    assert difference(tmp_path, wanted) == "no saved memory"
    assert not trust.is_whole(tmp_path)
