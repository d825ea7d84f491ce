"""The leak matrix: whatever happens at whichever call to the cloud, a bake and a launch leave nothing that is billed.

Each call of a good run in turn x each way to fail. Afterwards there is nothing; or, where cleaning up itself was what
failed, the error tells of each thing that is left, and gc removes it. After SIGKILL there is nothing once gc has run.
"""

import itertools
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.errors import BuilderDiedError, BuilderSilentError, GuestFullError, NotSealedError, StepFailedError, TestsFailedError
from bakery.order import BakeOptions
from bakery.recipe.recipe import Recipe, Step, Test
from clouds import lifecycle, names
from clouds.driver import BootSpec, Limits, State
from clouds.errors import BakehouseError, CloudError, KernelPanicError, LeftoverError, TimedOutError
from clouds.ledger import Ledger
from clouds.waiter import until
from launcher import gc
from launcher.access import identity
from launcher.launch import LaunchOptions, launch
from tests import fake_guest, fake_sftp
from tests.fake_cloud import FakeCloud, Killed, interrupt
from tests.fake_guest import Guest
from tests.fake_layers import LayeredCloud
from tests.fake_memory import MemoryCloud
from tests.fake_world import Image, Kept, World

BAKE_CALLS = {"resolve_base", "boot", "stop", "snapshot", "check", "console", "find", "owned", "label", "delete"} | {
    "address",
    "log",
    "files",
    "attach",
}
SEND_CALLS = {"open_ssh", "close_ssh"}
LAYER_CALLS = {"layers", "keep_layer", "go_on", "remove_layer"}
LAUNCH_CALLS = {"boot", "check", "console", "find", "owned", "label", "address"}
MEMORY_CALLS = {"boot", "check", "delete", "freeze", "unfit", "restore"}
RESTORE_CALLS = {"memory_bytes", "unfit", "restore", "check", "owned", "address", "label"}
FALL_BACK_CALLS = {"restore", "find", "delete", "check", "boot"}
"""What is other where a cloud keeps memory: in a bake, in a launch, and in one that falls back to booting."""
IMAGE = f"tiny-{names.release()}-1"
LONG_AFTER = 4_000_000_000.0
"""A time, in seconds since the epoch, when everything has expired."""

Work = Callable[[FakeCloud, Path], object]


@dataclass(frozen=True)
class Failure:
    """One way for a call to fail: before or after its effect, and with what."""

    name: str
    when: str
    error: Callable[[], BaseException | Callable[[], None]]


FAILURES = (
    Failure("error before", "before", lambda: CloudError("refused")),
    Failure("error after", "after", lambda: CloudError("the answer was lost")),
    Failure("time-out before", "before", lambda: TimedOutError("too slow")),
    Failure("time-out after", "after", lambda: TimedOutError("too slow")),
    Failure("Ctrl-C before", "before", lambda: interrupt),
    Failure("Ctrl-C after", "after", lambda: interrupt),
    Failure("SIGKILL before", "before", Killed),
    Failure("SIGKILL after", "after", Killed),
)


