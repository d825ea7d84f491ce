"""Trouble on the console: what is lost, late, cut, stale or false there never makes a bake better or worse than it was.

Each test is a whole bake of a recipe whose checkpoints are boot, prepare, first, seal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import pytest

from bakery.errors import BuilderDiedError, BuilderSilentError, StepFailedError
from bakery.events import StepEnded
from bakery.watch import GAP
from clouds import names
from clouds.driver import Kind
from clouds.errors import KernelPanicError
from clouds.gcp.instances import SCRIPT
from tests.clouds.gcp.stage import NewStage, Stage, Wire, launch_tiny
from tests.fake_guest import marker, read_script
from tests.servers.gce.errors import not_ready
from tests.servers.vm import OFF, READ, RING_BYTES, Step, Vm

pytestmark = pytest.mark.server

STEPS = ["boot", "prepare", "first", "seal"]
NOISE = "[   18.0] Setting up a package (1.2-3) ...\r\n"
READS = "compute.instances.getSerialPortOutput"


@dataclass(frozen=True)
class Builder:
    """What a builder prints, by the script that it was given."""

    script: str

    def says(self, body: str) -> str:
        nonce = read_script(self.script).nonce
        return marker(nonce, body) + "\r\n"

    def ok(self, *steps: str) -> str:
        return "".join(self.says(f"checkpoint {STEPS.index(step) + 1}/{len(STEPS)} {step} ok") for step in steps)

    def fails(self, step: str) -> str:
        return self.says(f"checkpoint {STEPS.index(step) + 1}/{len(STEPS)} {step} failed line=1 exit=7")


Acts = Callable[[Builder], Iterable[Step]]
NewBake = Callable[..., Stage]


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    """Give an empty cloud."""
    return new_stage()


@pytest.fixture
def bake(stage: Stage) -> NewBake:
    """Give a way to bake with a builder that acts so; whatever else boots goes well."""
    ordinary = stage.vms.play

    def go(acts: Acts, *, silence_min: float = 5, wire: Wire | None = None) -> Stage:
        def play(vm: Vm) -> Iterable[Step]:
            return acts(Builder(vm.metadata[SCRIPT])) if names.is_bake_id(vm.name) else ordinary(vm)

        stage.vms.play = play
        stage.bake(wire, silence_min=silence_min)
        return stage

    return go


def steps_done(stage: Stage) -> list[str]:
    """Return the builder's successful steps, in order; the test machine later has its own steps."""
    ended = (event for event in stage.events if isinstance(event, StepEnded))
    return [event.name for event in takewhile(lambda event: event.name != "stop", ended) if event.ok]


def kept_console(stage: Stage) -> str:
    [console] = (stage.home / "bakes").glob("*/console.log")
    return console.read_text(encoding="utf-8")


def check_good(stage: Stage) -> None:
    """Check that the bake succeeded, and reported each step once."""
    assert stage.error is None
    assert steps_done(stage) == STEPS
    assert stage.left() == []


