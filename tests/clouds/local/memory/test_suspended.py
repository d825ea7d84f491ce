"""A suspension or a resume whose client was killed on the way; a process that calls itself QEMU stands for it."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clouds.driver import Kind, State
from clouds.errors import CloudError
from clouds.local.driver import LocalCloud
from clouds.local.host import files
from clouds.local.machines import Machines
from clouds.local.memory import trust
from clouds.local.memory.fit import difference, shape
from clouds.local.memory.suspend import SUSPENDED
from clouds.local.store import Store
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import KVM, TCG
from clouds.local.vm.record import read_record, write_record
from clouds.partial import partial_folder
from clouds.waiter import until
from tests.clouds.local.memory.test_transport import qemu_of
from tests.clouds.local.small import needs_tools, order, so_called_qemu
from tests.clouds.local.vm.test_sockets import GREETING, Answer, greeting, serving, status
from tests.dead import dead_partial

pytestmark = needs_tools
TAKEN = "could not set up host forwarding rule"


@pytest.fixture
def machines(store: Store) -> Iterator[Machines]:
    """Give a store with machine `one`, whose memory is written and whose QEMU has not ended yet."""
    machines = Machines(store)
    machines.prepare(order("one"))
    folder = store.machine("one")
    (folder / SUSPENDED).mkdir()
    (folder / SUSPENDED / "state").touch()
    with so_called_qemu(folder):
        yield machines


@pytest.fixture
def waking(machines: Machines) -> Machines:
    """Give that machine as its next start has left it: a new QEMU is there, which is to have the memory."""
    folder = machines.store.machine("one")
    record = read_record(folder)
    assert record
    write_record(folder, replace(record, memory=SUSPENDED, spawns=1))
    return machines


def qemu_that_is(state: str, *, refuses: str = "") -> Answer:
    """Return a QEMU that waits for its memory (`inmigrate`) until it has it, or is in another state; it may refuse ports."""
    now = [state]

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        if message["execute"] == "human-monitor-command":
            return {"return": refuses}
        if message["execute"] == "migrate-incoming":
            now[0] = "paused"
        return {"return": {"status": now[0]} if message["execute"] == "query-status" else {}}

    return answer


def commands(asked: list[dict[str, Any]]) -> list[str]:
    """Return the commands that QEMU received, in order."""
    return [message["execute"] for message in asked if message["execute"] not in ("qmp_capabilities", "query-status")]


@pytest.mark.usefixtures("machines")
def test_its_state_is_suspended(cloud: LocalCloud) -> None:
    found = cloud.find(Kind.MACHINE, "one")
    assert found and found.state is State.SUSPENDED


def test_start_lets_it_go_on_and_discards_the_memory_that_its_disk_will_not_fit(machines: Machines) -> None:
    folder = machines.store.machine("one")
    with serving(folder, qemu.QMP, status("paused"), greeting=GREETING) as asked:
        machines.start("one", TCG, deadline_s=60, facts={})
    assert "cont" in [message["execute"] for message in asked]
    assert not (folder / SUSPENDED).exists()


def test_start_ends_the_writing_that_would_pause_it_once_more(machines: Machines) -> None:
    with serving(machines.store.machine("one"), qemu.QMP, status("paused"), greeting=GREETING) as asked:
        machines.start("one", TCG, deadline_s=60, facts={})
    assert commands(asked) == ["migrate_cancel", "cont"]


def test_start_leaves_a_suspension_alone_that_is_under_way(machines: Machines) -> None:
    folder = machines.store.machine("one")
    scratch = partial_folder(folder, f"new-{SUSPENDED}")
    told = pytest.raises(CloudError, match="another command is suspending machine 'one'")
    with serving(folder, qemu.QMP, status("paused"), greeting=GREETING) as asked, told:
        machines.start("one", TCG, deadline_s=60, facts={})
    assert commands(asked) == []
    assert scratch.exists()


def test_sweep_removes_the_memory_that_a_dead_command_was_writing_and_no_other(machines: Machines) -> None:
    folder = machines.store.machine("one")
    dead = folder / dead_partial(f"new-{SUSPENDED}")
    dead.mkdir()
    mine = partial_folder(folder, f"new-{SUSPENDED}")
    machines.store.sweep()
    assert (dead.exists(), mine.exists()) == (False, True)
    assert (folder / SUSPENDED).exists()


def test_memory_is_gone_before_the_machine_goes_on(waking: Machines) -> None:
    folder, there = waking.store.machine("one"), []
    well = qemu_that_is("inmigrate")

    def look(message: dict[str, Any]) -> dict[str, Any] | None:
        there.append((message["execute"], (folder / SUSPENDED).exists()))
        return well(message)

    with serving(folder, qemu.QMP, look, greeting=GREETING):
        assert waking.is_up("one", TCG)
    assert ("migrate-incoming", True) in there
    assert ("cont", False) in there


def test_machine_without_an_agent_goes_on_and_its_console_tells_of_its_clock(waking: Machines) -> None:
    folder = waking.store.machine("one")
    with serving(folder, qemu.QMP, qemu_that_is("inmigrate"), greeting=GREETING):
        assert waking.is_up("one", TCG)
    assert qemu.is_alive(folder)
    assert "could not set the clock after the suspension" in (folder / qemu.CONSOLE).read_text()


@pytest.mark.parametrize("is_discarded", [False, True])
@pytest.mark.parametrize("state", ["paused", "running"])
def test_machine_that_has_its_memory_goes_on_with_it(waking: Machines, state: str, is_discarded: bool) -> None:
    folder = waking.store.machine("one")
    if is_discarded:
        files.discard(folder / SUSPENDED)
    with serving(folder, qemu.QMP, qemu_that_is(state), greeting=GREETING) as asked:
        waking.start("one", TCG, deadline_s=60, facts={})
        assert waking.is_up("one", TCG)
    assert commands(asked) == ["migrate_cancel", "cont", "human-monitor-command"]
    record = read_record(folder)
    assert record and record.memory == ""


def test_two_commands_that_start_it_at_once_let_it_go_on_once(waking: Machines) -> None:
    folder, well = waking.store.machine("one"), qemu_that_is("inmigrate")
    others: list[Future[bool]] = []

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        if message["execute"] == "query-status" and not others:
            others.append(pool.submit(waking.is_up, "one", TCG))
            time.sleep(0.2)  # the other one begins
        return well(message)

    with ThreadPoolExecutor() as pool, serving(folder, qemu.QMP, answer, greeting=GREETING) as asked:
        assert waking.is_up("one", TCG)
        assert others[0].result(timeout=30)
    assert commands(asked).count("migrate-incoming") == commands(asked).count("cont") == 1


def test_machine_whose_ports_are_refused_stays_on(waking: Machines) -> None:
    folder = waking.store.machine("one")
    refusing = qemu_that_is("inmigrate", refuses=TAKEN)
    with serving(folder, qemu.QMP, refusing, greeting=GREETING), pytest.raises(CloudError, match=TAKEN):
        waking.is_up("one", TCG)
    assert qemu.is_alive(folder)


def test_port_that_is_taken_is_chosen_again_at_each_start_however_often_the_machine_was_started(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines, starts = Machines(store), 7
    machines.prepare(order("one"))
    tries = tmp_path / "tries"
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    program = tmp_path / "bin" / qemu.PROGRAM
    program.parent.mkdir()
    program.write_text(f"""#!/bin/sh
