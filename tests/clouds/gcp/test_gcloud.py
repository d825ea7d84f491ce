"""Google's own command line and Bakehouse look at the same cloud: what the one has made or changed, the other sees so.

The cloud is the test server, which gcloud takes for Google's. Each of its commands takes a second or two.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bakery.bake import Baked
from clouds import names
from clouds.driver import Kind, State, Wishes
from clouds.gcp import naming
from clouds.gcp.client import Client
from clouds.gcp.images import Images
from clouds.gcp.places import places
from clouds.ledger import Ledger
from launcher import gc
from launcher.access import identity
from launcher.images import images
from launcher.launch import LaunchOptions, launch
from launcher.machines import machines
from tests.clouds.gcp.stage import Cloud, bake_tiny
from tests.servers.gce.server import Gce, serve
from tests.servers.guests import played
from tests.servers.vm import ScriptedVms

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed; it is in no package index"),
]

ZONE, REGION = "us-central1-a", "us-central1"
MINE = {"project": names.PROJECT}
LONG_AFTER = 4_000_000_000.0
"""A time, in seconds since the epoch, when everything has expired."""


@dataclass
class Both:
    """One cloud, Bakehouse's store, and gcloud's settings."""

    server: Gce
    home: Path
    environment: Mapping[str, str]
    baked: Baked

    def connect(self) -> Cloud:
        """Return a driver that remembers nothing, as a new command has it."""
        return connect(self.server, self.home)

    def gcloud(self, *words: str) -> Any:
        """Run `gcloud compute WORDS` and return its result."""
        command = ["gcloud", "compute", *words, "--format=json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stderr}"
        return json.loads(done.stdout or "null")

    def launch(self, name: str, **more: Any) -> None:
        options = LaunchOptions(recipe="tiny", name=name, **more)
        launch(self.connect(), self.ledger, options)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home / "ledger.sqlite3")

    def states(self) -> dict[str, str]:
        """Return what `machines` shows."""
        return {machine.name: machine.state for machine in machines(self.connect())}


def connect(server: Gce, home: Path) -> Cloud:
    client, where = Client("demo", server.url), places({"project": "demo"})
    return Cloud(client, where, Images(client, where.region, home / "gcp" / "bases.json"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Give a cloud with an image and a machine `mine` for all tests of this module."""
    home, config = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("gcloud")
    identity.user_key(home)
    with pytest.MonkeyPatch.context() as patch, serve(vms=ScriptedVms(played([]))) as server:
        patch.setenv("BAKEHOUSE_HOME", str(home))
        environment = {
            **os.environ,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{server.url}/compute/v1/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CONFIG": str(config),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_PROJECT": "demo",
        }
        found = Both(server, home, environment, bake_tiny(connect(server, home), home))
        found.launch("mine")
        yield found
    assert server.crashes == []


@pytest.fixture
def both(shared: Both, monkeypatch: pytest.MonkeyPatch) -> Both:
    """Give the shared cloud, with Bakehouse's store where this process looks for it."""
    monkeypatch.setenv("BAKEHOUSE_HOME", str(shared.home))
    return shared


def last(link: str) -> str:
    return link.rpartition("/")[2]


# What Bakehouse made, as gcloud reads it


def test_image_is_the_newest_of_its_family(both: Both) -> None:
    found = both.gcloud("images", "describe-from-family", "bakehouse-tiny")
    ours = both.connect().find(Kind.IMAGE, both.baked.image)
    assert ours is not None
    assert (found["name"], found["status"]) == (naming.image_name(both.baked.image), "READY")
    assert found["labels"] == naming.to_labels({**ours.labels, "name": both.baked.image})
    assert found["labels"]["state"] == names.STABLE
    assert found["storageLocations"] == [REGION]


def test_machine_is_as_it_was_asked_for(both: Both) -> None:
    found = both.gcloud("instances", "describe", "mine", f"--zone={ZONE}")
    ours = both.connect().find(Kind.MACHINE, "mine")
    assert ours is not None
    assert (found["name"], last(found["zone"]), found["status"]) == ("mine", ours.zone, "RUNNING")
    assert (last(found["machineType"]), found["labels"]) == ("e2-medium", naming.to_labels(ours.labels))
    assert found["tags"]["items"] == ["bakehouse-mine-ssh"]
    schedule = found["scheduling"]
    assert (schedule["maxRunDuration"]["seconds"], schedule["instanceTerminationAction"]) == (str(24 * 3600 + 300), "STOP")
    assert (schedule["provisioningModel"], schedule["automaticRestart"]) == ("STANDARD", False)
    assert found["shieldedInstanceConfig"]["enableSecureBoot"] is True
    assert "serviceAccounts" not in found
    assert [disk["autoDelete"] for disk in found["disks"]] == [True]


def test_machine_is_told_no_secret(both: Both) -> None:
    found = both.gcloud("instances", "describe", "mine", f"--zone={ZONE}")
    told = {item["key"]: item["value"] for item in found["metadata"]["items"]}
    assert set(told) == {"bakehouse-facts", "block-project-ssh-keys", "enable-oslogin"}
    facts = dict(line.split("=", 1) for line in told["bakehouse-facts"].splitlines())
    assert set(facts) == {"MACHINE", "NONCE", "AUTHORIZED_KEY", "PASSWORD_HASH", "EXPIRES", "ABOUT"}
    assert identity.user_key(both.home) in facts["AUTHORIZED_KEY"]
    assert "PRIVATE KEY" not in json.dumps(found)