@dataclass
class Stage:
    """One run: a world, a store, and how the work ended in it (None: well)."""

    world: World
    home: Path
    error: BaseException | None = None

    def play(self, work: Work, cloud: FakeCloud) -> None:
        try:
            work(cloud, self.home)
        except (BakehouseError, KeyboardInterrupt, Killed) as error:
            self.error = error

    @property
    def told(self) -> str:
        """The complete error output."""
        return f"{self.error}\n" + "\n".join(getattr(self.error, "__notes__", ()))

    def collect(self) -> None:
        """Run gc as a second command would, when the first one is dead."""
        cloud, ledger = FakeCloud(self.world), Ledger(self.home / "ledger.sqlite3")
        cloud.limits = Limits(unseen_s=60 if self.world.unseen else 0)
        gc.collect(cloud, ledger, gc.find(cloud, ledger, now=LONG_AFTER, is_dead=lambda labels: True))
        gc.forget_absent(cloud, ledger, now=time.time(), is_dead=lambda labels: True)
        if not self.world.unseen:  # else what was asked for a moment ago stays noted, there or not
            assert [entry.name for entry in ledger.entries(cloud.name)] == self.in_ledger_order()

    def in_ledger_order(self) -> list[str]:
        ledger = Ledger(self.home / "ledger.sqlite3")
        there = {*self.world.machines, *self.world.images}
        return [entry.name for entry in ledger.entries("fake") if entry.name in there]

    def left(self) -> list[str]:
        """Return what is there that no good end leaves."""
        machines = [name for name, machine in self.world.machines.items() if machine.labels["role"] != "machine"]
        rules = [f"rule of {name}" for name in self.world.open_to_ssh]
        return machines + rules + [name for name, image in self.world.images.items() if not self._may_stay(image)]

    def _may_stay(self, image: Image) -> bool:
        is_finished = image.state is State.READY and image.labels["role"] == "image"
        return is_finished and (image.labels["state"] == names.STABLE or isinstance(self.error, TestsFailedError | NotSealedError))


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store that has an SSH key, which takes long to make."""
    home = tmp_path_factory.mktemp("furnished")
    identity.user_key(home)
    return home


@pytest.fixture
def new_stage(furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Stage]]:
    """Yield new worlds with separate stores, in memory if possible: a ledger waits for its disk."""
    memory = Path("/dev/shm")
    monkeypatch.setattr(identity, "make_host_key", lambda home, machine: ("private", "ssh-ed25519 AAAA"))

    def make() -> Stage:
        folder = Path(scratch) / names.new_nonce()
        shutil.copytree(furnished, folder / "home")
        programs = fake_sftp.install(folder / "bin", folder / "world/builders")
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("BAKEHOUSE_HOME", str(folder / "home"))
        return Stage(World(folder / "world"), folder / "home")

    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as scratch:
        yield make


def bake_tiny(cloud: FakeCloud, home: Path, **options: bool | str) -> None:
    recipe = Recipe(
        name="tiny",
        folder=home,
        steps=(Step(name="first", run="true"), Step(name="second", run="true")),
        tests=(Test(name="works", run="true"),),
    )
    bake(cloud, recipe, BakeOptions(**options), home=home)  # type: ignore[arg-type]


def bake_over_ssh(cloud: FakeCloud, home: Path) -> None:
    """Bake on a cloud that takes only the shortest scripts."""
    cloud.limits = replace(cloud.limits, script_bytes=16384)
    bake_tiny(cloud, home)


def bake_on_layers(cloud: FakeCloud, home: Path) -> None:
    """Bake a changed step, on the layers of the steps before it."""
    if not cloud.world.images:
        bake_tiny(LayeredCloud(cloud.world), home)
    bake_tiny(cloud, home, from_step="second")


def launch_tiny(cloud: FakeCloud, home: Path) -> None:
    if not cloud.world.images:
        cloud.world.images["tiny-1.0-1"] = Image(IMAGE_LABELS, {}, 0.0, State.READY)
    launch(cloud, Ledger(home / "ledger.sqlite3"), LaunchOptions(recipe="tiny", name="mine"))


def launch_instantly(cloud: FakeCloud, home: Path) -> None:
    image = Image(IMAGE_LABELS, {}, 0.0, State.READY)
    image.memory_of = BootSpec(name="m", token="t", source="i", cpus=1, memory_mb=512, disk_gb=4, labels={}, deadline_s=0)
    cloud.world.images.setdefault("tiny-1.0-1", image)
    launch_tiny(cloud, home)


def launch_and_fall_back(cloud: FakeCloud, home: Path) -> None:
    assert isinstance(cloud, MemoryCloud)
    cloud.awakening = "refused"
    launch_instantly(cloud, home)


def bake_with_memory(cloud: FakeCloud, home: Path) -> None:
    bake_tiny(cloud, home)


WITHOUT_MEMORY = (bake_tiny, bake_over_ssh, launch_tiny)


def new_cloud(work: Work, world: World) -> FakeCloud:
    """Return a client of a cloud that such work is done on."""
    if work is bake_on_layers:
        return LayeredCloud(world)
    return FakeCloud(world) if work in WITHOUT_MEMORY else MemoryCloud(world)


IMAGE_LABELS = {
    "project": names.PROJECT,
    "role": "image",
    "state": names.STABLE,
    "recipe": "tiny",
    "version": "1.0-1",
    "notebook": "0",
    "cpus": "1",
    "memory-mb": "512",
    "disk-gb": "4",
}


@pytest.fixture(scope="module")
def good_calls(tmp_path_factory: pytest.TempPathFactory) -> dict[Work, Counter[str]]:
    """Give how often a good run calls each operation."""
    counts = {}
    for work in CALLS:
        home = tmp_path_factory.mktemp("good")
        cloud = new_cloud(work, World(home / "world"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BAKEHOUSE_HOME", str(home))
            patch.setenv("PATH", f"{fake_sftp.install(home / 'bin', home / 'world/builders')}{os.pathsep}{os.environ['PATH']}")
            work(cloud, home)
        counts[work] = Counter(call.split()[0] for call in cloud.calls)
    return counts


CALLS: dict[Work, set[str]] = {
    bake_tiny: BAKE_CALLS,
    bake_over_ssh: SEND_CALLS,
    bake_with_memory: MEMORY_CALLS,
    bake_on_layers: LAYER_CALLS,
    launch_tiny: LAUNCH_CALLS,
    launch_instantly: RESTORE_CALLS,
    launch_and_fall_back: FALL_BACK_CALLS,
}
EDGES = [
    f"{work}-{operation}-{failure}"
    for work in ("bake_tiny", "launch_tiny")
    for operation in ("boot", "label")
    for failure in ("error-after", "Ctrl-C-after", "SIGKILL-after")
] + [f"bake_over_ssh-open_ssh-{failure}" for failure in ("error-after", "Ctrl-C-after", "SIGKILL-after")]
"""The worst case for leaks: a request has succeeded, but its answer was lost."""
MATRIX = [(work, operation) for work, calls in CALLS.items() for operation in sorted(calls)]


def test_matrix_holds_every_operation_that_is_used(good_calls: dict[Work, Counter[str]]) -> None:
    assert set(good_calls[bake_tiny]) == BAKE_CALLS
    assert set(good_calls[bake_over_ssh]) == BAKE_CALLS | SEND_CALLS
    assert set(good_calls[bake_on_layers]) == BAKE_CALLS | LAYER_CALLS
    assert set(good_calls[launch_tiny]) == LAUNCH_CALLS
    assert set(good_calls[bake_with_memory]) == BAKE_CALLS | MEMORY_CALLS | RESTORE_CALLS
    assert set(good_calls[launch_and_fall_back]) == LAUNCH_CALLS | RESTORE_CALLS | FALL_BACK_CALLS


@pytest.mark.matrix(sample=80, edges=EDGES)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name.replace(" ", "-"))
@pytest.mark.parametrize(("work", "operation"), MATRIX, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_leaks(
    new_stage: Callable[[], Stage], good_calls: dict[Work, Counter[str]], work: Work, operation: str, failure: Failure
) -> None:
    for nth in range(1, good_calls[work][operation] + 1):
        stage = new_stage()
        cloud = new_cloud(work, stage.world)
        cloud.fault(operation, when=failure.when, error=failure.error(), nth=nth)
        stage.play(work, cloud)
        if not isinstance(stage.error, Killed):
            assert all(name in stage.told for name in stage.left()), (nth, stage.left(), stage.told)
            assert stage.left() == [] or operation in ("delete", "check", "find"), (nth, stage.left())
        stage.collect()
        assert stage.left() == [], (nth, stage.told)
        assert is_end_true(stage, work), (nth, stage.told)
        assert all(is_whole(kept) for kept in stage.world.layers.values()), (nth, stage.told)


def is_whole(kept: Kept) -> bool:
    """Say whether a layer holds what its steps do, and no more."""
    steps = ["boot", *(line.split()[0] for line in kept.disk.get(fake_guest.CONTENT, b"").decode().splitlines())]
    return steps == ["boot", "prepare", "first", "second"][: len(steps)] and steps[-1] == kept.layer.step


def is_end_true(stage: Stage, work: Work) -> bool:
    """Return whether the existing resources match the result of the work."""
    finished = stage.world.images if work in (bake_tiny, bake_over_ssh, bake_with_memory, bake_on_layers) else stage.world.machines
    return bool(finished) or stage.error is not None


@pytest.mark.matrix(sample=10)
@pytest.mark.parametrize(("work", "operation"), MATRIX, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_leaks_when_ctrl_c_is_pressed_again_and_again(
    new_stage: Callable[[], Stage], good_calls: dict[Work, Counter[str]], work: Work, operation: str
) -> None:
    for nth in range(1, good_calls[work][operation] + 1):
        stage = new_stage()
        cloud = new_cloud(work, stage.world)
        cloud.fault(operation, error=partial(press_on, cloud), nth=nth)
        stage.play(work, cloud)
        assert isinstance(stage.error, KeyboardInterrupt)
        assert stage.left() == [], (nth, stage.told)


LATE_CALLS = 3
"""How many calls do not find a created resource, on a cloud whose lists lag."""
LATE = [(work, operation) for work in WITHOUT_MEMORY for operation in sorted(CALLS[work] - {"layers"})]


@pytest.mark.matrix(sample=20, edges=[edge for edge in EDGES if "label" not in edge])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name.replace(" ", "-"))
@pytest.mark.parametrize(("work", "operation"), LATE, ids=lambda value: getattr(value, "__name__", value))
def test_nothing_leaks_where_a_cloud_does_not_see_at_once_what_it_has_created(
    new_stage: Callable[[], Stage],
    good_calls: dict[Work, Counter[str]],
    monkeypatch: pytest.MonkeyPatch,
    work: Work,
    operation: str,
    failure: Failure,
) -> None:
    for nth in range(1, good_calls[work][operation] + 1):
        stage = new_stage()
        cloud = new_cloud(work, stage.world)
        cloud.limits, stage.world.unseen = Limits(unseen_s=60), LATE_CALLS
        clock = itertools.count(0, 0.1)  # a minute is 600 looks, whatever else this computer does
        monkeypatch.setattr(lifecycle, "until", partial(until, clock=lambda clock=clock: next(clock), sleep=lambda _seconds: None))
        cloud.fault(operation, when=failure.when, error=failure.error(), nth=nth)
        stage.play(work, cloud)
        if not isinstance(stage.error, Killed):
            assert all(name in stage.told for name in stage.left()), (nth, stage.left(), stage.told)
            assert stage.left() == [] or operation in ("delete", "check", "find"), (nth, stage.left())
        for _ in range(1 + LATE_CALLS):  # a later gc sees what an earlier one did not
            with suppress(LeftoverError):  # an image whose machine is not seen yet
                stage.collect()
        assert stage.left() == [], (nth, stage.told)
        assert is_end_true(stage, work), (nth, stage.told)


def press_on(cloud: FakeCloud) -> None:
    """Press Ctrl-C, and again at each call that cleaning up makes."""
    for operation in ("find", "delete", "check", "owned"):
        cloud.fault(operation, when="before", error=interrupt, nth=None)
        cloud.fault(operation, when="after", error=interrupt, nth=None)
    interrupt()


ENDINGS = {
    "step fails": (fake_guest.fails_at("first"), "*", StepFailedError),
    "seal fails": (fake_guest.fails_at("seal"), "*", StepFailedError),
    "disk is full": (fake_guest.disk_full_at("second"), "*", GuestFullError),
    "builder dies": (fake_guest.dies_at("second"), "*", BuilderDiedError),
    "builder dies twice at boot": (fake_guest.dies_at(), "bake-*", BuilderDiedError),
    "builder is silent": (fake_guest.silent_at("second"), "*", BuilderSilentError),
    "kernel panics": (fake_guest.panics_at("second"), "*", KernelPanicError),
    "secret is left": (fake_guest.leaves_secret("/root/.netrc", b"machine a login b password c"), "bake-*", NotSealedError),
    "test machine dies": (fake_guest.dies_at(), "test-*", TestsFailedError),
    "test fails": (fake_guest.fails_test("works"), "test-*", TestsFailedError),
}


@pytest.mark.parametrize(("guest", "pattern", "error"), ENDINGS.values(), ids=[name.replace(" ", "-") for name in ENDINGS])
def test_bake_that_fails_leaves_nothing_but_a_candidate_for_a_look(
    new_stage: Callable[[], Stage], guest: Guest, pattern: str, error: type[BakehouseError]
) -> None:
    stage = new_stage()
    cloud = FakeCloud(stage.world)
    if error is BuilderSilentError:
        cloud.slowness = 0.0005  # minutes of silence are a fraction of a second
    cloud.guest(pattern, guest)
    stage.play(bake_tiny, cloud)
    assert type(stage.error) is error
    candidates = [f"image {IMAGE} ready"] if error in (TestsFailedError, NotSealedError) else []
    assert stage.world.inventory() == candidates
    stage.collect()
    assert stage.world.inventory() == candidates


def test_failed_test_is_called_a_test(new_stage: Callable[[], Stage]) -> None:
    stage = new_stage()
    cloud = FakeCloud(stage.world)
    cloud.guest("test-*", fake_guest.fails_test("works"))
    stage.play(bake_tiny, cloud)
    assert str(stage.error) == f"image {IMAGE!r}: test 'works' failed: line 1 returned exit status 1"


def test_gc_leaves_nothing_of_a_disk_that_a_bake_looked_into_when_it_was_killed(new_stage: Callable[[], Stage]) -> None:
    stage = new_stage()
    cloud = FakeCloud(stage.world)
    cloud.fault("files", when="after", error=lambda: os.kill(os.getpid(), signal.SIGKILL))
    if (child := os.fork()) == 0:
        try:
            bake_tiny(cloud, stage.home)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    [bake] = (stage.home / "bakes").iterdir()
    assert any(path.is_dir() for path in bake.iterdir())
    gc.sweep_scratch(stage.home)
    assert not any(path.is_dir() for path in bake.iterdir())


def test_builder_that_is_kept_stays_until_it_has_expired(new_stage: Callable[[], Stage]) -> None:
    stage = new_stage()
    cloud = FakeCloud(stage.world)
    cloud.guest("bake-*", fake_guest.fails_at("second"))
    stage.play(partial(bake_tiny, keep=True), cloud)
    [kept] = stage.world.inventory()
    assert kept.startswith("machine bake-")
    assert kept.endswith("running")
    assert kept.split()[1] in str(getattr(stage.error, "next_step", ""))
    stage.collect()
    assert stage.world.inventory() == []


def test_builder_that_died_at_boot_is_started_once_more(new_stage: Callable[[], Stage]) -> None:
    stage = new_stage()
    cloud = FakeCloud(stage.world)
    cloud.guest("bake-*", fake_guest.dies_at(), fake_guest.OK)
    stage.play(bake_tiny, cloud)
    assert stage.error is None
    assert stage.world.inventory() == [f"image {IMAGE} ready"]


def test_images_of_before_are_never_harmed(new_stage: Callable[[], Stage]) -> None:
    stage = new_stage()
    stage.play(bake_tiny, FakeCloud(stage.world))
    cloud = FakeCloud(stage.world)
    cloud.guest("test-*", fake_guest.fails_test("works"))
    cloud.fault("label", error=Killed())
    stage.play(partial(bake_tiny, force=True), cloud)
    stage.collect()
    assert stage.world.images[IMAGE].labels["state"] == names.STABLE
    assert stage.world.inventory() == [f"image {IMAGE} ready"]
