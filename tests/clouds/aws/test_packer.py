"""Packer's amazon-ebs builder and Bakehouse work in the same cloud: each uses what it should, and leaves the other's alone.

The cloud is the test server. One command of Packer, of about three seconds, builds three images at the same time, while `gc` of
Bakehouse runs again and again; all tests read what it left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bakery.bake import Baked
from bakery.order import BakeOptions
from clouds import names, waiter
from clouds.driver import Kind
from clouds.errors import NotFoundError
from clouds.ledger import Ledger
from launcher import gc
from launcher.images import delete_image, images
from launcher.machines import machines
from tasks import find_packer, offers_packer
from tests import packer
from tests.clouds.aws.stage import Stage
from tests.clouds.gcp.stage import LONG_AFTER, bake_tiny
from tests.servers.ec2 import serve
from tests.servers.ec2_asking import client, environment
from tests.servers.guests import played_on_ec2
from tests.servers.vm import ScriptedVms

pytestmark = pytest.mark.server

TAKEN = f"tiny-{names.release()}-2"
"""The image that Packer builds from Debian: it has the name that the next bake of Bakehouse would choose."""
BY_ID, BY_TAGS = "from-bakehouse-by-id", "from-bakehouse-by-tags"
FRIEND = "444455556666"
LATENCY_S = 0.05
"""Each request takes longer than a change of state, so Packer's first look finds it done."""
POLL_S, LOOKS = 1, 600
"""How long Packer waits between two looks, and how often it looks at most."""


@dataclass
class Built:
    """A cloud in which Bakehouse has baked an image and Packer has built three; inventories of the server around that."""

    stage: Stage
    baked: Baked
    before: Counter[str]
    after: Counter[str]

    @property
    def api(self) -> Any:
        return client(self.stage.server)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.stage.home / "ledger.sqlite3")

    def image(self, name: str) -> dict[str, Any]:
        """Return an image of this account as EC2 describes it."""
        (found,) = self.api.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])["Images"]
        return dict(found)

    def snapshot(self, image: str) -> str:
        """Return the id of the snapshot of an image."""
        (disk,) = self.image(image)["BlockDeviceMappings"]
        return str(disk["Ebs"]["SnapshotId"])

    def is_unchanged(self) -> bool:
        """Return whether all that Packer left is still there."""
        return self.after - self.before <= Counter(self.stage.server.inventory())


@pytest.fixture(scope="module")
def program() -> str:
    """Return the path of Packer; skip the tests where it cannot be installed."""
    found = find_packer()
    if found is None:
        assert not offers_packer(), "Packer is not installed; install it, for example: sudo apt-get install packer"
        pytest.skip("no Packer with the builder amazon-ebs is installed, and apt offers none")
    return found


@pytest.fixture(scope="module")
def shared(program: str, tmp_path_factory: pytest.TempPathFactory, furnished: Path) -> Iterator[Built]:
    """Give a cloud after a bake and the three builds."""
    folder = tmp_path_factory.mktemp("packer")
    home = folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
        patch.setenv("BAKEHOUSE_HOME", str(home))
        shutil.copytree(furnished, home)
        vms = ScriptedVms(played_on_ec2([]))
        with serve(vms=vms) as server:
            stage = Stage(server, vms, home)
            baked = bake_tiny(stage.connect(), home)
            before = Counter(server.inventory())
            server.latency_s = LATENCY_S
            build(program, stage, folder, baked)
            server.latency_s = 0.0
            yield Built(stage, baked, before, Counter(server.inventory()))
            assert server.crashes == []


@pytest.fixture
def built(shared: Built, monkeypatch: pytest.MonkeyPatch) -> Built:
    """Give that cloud, with Bakehouse's store where this process looks for it, and look often."""
    monkeypatch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
    monkeypatch.setenv("BAKEHOUSE_HOME", str(shared.stage.home))
    return shared


def build(program: str, stage: Stage, folder: Path, baked: Baked) -> None:
    """Let Packer build an image of Debian and two of an image of Bakehouse, while gc runs as if every client were dead."""
    packer.write_template(folder / "template.json", *builders(stage, baked))
    waits = {"AWS_POLL_DELAY_SECONDS": str(POLL_S), "AWS_MAX_ATTEMPTS": str(LOOKS)}
    variables = {**os.environ, **environment(stage.server), **packer.variables(folder), **waits}
    command = [program, "build", "-color=false", str(folder / "template.json")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log) as run:
        try:
            while run.poll() is None:
                stage.collect()
        finally:
            run.kill()
    assert run.returncode == 0, (folder / "log").read_text()