def test_firewall_opens_nothing_but_ssh_to_the_caller(both: Both) -> None:
    (found,) = both.gcloud("firewall-rules", "list", "--filter=name~^bakehouse-mine-")
    assert (found["name"], found["targetTags"], found["sourceRanges"]) == (
        "bakehouse-mine-ssh",
        ["bakehouse-mine-ssh"],
        ["127.0.0.1/32"],
    )
    assert (found["allowed"], found["direction"]) == ([{"IPProtocol": "tcp", "ports": ["22"]}], "INGRESS")
    assert last(found["network"]) == "bakehouse"


def test_console_reads_the_same(both: Both) -> None:
    ours = both.connect().console("mine")
    found = both.gcloud("instances", "get-serial-port-output", "mine", f"--zone={ZONE}")
    assert (found["contents"], str(found["next"])) == (ours.text, ours.position)
    assert " fact host-key " in ours.text


def test_static_address_is_reserved_and_in_use_until_the_machine_goes(both: Both) -> None:
    both.launch("fixed", wishes=Wishes(static_ip="front"))
    found = both.gcloud("addresses", "describe", "front", f"--region={REGION}")
    assert (found["status"], [last(user) for user in found["users"]]) == ("IN_USE", ["fixed"])
    both.gcloud("instances", "delete", "fixed", f"--zone={ZONE}")
    assert [kept.name for kept in both.connect().owned(MINE, {Kind.ADDRESS}) if kept.state is State.READY] == ["front"]
    gc.collect(both.connect(), both.ledger, gc.find(both.connect(), both.ledger, now=0, is_dead=lambda labels: True))


# What gcloud made or changed, as Bakehouse reads it


def test_stop_and_start_are_seen(both: Both) -> None:
    both.gcloud("instances", "stop", "mine", f"--zone={ZONE}")
    assert both.states()["mine"] == "stopped"
    both.gcloud("instances", "start", "mine", f"--zone={ZONE}")
    assert both.states()["mine"] == "running"


def test_suspension_is_seen(both: Both) -> None:
    both.launch("sleepy")
    both.gcloud("instances", "suspend", "sleepy", f"--zone={ZONE}")
    assert both.states()["sleepy"] == "suspended"


def test_labels_of_a_machine_and_an_image_are_seen_and_kept(both: Both) -> None:
    cloud = both.connect()
    cloud.find(Kind.MACHINE, "mine")
    cloud.find(Kind.IMAGE, both.baked.image)
    both.gcloud("instances", "add-labels", "mine", f"--zone={ZONE}", "--labels=team=bread")
    both.gcloud("images", "add-labels", naming.image_name(both.baked.image), "--labels=team=bread")
    cloud.label(Kind.MACHINE, "mine", {"mood": "good"})  # with what this driver had read before gcloud came
    cloud.label(Kind.IMAGE, both.baked.image, {"mood": "good"})
    for kind, name in ((Kind.MACHINE, "mine"), (Kind.IMAGE, both.baked.image)):
        found = both.connect().find(kind, name)
        assert found is not None
        assert {"team": "bread", "mood": "good", "project": "bakehouse"}.items() <= found.labels.items()


def test_what_is_left_of_a_machine_that_gcloud_deleted_is_found_and_removed(both: Both) -> None:
    both.launch("doomed")
    both.gcloud("instances", "delete", "doomed", f"--zone={ZONE}")
    assert "doomed" not in both.states()
    garbage = gc.find(both.connect(), both.ledger, now=0, is_dead=lambda labels: True)
    assert [str(one).partition(":")[0] for one in garbage] == ["delete rule 'bakehouse-doomed-ssh'"]
    gc.collect(both.connect(), both.ledger, garbage)
    assert both.gcloud("firewall-rules", "list", "--filter=name~^bakehouse-doomed-") == []


def test_what_others_made_is_never_listed_nor_removed(both: Both) -> None:
    both.gcloud(
        "instances", "create", "bake-stranger", f"--zone={ZONE}", "--image-family=debian-13", "--image-project=debian-cloud"
    )
    both.gcloud("firewall-rules", "create", "bakehouse-stranger-ssh", "--allow=tcp:22", "--source-ranges=192.0.2.7/32")
    both.gcloud("images", "create", "tiny-9-9-9-9", "--source-disk=bake-stranger", f"--source-disk-zone={ZONE}", "--force")
    assert "bake-stranger" not in both.states()
    assert [image.name for image in images(both.connect())] == [both.baked.image]
    garbage = gc.find(both.connect(), both.ledger, now=LONG_AFTER, is_dead=lambda labels: True)
    assert {one.resource.name for one in garbage} <= set(both.states())
    listed = [found["name"] for found in both.gcloud("instances", "list")]
    assert sorted(listed) == sorted([*both.states(), "bake-stranger"])
