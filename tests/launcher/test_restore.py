"""Launches from saved memory, and what happens if a machine does not respond after the restore."""

import base64
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.errors import CapacityError, ConflictError, HostFullError, RestoreError, UnresponsiveError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.access.identity import known_hosts, make_host_key
from launcher.access.notebook import check_login
from launcher.launch import LaunchOptions, launch
from tests.fake_cloud import FakeCloud, interrupt
from tests.fake_guest import HOST_KEY
from tests.fake_memory import AWAKENINGS, MemoryCloud
from tests.fake_world import Machine, World
from tests.launcher.given import put_memory

ONE = LaunchOptions(name="one")
SPOILED = [awakening for awakening in AWAKENINGS if awakening != "well"]


@pytest.fixture
def frozen(world: World, jupyter: str) -> str:
    """Give the image with a notebook saved memory, and return its name."""
    put_memory(world, jupyter)
    return jupyter


def only_machine(world: World) -> Machine:
    (machine,) = world.machines.values()
    return machine


def made(cloud: FakeCloud) -> list[str]:
    """Return the calls that created machines."""
    return [call for call in cloud.calls if call.split()[0] in ("boot", "restore")]


def test_image_with_a_memory_is_launched_without_a_boot(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    told: list[str] = []
    launched = launch(keeping, ledger, ONE, tell=told.append)
    assert (made(keeping), told) == (["restore one"], [])
    assert only_machine(keeping.world).labels["role"] == "machine"
    assert launched.url and launched.password
    check_login(launched.url, launched.password)


def test_restored_machine_receives_its_keys_and_the_public_one_is_pinned(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    launch(keeping, ledger, ONE)
    facts = only_machine(keeping.world).facts
    assert {"MACHINE", "NONCE", "AUTHORIZED_KEY", "PASSWORD_HASH", "EXPIRES"} < set(facts)
    assert known_hosts(home(), "fake", "one").read_text() == f"one {facts['HOST_KEY_PUB']}\n"
    assert base64.b64decode(facts["HOST_KEY"]).startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert re.fullmatch(r"52:54:00(:[0-9a-f]{2}){3}", facts["MAC"])
    assert "Host one\n" in (home() / "ssh" / "config").read_text()


def test_host_key_is_pinned_before_the_machine_is_restored(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    pinned: list[bool] = []
    keeping.fault("check", error=lambda: pinned.append(known_hosts(home(), "fake", "one").exists()))
    launch(keeping, ledger, ONE)
    assert pinned == [True]


def test_private_host_key_stays_nowhere_on_this_computer(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    launch(keeping, ledger, ONE)
    private = base64.b64decode(only_machine(keeping.world).facts["HOST_KEY"])
    files = [path for path in home().rglob("*") if path.is_file()]
    assert files
    assert not any(private in path.read_bytes() for path in files)


def test_two_restored_machines_share_nothing_that_is_theirs(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    launch(keeping, ledger, ONE)
    launch(keeping, ledger, LaunchOptions(name="two"))
    one, two = (machine.facts for machine in keeping.world.machines.values())
    shared = {key for key in one if one[key] == two[key]}
    assert shared <= {"AUTHORIZED_KEY", "EXPIRES"}


def test_halves_of_a_host_key_belong_together(tmp_path: Path) -> None:
    private, public = make_host_key(tmp_path, "one")
    (tmp_path / "key").write_text(private)
    (tmp_path / "key").chmod(0o600)
    read = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / "key"], capture_output=True, text=True, check=True).stdout
    assert read.split()[:2] == public.split()


def test_cold_launch_boots_without_a_message(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    told: list[str] = []
    launch(keeping, ledger, replace(ONE, cold=True), tell=told.append)
    assert (made(keeping), told) == (["boot one"], [])
    assert "HOST_KEY" not in only_machine(keeping.world).facts


def test_machine_of_another_shape_boots_and_the_reason_is_reported(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    told: list[str] = []
    launch(keeping, ledger, replace(ONE, cpus=4), tell=told.append)
    assert made(keeping) == ["boot one"]
    assert told == ["machine 'one': booting from disk: 4 processors, and its memory was frozen with 2"]


def test_image_without_saved_memory_boots_without_a_message(keeping: MemoryCloud, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    launch(keeping, ledger, ONE, tell=told.append)
    assert (made(keeping), told) == (["boot one"], [])


@pytest.mark.parametrize(("image", "awakening"), [*(("jupyter", awakening) for awakening in SPOILED), ("minimal", "mute")])
def test_machine_that_does_not_respond_after_a_restore_is_booted_from_disk(
    keeping: MemoryCloud, ledger: Ledger, request: pytest.FixtureRequest, image: str, awakening: str
) -> None:
    put_memory(keeping.world, request.getfixturevalue(image))
    keeping.awakening, keeping.slowness = awakening, 0.005  # 0.1 s for a restore, 0.3 s for an answer of a boot
    told: list[str] = []
    launched = launch(keeping, ledger, replace(ONE, recipe=image), tell=told.append)
    assert made(keeping) == ["restore one", "boot one"]
    (line,) = told
    assert line.endswith("; booting it from disk")
    assert known_hosts(home(), "fake", "one").read_text() == f"one {HOST_KEY}\n"
    assert [entry.name for entry in ledger.entries("fake")] == ["one"]
    if launched.url and launched.password:
        check_login(launched.url, launched.password)


@pytest.mark.parametrize(
    ("hangs", "created", "ends"),
    [
        (1, ["restore one"] * 2, ["restoring it once more"]),
        (2, ["restore one", "restore one", "boot one"], ["restoring it once more", "booting it from disk"]),
    ],
)
def test_machine_whose_guest_hangs_is_restored_once_more(
    keeping: MemoryCloud, ledger: Ledger, frozen: str, hangs: int, created: list[str], ends: list[str]
) -> None:
    for nth in range(1, hangs + 1):
        keeping.fault("restore", when="after", error=UnresponsiveError("machine one: no response"), nth=nth)
    told: list[str] = []
    launched = launch(keeping, ledger, ONE, tell=told.append)
    assert (made(keeping), told) == (created, [f"machine one: no response; {end}" for end in ends])
    assert [entry.name for entry in ledger.entries("fake")] == ["one"]
    assert (
        known_hosts(home(), "fake", "one").read_text() == f"one {only_machine(keeping.world).facts.get('HOST_KEY_PUB', HOST_KEY)}\n"
    )
    assert launched.url and launched.password
    check_login(launched.url, launched.password)


@pytest.mark.parametrize("error", [HostFullError("no room"), ConflictError("taken"), CapacityError("no more")])
def test_error_unrelated_to_the_memory_ends_the_launch(keeping: MemoryCloud, ledger: Ledger, frozen: str, error: Exception) -> None:
    keeping.fault("restore", when="after", error=error)
    with pytest.raises(type(error)):
        launch(keeping, ledger, ONE)
    assert made(keeping) == ["restore one"]
    assert keeping.world.machines == {}


def test_machine_of_another_owner_survives_a_restore_that_times_out(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    def take_the_name() -> None:
        launch(FakeCloud(keeping.world), ledger, ONE)
        raise RestoreError("machine one: too late")

    keeping.fault("restore", error=take_the_name)
    with pytest.raises(ConflictError):
        launch(keeping, ledger, ONE)
    assert keeping.world.inventory()[0] == "machine one running"


def test_interrupt_while_falling_back_leaves_nothing(keeping: MemoryCloud, ledger: Ledger, frozen: str) -> None:
    keeping.awakening = "refused"
    keeping.fault("boot", when="after", error=interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(keeping, ledger, ONE)
    assert keeping.world.machines == {}
    assert ledger.entries("fake") == []
    assert not known_hosts(home(), "fake", "one").exists()


def test_memory_that_fits_no_machine_is_reported_with_the_command_that_saves_it_again(
    keeping: MemoryCloud, ledger: Ledger, frozen: str
) -> None:
    image = keeping.world.images[frozen]
    assert image.memory_of
    image.memory_of = replace(image.memory_of, cpus=4)
    told: list[str] = []
    launch(keeping, ledger, ONE, tell=told.append)
    assert made(keeping) == ["boot one"]
    (line,) = told
    assert line.endswith("frozen with 4; to save it again: ./inv bake --recipe jupyter")