echo >>{tries}
[ $(($(wc -l <{tries}) % 2)) = 0 ] || {{ echo "qemu: {TAKEN}"; exit 1; }}
""")
    program.chmod(0o755)
    for _ in range(starts):
        machines.start("one", TCG, deadline_s=60, facts={})
        until(lambda: not qemu.is_alive(store.machine("one")), what="the end of the first try", timeout_s=20, poll_s=0.01)
        assert not machines.is_up("one", TCG)  # it is tried once more
        until(lambda: not qemu.is_alive(store.machine("one")), what="the end of the second try", timeout_s=20, poll_s=0.01)
        assert machines.is_up("one", TCG)
    assert len(tries.read_text().splitlines()) == 2 * starts
    record = read_record(store.machine("one"))
    assert record
    assert record.runs_on == "tcg"


@pytest.fixture
def long_lived(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """Give a machine `one` whose QEMU, under its watchdog, runs although its memory is written."""
    machines = Machines(store)
    machines.prepare(order("one"))
    folder = store.machine("one")
    program = tmp_path / "bin" / qemu.PROGRAM
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\nexec -a {qemu.PROGRAM} sleep 1000\n")  # not a loop: its children would count for a moment
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    qemu.spawn(folder, [], deadline_s=1000)
    until(lambda: _has_begun(folder), what="QEMU under its watchdog", timeout_s=60, poll_s=0.01)
    (folder / SUSPENDED).mkdir()
    try:
        yield machines
    finally:
        qemu.kill(folder)


def _has_begun(folder: Path) -> bool:
    """Return whether QEMU runs: what its watchdog has forked has the watchdog's own command line at first."""
    words = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in qemu.processes(folder)]
    return qemu.PROGRAM.encode() in [command[0] for command in words]