def builders(stage: Stage, baked: Baked) -> list[dict[str, Any]]:
    ours = stage.connect()._images.get(baked.image)["ImageId"]
    tags = {"tag:project": names.PROJECT, "tag:recipe": "tiny", "tag:state": names.STABLE}
    return [
        packer.builder(
            TAKEN,
            source_ami_filter=packer.NEWEST_DEBIAN,
            ami_description="Built by Packer",
            ami_users=[FRIEND],
            snapshot_users=[FRIEND],
            run_tags={"Name": TAKEN},
            run_volume_tags={"Name": TAKEN},
            tags={"Name": TAKEN, "project": "bread"},
            snapshot_tags={"Name": TAKEN},
        ),
        packer.builder(BY_ID, source_ami=ours, run_tags={"Name": BY_ID}),
        packer.builder(
            BY_TAGS,
            source_ami_filter={"owners": ["self"], "most_recent": True, "filters": tags},
            run_tags={"Name": BY_TAGS},
        ),
    ]


def test_packer_leaves_images_with_their_snapshots_and_nothing_else(built: Built) -> None:
    left = sorted(line.split()[0] for line in (built.after - built.before).elements())
    assert left == ["images"] * 3 + ["snapshots"] * 3
    assert built.before <= built.after


def test_image_and_snapshot_are_as_packer_asked_for(built: Built) -> None:
    found = built.image(TAKEN)
    assert (found["State"], found["RootDeviceName"], found["Description"]) == ("available", "/dev/xvda", "Built by Packer")
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"Name": TAKEN, "project": "bread"}
    (snapshot,) = built.api.describe_snapshots(SnapshotIds=[built.snapshot(TAKEN)])["Snapshots"]
    assert (snapshot["State"], snapshot["Encrypted"]) == ("completed", False)
    assert {"Key": "Name", "Value": TAKEN} in snapshot["Tags"]
    permissions = built.api.describe_image_attribute(ImageId=found["ImageId"], Attribute="launchPermission")
    assert permissions["LaunchPermissions"] == [{"UserId": FRIEND}]
    wanted = {"SnapshotId": snapshot["SnapshotId"], "Attribute": "createVolumePermission"}
    assert built.api.describe_snapshot_attribute(**wanted)["CreateVolumePermissions"] == [{"UserId": FRIEND}]


def test_packer_starts_from_an_image_of_bakehouse_by_its_id_and_by_its_tags(built: Built) -> None:
    disks = {vm.name: vm.drives[0].image for vm in built.stage.vms.boots}
    ours = built.snapshot(built.baked.image)
    assert (disks[BY_ID], disks[BY_TAGS]) == (ours, ours)
    assert disks[TAKEN] not in ("", ours)
    for name in (BY_ID, BY_TAGS):
        (disk,) = built.image(name)["BlockDeviceMappings"]
        assert disk["Ebs"]["Encrypted"] is True
        assert not built.image(name).get("Tags")


def test_bakehouse_neither_lists_nor_removes_what_packer_made(built: Built) -> None:
    cloud = built.stage.connect()
    assert not {image.name for image in images(cloud)} & {TAKEN, BY_ID, BY_TAGS}
    assert machines(cloud) == []
    assert gc.find(cloud, built.ledger, now=LONG_AFTER, is_dead=lambda labels: True) == []
    for name in (TAKEN, BY_ID, BY_TAGS):
        assert cloud.find(Kind.IMAGE, name) is None
        with pytest.raises(NotFoundError):
            delete_image(cloud, built.ledger, name)
    assert built.is_unchanged()


def test_bakehouse_launches_no_image_of_packer(built: Built) -> None:
    built.stage.launch("other", version=TAKEN.removeprefix("tiny-"))
    assert isinstance(built.stage.error, NotFoundError)
    assert built.is_unchanged()


def test_a_bake_leaves_out_the_version_whose_name_packer_has_taken(built: Built) -> None:
    baked = bake_tiny(built.stage.connect(), built.stage.home, options=BakeOptions(force=True))
    assert baked.image == f"tiny-{names.release()}-3"
    assert built.is_unchanged()
