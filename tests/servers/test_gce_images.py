"""The Compute Engine server: images, families and disks."""

from __future__ import annotations

from tests.servers.asking import ZONE, ask, boot, boot_disk, done, get
from tests.servers.gce import Gce
from tests.servers.vm import ScriptedVms


def make_image(gce: Gce, name: str, **more: object) -> None:
    if not any(line.startswith("disks us-central1-a/source") for line in gce.inventory()):
        image = "projects/debian-cloud/global/images/family/debian-13"
        done(gce, "POST", f"{ZONE}/disks", {"name": "source", "sizeGb": "12", "sourceImage": image})
    done(gce, "POST", "global/images", {"name": name, "sourceDisk": f"{ZONE}/disks/source", **more})


def test_an_image_is_made_from_the_disk_of_a_stopped_instance(gce: Gce, vms: ScriptedVms) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ZONE}/instances/one/stop")
    body = {
        "name": "mine",
        "sourceDisk": f"{ZONE}/disks/one",
        "family": "jupyter",
        "labels": {"a": "b"},
        "storageLocations": ["eu"],
    }
    done(gce, "POST", "global/images", body)
    image = get(gce, "global/images/mine")
    assert (image["status"], image["diskSizeGb"], image["family"], image["labels"]) == ("READY", "10", "jupyter", {"a": "b"})
    assert image["storageLocations"] == ["eu"]
    assert int(image["archiveSizeBytes"]) > 0
    assert vms.images == {"projects/demo/global/images/mine": f"projects/demo/{ZONE}/disks/one"}


def test_an_image_is_pending_while_it_is_copied(gce: Gce) -> None:
    done(gce, "POST", f"{ZONE}/disks", {"name": "source"})
    gce.cloud.operations.duration_s = 100
    ask(gce, "POST", "global/images", {"name": "mine", "sourceDisk": f"{ZONE}/disks/source"})
    assert get(gce, "global/images/mine")["status"] == "PENDING"


def test_force_makes_an_image_of_a_disk_in_use(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", "global/images", {"name": "mine", "sourceDisk": f"{ZONE}/disks/one"}, forceCreate="true")
    assert "images mine READY" in gce.inventory()


def test_a_family_is_its_newest_image(gce: Gce) -> None:
    for name in ("one", "two"):
        make_image(gce, name, family="jupyter")
    assert get(gce, "global/images/family/jupyter")["name"] == "two"


def test_a_family_passes_over_a_deprecated_image(gce: Gce) -> None:
    for name in ("one", "two"):
        make_image(gce, name, family="jupyter")
    done(gce, "POST", "global/images/two/deprecate", {"state": "DEPRECATED", "replacement": "global/images/one"})
    assert get(gce, "global/images/family/jupyter")["name"] == "one"
    assert get(gce, f"{ZONE}/imageFamilyViews/jupyter")["image"]["name"] == "one"


def test_a_deprecated_image_may_be_active_again(gce: Gce) -> None:
    make_image(gce, "one")
    for state in ("DEPRECATED", "ACTIVE"):
        done(gce, "POST", "global/images/one/deprecate", {"state": state})
    assert "deprecated" not in get(gce, "global/images/one")


def test_the_public_images_are_there(gce: Gce) -> None:
    for project, family in (("debian-cloud", "debian-13"), ("ubuntu-os-cloud", "ubuntu-2404-lts-amd64")):
        answer = ask(gce, "GET", f"global/images/family/{family}", project=project)
        assert (answer.body["status"], answer.body["family"]) == ("READY", family)


def test_a_machine_boots_from_an_own_image_by_any_url(gce: Gce, vms: ScriptedVms) -> None:
    make_image(gce, "mine", family="jupyter")
    full = f"{gce.url}/compute/v1/projects/demo/global/images/mine"
    for number, url in enumerate(("global/images/mine", "projects/demo/global/images/family/jupyter", full)):
        boot(gce, f"m{number}", disks=boot_disk(url))
    assert {vm.drives[0].image for vm in vms.boots} == {"projects/demo/global/images/mine"}


def test_labels_and_family_of_an_image_change(gce: Gce) -> None:
    make_image(gce, "mine")
    old = get(gce, "global/images/mine")["labelFingerprint"]
    done(gce, "POST", "global/images/mine/setLabels", {"labels": {"state": "stable"}, "labelFingerprint": old})
    done(gce, "PATCH", "global/images/mine", {"family": "jupyter"})
    image = get(gce, "global/images/mine")
    assert (image["labels"], image["family"]) == ({"state": "stable"}, "jupyter")


def test_an_image_is_deleted_and_then_absent(gce: Gce) -> None:
    make_image(gce, "mine")
    done(gce, "DELETE", "global/images/mine")
    assert ask(gce, "DELETE", "global/images/mine").reason == "notFound"


def test_a_disk_grows(gce: Gce) -> None:
    done(gce, "POST", f"{ZONE}/disks", {"name": "data", "sizeGb": "10"})
    done(gce, "POST", f"{ZONE}/disks/data/resize", {"sizeGb": "20"})
    assert get(gce, f"{ZONE}/disks/data")["sizeGb"] == "20"


def test_a_disk_is_as_large_as_its_image_by_default(gce: Gce) -> None:
    assert get(gce, f"{ZONE}/disks/{boot(gce, 'one')['name']}")["sizeGb"] == "10"


def test_the_disk_of_an_image_carries_its_labels(gce: Gce) -> None:
    boot(gce, "one", disks=boot_disk(labels={"a": "b"}, diskType=f"{ZONE}/diskTypes/pd-balanced"))
    disk = get(gce, f"{ZONE}/disks/one")
    assert (disk["labels"], disk["type"].rsplit("/", 1)[1]) == ({"a": "b"}, "pd-balanced")