def test_resumed_machine_whose_qemu_had_not_ended_ends_at_its_new_deadline(long_lived: Machines) -> None:
    folder = long_lived.store.machine("one")
    with serving(folder, qemu.QMP, status("paused"), greeting=GREETING):
        long_lived.start("one", TCG, deadline_s=1, facts={"EXPIRES": "4711"})
    record = read_record(folder)
    assert record and (record.deadline_s, record.facts["EXPIRES"]) == (1, "4711")
    until(lambda: not qemu.is_alive(folder), what="its end", timeout_s=30, poll_s=0.05)


@pytest.mark.parametrize("deadline_s", [0, 1000])
def test_resumed_machine_whose_qemu_had_not_ended_is_rid_of_its_old_deadline(long_lived: Machines, deadline_s: int) -> None:
    folder = long_lived.store.machine("one")
    with serving(folder, qemu.QMP, status("paused"), greeting=GREETING):
        long_lived.start("one", TCG, deadline_s=deadline_s, facts={})
    until(lambda: len(qemu.processes(folder)) == 1, what="the end of the watchdog", timeout_s=20, poll_s=0.01)
    assert qemu.is_alive(folder)


def test_machine_that_was_on_keeps_its_deadline(long_lived: Machines) -> None:
    folder = long_lived.store.machine("one")
    (folder / SUSPENDED).rmdir()
    with serving(folder, qemu.QMP, status("running"), greeting=GREETING):
        long_lived.start("one", TCG, deadline_s=1, facts={})
    record = read_record(folder)
    assert record and record.deadline_s == 60
    assert len(qemu.processes(folder)) == 2


def test_memory_is_noted_as_that_of_the_accelerator_on_which_the_machine_runs(machines: Machines) -> None:
    """A machine that was launched with `--accelerator tcg`, and a command without that where KVM works."""
    folder = machines.store.machine("one")
    record = read_record(folder)
    assert record
    write_record(folder, replace(record, runs_on="tcg"))
    with serving(folder, qemu.QMP, qemu_of((10, 0)), greeting=greeting(10, 0)):
        machines.suspend("one", KVM)
    assert difference(folder / SUSPENDED, shape(record, TCG)) == ""
    assert "memory was saved with tcg" in difference(folder / SUSPENDED, shape(record, KVM))


@pytest.fixture
def killed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Give a machine `one` whose QEMU was killed; another one that is started ends at once."""
    machines = Machines(store)
    machines.prepare(order("one"))
    program = tmp_path / "bin" / qemu.PROGRAM
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return machines


def started(machines: Machines) -> str:
    """Start the machine; return the folder of the memory that it is restored from, "" when it boots."""
    machines.start("one", TCG, deadline_s=60, facts={})
    record = read_record(machines.store.machine("one"))
    assert record
    return record.memory


def test_machine_whose_qemu_was_killed_while_suspending_boots(killed: Machines) -> None:
    (killed.store.machine("one") / dead_partial(f"new-{SUSPENDED}")).mkdir()
    assert started(killed) == ""


@pytest.mark.parametrize("is_loaded", [False, True], ids=["memory not loaded", "memory loaded and removed"])
def test_machine_whose_qemu_was_killed_while_resuming_has_the_memory_that_is_left(killed: Machines, is_loaded: bool) -> None:
    folder = killed.store.machine("one")
    record = read_record(folder)
    assert record
    write_record(folder, replace(record, memory=SUSPENDED, spawns=1))
    if not is_loaded:
        (folder / SUSPENDED).mkdir()
        trust.seal(folder / SUSPENDED, shape(record, TCG), "pc-q35-7.2")
    assert started(killed) == ("" if is_loaded else SUSPENDED)
