"""The Compute Engine server: disks that outlive their instance, and labels that are the disk's own."""

from __future__ import annotations

from tests.servers.asking import ZONE, ask, boot, boot_disk, done, get, machine
from tests.servers.gce import Gce

ONE, DISK = f"{ZONE}/instances/one", f"{ZONE}/disks/one"
OWN, OTHER = {"owner": "ann"}, {"owner": "bob"}


def labels(gce: Gce, path: str) -> object:
    return get(gce, path).get("labels")


def set_labels(gce: Gce, path: str, new: dict[str, str]) -> None:
    done(gce, "POST", f"{path}/setLabels", {"labels": new, "labelFingerprint": get(gce, path)["labelFingerprint"]})


def test_a_disk_has_labels_of_its_own_from_the_start(gce: Gce) -> None:
    boot(gce, "one", labels=OWN, disks=boot_disk(labels=OTHER))
    assert (labels(gce, ONE), labels(gce, DISK)) == (OWN, OTHER)


def test_a_disk_inherits_no_labels(gce: Gce) -> None:
    boot(gce, "one", labels=OWN)
    assert labels(gce, DISK) is None


def test_new_labels_of_an_instance_leave_its_disk_alone(gce: Gce) -> None:
    boot(gce, "one", disks=boot_disk(labels=OWN))
    set_labels(gce, ONE, OTHER)
    assert (labels(gce, ONE), labels(gce, DISK)) == (OTHER, OWN)


def test_new_labels_of_a_disk_leave_its_instance_alone(gce: Gce) -> None:
    boot(gce, "one", labels=OWN)
    set_labels(gce, DISK, OTHER)
    assert (labels(gce, ONE), labels(gce, DISK)) == (OWN, OTHER)


def test_the_fingerprint_of_an_instance_does_not_fit_its_disk(gce: Gce) -> None:
    boot(gce, "one", labels=OWN)
    body = {"labels": OTHER, "labelFingerprint": get(gce, ONE)["labelFingerprint"]}
    answer = ask(gce, "POST", f"{DISK}/setLabels", body)
    assert (answer.status, answer.reason) == (412, "conditionNotMet")


def test_a_kept_disk_keeps_its_labels(gce: Gce) -> None:
    boot(gce, "one", labels=OWN, disks=[{**boot_disk(labels=OTHER)[0], "autoDelete": False}])
    done(gce, "DELETE", ONE)
    assert gce.inventory() == ["disks us-central1-a/one READY"]
    assert labels(gce, DISK) == OTHER


def test_a_disk_is_kept_that_was_to_go_with_its_instance(gce: Gce) -> None:
    """Do as `gcloud compute instances delete --keep-disks=all` does."""
    device = boot(gce, "one")["disks"][0]["deviceName"]
    done(gce, "POST", f"{ONE}/setDiskAutoDelete", autoDelete="false", deviceName=device)
    done(gce, "DELETE", ONE)
    assert gce.inventory() == ["disks us-central1-a/one READY"]
    assert "users" not in get(gce, DISK)


def test_a_disk_goes_that_was_to_be_kept(gce: Gce) -> None:
    shown = boot(gce, "one", disks=[{**boot_disk()[0], "autoDelete": False}])["disks"][0]
    done(gce, "POST", f"{ONE}/setDiskAutoDelete", autoDelete="true", deviceName=shown["deviceName"])
    done(gce, "DELETE", ONE)
    assert gce.inventory() == []


def test_a_kept_disk_holds_its_name(gce: Gce) -> None:
    boot(gce, "one", disks=[{**boot_disk()[0], "autoDelete": False}])
    done(gce, "DELETE", ONE)
    answer = ask(gce, "POST", f"{ZONE}/instances", machine("one"))
    assert (answer.status, answer.reason) == (409, "alreadyExists")
    assert answer.message == f"The resource 'projects/demo/{DISK}' already exists"
