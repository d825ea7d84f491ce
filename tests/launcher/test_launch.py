import subprocess
import sys
import time
from dataclasses import replace
from typing import Literal

import pytest

from clouds import names
from clouds.capabilities import EndsMachines
from clouds.driver import Endpoint, State
from clouds.errors import CapacityError, ConflictError, KernelPanicError, NotFoundError, TimedOutError, UsageError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.undo import Undo
from launcher.access.identity import known_hosts
from launcher.access.notebook import check_login
from launcher.images import find_image
from launcher.launch import LaunchOptions, launch
from tests.fake_cloud import FakeCloud, interrupt
from tests.fake_guest import HOST_KEY, panics_at
from tests.fake_remote import RemoteCloud
from tests.fake_world import Machine, World
from tests.launcher.given import put_image

ONE = LaunchOptions(name="one")


def only_machine(world: World) -> Machine:
    (machine,) = world.machines.values()
    return machine


def test_launched_machine_answers_at_its_url_with_its_password(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launched = launch(fake, ledger, LaunchOptions())
    assert launched.url and launched.password
    check_login(launched.url, launched.password)
    assert launched.image == jupyter
    assert launched.cloud == "fake"
    assert fake.world.inventory()[0] == f"machine {launched.name} running"


def test_json_of_a_launch_has_the_promised_fields(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    assert list(launch(fake, ledger, ONE).to_json()) == ["name", "url", "password", "image", "cloud", "seconds"]


def test_password_is_the_users_own_when_given(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launched = launch(fake, ledger, LaunchOptions(password="of my own"))
    assert launched.url
    check_login(launched.url, "of my own")


def test_password_stands_nowhere_but_in_the_answer(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    options = LaunchOptions(password="very secret")
    launched = launch(fake, ledger, options)
    assert "very secret" not in repr(options) + repr(launched) + repr(only_machine(fake.world))
    files = [path for path in home().rglob("*") if path.is_file()]
    assert files
    assert not any(b"very secret" in path.read_bytes() or b"argon2" in path.read_bytes() for path in files)


def test_machine_has_the_images_sizes_or_those_asked_for(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, ONE)
    launch(fake, ledger, LaunchOptions(name="two", cpus=4, memory_mb=512, disk_gb=99))
    sizes = [(m.spec.cpus, m.spec.memory_mb, m.spec.disk_gb) for m in fake.world.machines.values()]
    assert sizes == [(2, 2048, 10), (4, 512, 99)]


def test_disk_smaller_than_the_images_is_refused(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    with pytest.raises(UsageError, match="disk-gb 9") as raised:
        launch(fake, ledger, LaunchOptions(disk_gb=9))
    assert raised.value.next_step == "Give 10 or more."


def test_labels_have_owner_image_and_expiry(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, ONE)
    labels = only_machine(fake.world).labels
    expected = {"role": "machine", "machine": "one", "recipe": "jupyter", "version": "1.4.0-7", "image": jupyter, "notebook": "1"}
    assert expected.items() <= labels.items()
    assert names.client_labels().keys() <= labels.keys()
    assert abs(int(labels["expires"]) - time.time() - 24 * 3600) < 60


def test_label_of_an_image_with_rmate_is_its_machines_too(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, ONE)
    fake.world.images[jupyter].labels["rsub"] = "1"
    launch(fake, ledger, LaunchOptions(name="two"))
    assert [machine.labels.get("rsub") for machine in fake.world.machines.values()] == [None, "1"]


def test_role_lets_gc_remove_a_machine_until_it_answers(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    seen: list[str] = []
    fake.fault("address", nth=None, error=lambda: seen.append(only_machine(fake.world).labels["role"]))
    launch(fake, ledger, ONE)
    assert set(seen) == {"machine-in-progress"}


def test_guest_receives_its_identity(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launched = launch(fake, ledger, ONE)
    machine = only_machine(fake.world)
    facts = machine.facts
    assert set(facts) == {"MACHINE", "NONCE", "AUTHORIZED_KEY", "PASSWORD_HASH", "EXPIRES", "ABOUT"}
    about = "Machine one of Bakehouse: recipe jupyter, version 1.4.0-7. On your computer, "
    assert facts["ABOUT"] == f"{about}open its notebook (./inv open one) or run its tests (./inv check-machine one)."
    assert (facts["MACHINE"], facts["NONCE"], facts["EXPIRES"]) == ("one", launched.nonce, machine.labels["expires"])
    assert facts["AUTHORIZED_KEY"].startswith("ssh-ed25519 ")
    assert facts["PASSWORD_HASH"].startswith("argon2:$argon2id$")


def test_cloud_ends_the_machine_some_time_after_its_guest_should_have(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, LaunchOptions(lifetime_h=2))
    assert 2 * 3600 < only_machine(fake.world).spec.deadline_s < 3 * 3600


class LenientCloud(FakeCloud):
    """A cloud that never stops a machine by itself."""

    @property
    def ends_machines(self) -> Literal[True]:  # type: ignore[override]
        raise AttributeError


@pytest.mark.parametrize(("lifetime_h", "is_told"), [(8.0, True), (0.0, False)])
def test_lifetime_that_the_cloud_does_not_enforce_is_reported(
    world: World, ledger: Ledger, jupyter: str, lifetime_h: float, is_told: bool
) -> None:
    cloud, told = LenientCloud(world), list[str]()
    assert not isinstance(cloud, EndsMachines)
    launch(cloud, ledger, replace(ONE, lifetime_h=lifetime_h), tell=told.append)
    line = "fake does not enforce the lifetime of machines: only the timer inside a machine stops it. This line is printed once."
    assert (line in told) == is_told


def test_lifetime_that_the_cloud_does_not_enforce_is_reported_once_per_account(world: World, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    for name, account in (("one", "1"), ("two", "1"), ("three", "2")):
        cloud = LenientCloud(world)
        cloud.account = account
        launch(cloud, ledger, LaunchOptions(name=name), tell=lambda line: told.append(f"{cloud.account}: {line[:21]}"))  # noqa: B023
    assert told == ["1: fake does not enforce", "2: fake does not enforce"]


def test_setting_by_which_the_cloud_would_enforce_a_lifetime_is_named(world: World, ledger: Ledger, jupyter: str) -> None:
    cloud, told = LenientCloud(world), list[str]()
    cloud.ends_machines_by = "stopper"  # type: ignore[attr-defined]
    launch(cloud, ledger, ONE, tell=told.append)
    assert told == [
        "fake does not enforce the lifetime of machines: only the timer inside a machine stops it "
        "(the setting stopper lets fake stop it as well: docs/clouds.md). This line is printed once."
    ]


def test_lifetime_that_the_cloud_enforces_needs_no_word(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    launch(fake, ledger, ONE, tell=told.append)
    assert told == []


def test_lifetime_of_zero_never_ends(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, LaunchOptions(lifetime_h=0))
    machine = only_machine(fake.world)
    assert (machine.spec.deadline_s, machine.facts["EXPIRES"], machine.labels["expires"]) == (0, "0", "0")


@pytest.mark.parametrize("lifetime_h", [-1.0, float("nan"), float("inf")])
def test_lifetime_that_is_no_time_is_refused(fake: FakeCloud, ledger: Ledger, jupyter: str, lifetime_h: float) -> None:
    with pytest.raises(UsageError, match="lifetime"):
        launch(fake, ledger, LaunchOptions(lifetime_h=lifetime_h))


def test_host_key_from_the_console_is_pinned_and_stands_in_the_ssh_config(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, ONE)
    assert known_hosts(home(), "fake", "one").read_text() == f"one {HOST_KEY}\n"
    assert "Host one\n" in (home() / "ssh" / "config").read_text()


def test_machine_without_a_notebook_has_neither_url_nor_password(fake: FakeCloud, ledger: Ledger, minimal: str) -> None:
    launched = launch(fake, ledger, LaunchOptions(recipe="minimal"))
    assert (launched.url, launched.password) == (None, None)
    assert only_machine(fake.world).spec.ports == (22,)
    assert only_machine(fake.world).facts["PASSWORD_HASH"] == ""


def test_password_for_an_image_without_a_notebook_is_refused(fake: FakeCloud, ledger: Ledger, minimal: str) -> None:
    with pytest.raises(UsageError, match="password"):
        launch(fake, ledger, LaunchOptions(recipe="minimal", password="x"))


def test_without_an_image_nothing_is_created_and_a_hint_is_given(fake: FakeCloud, ledger: Ledger) -> None:
    with pytest.raises(NotFoundError) as raised:
        launch(fake, ledger, LaunchOptions())
    assert "./inv bake --recipe jupyter" in raised.value.next_step
    assert ledger.entries("fake") == []


def test_name_that_is_taken_is_refused_and_its_machine_left_alone(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch(fake, ledger, ONE)
    with pytest.raises(ConflictError) as raised:
        launch(fake, ledger, ONE)
    assert "./inv delete one" in raised.value.next_step
    assert fake.world.inventory()[0] == "machine one running"
    assert known_hosts(home(), "fake", "one").exists()


@pytest.mark.parametrize("name", ["", "-", "Upper", "a_b", "bake-1", "test-1", "a" * 41, "a;b", "../x"])
def test_name_that_no_cloud_takes_is_refused(fake: FakeCloud, ledger: Ledger, jupyter: str, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        launch(fake, ledger, LaunchOptions(name=name))


def test_invalid_name_is_refused_before_a_missing_image_is(fake: FakeCloud, ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="invalid machine name 'My Lab'"):
        launch(fake, ledger, LaunchOptions(name="My Lab"))


def test_test_of_a_bake_keeps_its_name_its_role_and_its_undo(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    image = find_image(fake, recipe="jupyter")
    options = replace(ONE, name="test-abc", image=image, labels={"role": "test", "bake": "bake-abc"}, nonce="a" * 32)
    with Undo() as undo:
        assert launch(fake, ledger, options, undo=undo).nonce == "a" * 32
        assert only_machine(fake.world).labels["role"] == "test"
    assert fake.world.machines == {}
    assert not known_hosts(home(), "fake", "test-abc").exists()


def test_machine_that_panics_is_removed_and_the_reason_reported(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    fake.guest("one", panics_at())
    with pytest.raises(KernelPanicError, match="Fatal exception"):
        launch(fake, ledger, ONE)
    assert fake.world.machines == {}


def test_machine_that_ends_before_its_first_marker_is_created_once_more(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    def die() -> None:
        machine = only_machine(fake.world)
        machine.console, machine.state = b"[    0.1] PANIC: double fault, error_code: 0x0\r\n", State.STOPPED
        tokens.append(machine.spec.token)

    told: list[str] = []
    tokens: list[str] = []
    fake.fault("boot", when="after", error=die)
    assert launch(fake, ledger, ONE, tell=told.append).url
    assert told == ["machine 'one': kernel panic: double fault, error_code: 0x0; starting it once more"]
    assert [entry.name for entry in ledger.entries("fake")] == ["one"]
    assert only_machine(fake.world).spec.token not in tokens  # a cloud takes the same token for the same machine


def test_machine_that_never_answers_is_removed_after_the_deadline(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    fake.slowness = 0.001
    fake.world.addresses["one", 8888] = Endpoint("127.0.0.1", 9)
    with pytest.raises(TimedOutError, match="response of its notebook"):
        launch(fake, ledger, ONE)
    assert fake.world.machines == {}


def test_zone_without_capacity_is_reported_and_the_next_one_tried(remote: RemoteCloud, ledger: Ledger, minimal: str) -> None:
    told: list[str] = []
    remote.full = {"near-1"}
    launch(remote, ledger, LaunchOptions(recipe="minimal", name="one"), tell=told.append)
    assert told == ["no room in near-1; trying near-2"]
    assert only_machine(remote.world).spec.zone == "near-2"


OPERATIONS = ("owned", "find", "boot", "check", "console", "address", "label")
FAILURES = (
    ("owned", 1),
    ("owned", 2),
    ("find", 1),
    ("boot", 1),
    ("check", 1),
    ("console", 1),
    ("address", 2),
    ("label", 1),
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("operation", "nth"), FAILURES)
def test_launch_that_fails_leaves_nothing(
    fake: FakeCloud, ledger: Ledger, jupyter: str, operation: str, nth: int, when: str
) -> None:
    fake.fault(operation, when=when, nth=nth, error=CapacityError("no more"))
    with pytest.raises(CapacityError):
        launch(fake, ledger, ONE)
    assert fake.world.machines == {}
    assert ledger.entries("fake") == []
    assert not known_hosts(home(), "fake", "one").exists()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_launch_that_is_interrupted_leaves_nothing(
    fake: FakeCloud, ledger: Ledger, jupyter: str, operation: str, when: str
) -> None:
    fake.fault(operation, when=when, error=interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(fake, ledger, ONE)
    assert fake.world.machines == {}
    assert ledger.entries("fake") == []


def test_two_launches_of_one_recipe_live_side_by_side(fake: FakeCloud, ledger: Ledger, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    first, second = launch(fake, ledger, LaunchOptions()), launch(fake, ledger, LaunchOptions())
    assert first.name != second.name
    assert first.url != second.url
    assert first.password != second.password


def test_launcher_loads_nothing_that_only_a_bake_needs() -> None:
    program = """if True:
        import sys
        import launcher.access.copy, launcher.access.ssh, launcher.images, launcher.launch, launcher.log, launcher.machines
        heavy = {"jinja2", "invoke", "pydantic", "rich", "bakery", "argon2"} & set(sys.modules)
        sys.exit(f"loaded: {heavy}" if heavy else 0)"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize(("days", "is_told"), [(30, False), (31.5, True)])
def test_old_image_is_told_with_the_command_that_bakes_a_newer_one(
    fake: FakeCloud, world: World, ledger: Ledger, days: float, *, is_told: bool
) -> None:
    put_image(world, "jupyter", "1.4.0-7", days=days)
    told: list[str] = []
    launch(fake, ledger, ONE, tell=told.append)
    line = "jupyter-1.4.0-7 is 31 days old; for a new one: ./inv bake --recipe jupyter --refresh"
    assert (line in told) is is_told, told