def noise(size: int) -> str:
    """Return so many bytes of a step's output."""
    return (NOISE * (size // len(NOISE) + 1))[-size:]


# More than the cloud keeps


def test_markers_that_have_scrolled_away_are_made_good_by_the_next(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        yield builder.ok("boot")
        yield READ
        yield builder.ok("prepare") + noise(RING_BYTES) + builder.ok("first")
        yield READ
        yield builder.ok("seal")

    check_good(bake(acts))


def test_all_that_was_printed_before_the_first_read_may_be_lost(bake: NewBake) -> None:
    check_good(bake(lambda builder: [builder.ok("boot", "prepare", "first") + noise(RING_BYTES) + builder.ok("seal")]))


def test_what_was_lost_stands_as_a_gap_in_the_console_that_is_kept(bake: NewBake) -> None:
    stage = bake(lambda builder: [builder.ok("boot"), READ, noise(RING_BYTES + 1) + builder.ok(*STEPS)])
    before, found, after = kept_console(stage).partition(GAP)
    assert found
    assert " boot ok ;" in before
    assert " seal ok ;" in after


def test_what_is_read_after_a_gap_never_ends_a_line_from_before_it(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        start, end = builder.ok("seal").split("seal")
        yield builder.ok("boot") + start
        yield READ
        cut = "seal" + end
        yield noise(10) + cut + noise(RING_BYTES - len(cut))
        yield READ
        yield builder.fails("prepare")

    stage = bake(acts)
    assert isinstance(stage.error, StepFailedError)
    assert stage.error.step == "prepare"


def test_machine_whose_boot_prints_more_than_is_kept_is_launched(new_stage: NewStage) -> None:
    stage = new_stage("launch")
    ordinary = stage.vms.play
    stage.vms.play = lambda vm: [NOISE, READ, noise(RING_BYTES), *ordinary(vm)]
    stage.play(launch_tiny)
    assert stage.error is None
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]


# Silence


def test_silence_that_ends_is_no_failure(bake: NewBake) -> None:
    check_good(bake(lambda builder: [builder.ok("boot"), 0.3, builder.ok("prepare", "first", "seal")]))


def test_silence_for_good_names_the_step_and_leaves_nothing(bake: NewBake) -> None:
    stage = bake(lambda builder: [builder.ok("boot", "prepare")], silence_min=0.25)
    assert isinstance(stage.error, BuilderSilentError)
    assert stage.error.step == "first"
    assert "no output for" in stage.told
    assert stage.left() == []


def test_console_that_comes_late_and_in_pieces_is_followed(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        yield 0.1
        whole = "".join(NOISE * 3 + builder.ok(step) for step in STEPS)
        for at in range(0, len(whole), 197):
            yield whole[at : at + 197]
            yield READ

    check_good(bake(acts))


def test_console_that_is_not_ready_at_first_is_asked_again(bake: NewBake, stage: Stage) -> None:
    for nth in (1, 2, 3):
        stage.server.fault(READS, nth=nth, error=not_ready("projects/demo/zones/us-central1-a/instances/x"))
    check_good(bake(lambda builder: [builder.ok(*STEPS)]))


# What is not ours


def of_another(body: str) -> str:
    """Return a marker of an earlier boot, or of another bake."""
    return marker(names.new_nonce(), body) + "\r\n"


def test_good_end_of_another_bake_is_none_of_this_one(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        yield "".join(of_another(f"checkpoint {seq}/4 {step} ok") for seq, step in enumerate(STEPS, 1))
        yield READ
        yield builder.fails("first")

    stage = bake(acts)
    assert isinstance(stage.error, StepFailedError)
    assert steps_done(stage) == ["boot", "prepare"]


def test_failure_of_an_earlier_boot_is_none_of_this_one(bake: NewBake) -> None:
    stale = of_another("checkpoint 3/4 first failed line=1 exit=7")
    check_good(bake(lambda builder: [stale, READ, builder.ok(*STEPS)]))


@pytest.mark.parametrize(
    "line",
    [
        "checkpoint 4/4 seal ok ;",
        "[   17.1] bakehouse[412]: checkpoint 4/4 seal ok ;",
        f"[   17.1] bakehouse[412]: {'0' * 32} checkpoint 4/4 seal ok ;",
        "[   17.1] apt[9]: bakehouse[412]: checkpoint 3/4 first failed line=1 exit=1 ;",
        "[   17.1] python3[9]: [    3.0] Kernel panic - not syncing: quoted from a forum",
    ],
)
def test_output_that_looks_like_a_marker_is_none(bake: NewBake, line: str) -> None:
    stage = bake(lambda builder: [builder.ok("boot") + line + "\r\n", READ, builder.ok("prepare"), READ, builder.fails("first")])
    assert isinstance(stage.error, StepFailedError)
    assert steps_done(stage) == ["boot", "prepare"]
    assert "exit status 7" in stage.told


def echoed(builder: Builder) -> str:
    """Return the script as Google's guest agent prints it, were it to print every line."""
    agent = "[   12.000000] google_metadata_script_runner[512]: startup-script: "
    return "".join(f"{agent}{line}\r\n" for line in builder.script.splitlines())


def test_script_s_own_text_on_the_console_is_no_progress(bake: NewBake) -> None:
    stage = bake(lambda builder: [echoed(builder)], silence_min=0.25)
    assert isinstance(stage.error, BuilderSilentError)
    assert steps_done(stage) == []


def test_script_s_own_text_between_its_markers_changes_nothing(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        for step in STEPS:
            yield echoed(builder)
            yield READ
            yield builder.ok(step)
        yield echoed(builder)

    check_good(bake(acts))


def test_markers_that_the_guest_agent_repeats_count_once(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        for step in STEPS:
            yield builder.ok(step)
            yield f"[   12.0] google_metadata_script_runner[512]: startup-script: {builder.ok(step)}"

    check_good(bake(acts))


# Lines that are cut


def test_marker_that_the_kernel_has_cut_is_made_good_by_the_next(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        line = builder.ok("prepare")
        middle = len(line) // 2
        yield builder.ok("boot") + line[:middle] + "[   18.2] random: crng init done\r\n" + line[middle:]
        yield READ
        yield builder.ok("first", "seal")

    check_good(bake(acts))


def test_last_marker_that_the_kernel_has_cut_comes_again(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        line = builder.ok("seal")
        yield builder.ok("boot", "prepare", "first") + line[:-6] + "[   18.2] random: crng init done\r\n" + line[-6:]
        yield 0.05
        yield line

    check_good(bake(acts))


def test_marker_is_whole_wherever_a_read_has_cut_it(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        for letter in builder.ok("boot"):
            yield letter
            yield READ
        yield builder.ok("prepare", "first", "seal")

    check_good(bake(acts))


def test_letter_of_several_bytes_that_a_read_has_cut_spoils_no_marker(bake: NewBake) -> None:
    def acts(builder: Builder) -> Iterator[Step]:
        yield "Préparation…\r\n".encode()[:-4]
        yield READ
        yield "Préparation…\r\n".encode()[-4:] + builder.ok(*STEPS).encode()

    check_good(bake(acts))


# The end of a builder


def test_panic_ends_the_bake_at_once(bake: NewBake) -> None:
    panic = "[   19.0] Kernel panic - not syncing: Fatal exception in interrupt\r\n"
    began = time.monotonic()
    stage = bake(lambda builder: [builder.ok("boot", "prepare") + panic], silence_min=50)
    assert isinstance(stage.error, KernelPanicError)
    assert stage.error.step == "first"
    assert time.monotonic() - began < 30
    assert stage.left() == []


def test_builder_that_panics_before_its_first_marker_is_started_once_more(bake: NewBake) -> None:
    boots: list[Builder] = []

    def acts(builder: Builder) -> Iterator[Step]:
        boots.append(builder)
        yield "[    0.9] Kernel panic - not syncing: double fault\r\n" if len(boots) == 1 else builder.ok(*STEPS)

    stage = bake(acts)
    check_good(stage)
    assert any(note.endswith("starting it once more") for note in stage.notes)


def test_builder_that_goes_off_without_a_word_is_told_as_dead(bake: NewBake) -> None:
    stage = bake(lambda builder: [builder.ok("boot", "prepare"), READ, OFF])
    assert isinstance(stage.error, BuilderDiedError)
    assert stage.error.step == "first"
    assert stage.left() == []


def test_builder_that_somebody_deletes_is_told_as_dead(bake: NewBake, stage: Stage) -> None:
    def strikes(method: str, nth: int, when: str) -> None:
        if (method, nth, when) == ("instances.getSerialPortOutput", 3, "before"):
            somebody, [line] = stage.connect(), stage.there("instances")
            somebody.check(somebody.delete(Kind.MACHINE, line.split("/")[1].split()[0]))

    bake(lambda builder: [builder.ok("boot", "prepare")], wire=Wire(stage.server, strikes))
    assert isinstance(stage.error, BuilderDiedError)
    assert "the machine was deleted" in stage.told
    assert stage.left() == []
