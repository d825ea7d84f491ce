"""Which client is called dead: only a process that this computer can see to be gone."""

import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.client import Client, Computer, Fate, computer, process_start, this_client
from tests.dead import NOBODY

ROOT = Path(__file__).parents[2]
BOOTED_AT = 1_800_000_000.0
HERE = Computer("lab", "0" * 32, "11111111-2222", "pid:[4026531836]", BOOTED_AT)


def fate(maker: Computer, *, pid: int = NOBODY, made_at: float = BOOTED_AT - 100, here: Computer = HERE) -> Fate:
    return Client(maker.mark, pid, 1).fate(made_at=made_at, here=here)


def test_process_of_this_computer_is_judged_by_number_and_start() -> None:
    pid = os.getpid()
    assert fate(HERE) is Fate.DEAD
    assert fate(HERE, pid=pid) is Fate.DEAD
    assert Client(HERE.mark, pid, process_start(pid)).fate(made_at=0, here=HERE) is Fate.ALIVE


@pytest.mark.parametrize(
    "maker",
    [
        replace(HERE, machine_id="f" * 32),
        replace(HERE, machine_id="f" * 32, boot_id="33333333-4444"),
        replace(HERE, namespace="pid:[4026532000]"),
        replace(HERE, namespace="pid:[4026532000]", boot_id="33333333-4444"),
        replace(HERE, host="other", boot_id="33333333-4444"),
        replace(HERE, machine_id=""),
        replace(HERE, boot_id=""),
        replace(HERE, namespace=""),
    ],
    ids=["machine", "computer", "container", "container elsewhere", "shared root", "no machine-id", "no boot-id", "no /proc"],
)
def test_client_that_cannot_be_compared_is_not_called_dead(maker: Computer) -> None:
    assert fate(maker) is Fate.UNKNOWN
    assert fate(HERE, here=maker) is Fate.UNKNOWN


def test_client_on_a_computer_of_equal_name_is_not_called_dead() -> None:
    assert fate(replace(HERE, machine_id="f" * 32, boot_id="33333333-4444")) is Fate.UNKNOWN


def test_client_is_dead_once_its_computer_has_restarted() -> None:
    before = replace(HERE, boot_id="33333333-4444", booted_at=BOOTED_AT - 1000)
    assert fate(before) is Fate.DEAD


def test_copy_of_this_computer_that_runs_beside_it_is_not_taken_for_an_earlier_boot() -> None:
    copy = replace(HERE, boot_id="33333333-4444")
    assert fate(copy, made_at=BOOTED_AT + 1) is Fate.UNKNOWN
    assert fate(copy, made_at=0) is Fate.UNKNOWN


def test_host_that_was_renamed_still_knows_its_clients() -> None:
    assert fate(replace(HERE, host="renamed")) is Fate.DEAD


def test_mark_is_a_label_and_holds_no_id_of_the_computer() -> None:
    here = computer()
    assert re.fullmatch(r"[hc][0-9a-f]{24}", here.mark)
    assert here.machine_id[:12] not in here.mark
    assert here.boot_id[:12] not in here.mark
    assert this_client().computer == here.mark


def test_start_of_a_process_is_what_the_kernel_says() -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert process_start(os.getpid()) == int(fields[19])


@pytest.mark.parametrize("pid", [NOBODY, 2**40, 2**70, 0])
def test_what_is_no_process_has_no_start(pid: int) -> None:
    assert process_start(pid) == 0


def test_zombie_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) == 0
    process.wait()


THREAD_OUTLIVES = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
input()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_zombie_whose_threads_still_run_is_not_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", THREAD_OUTLIVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        started = process_start(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        waited = threading.Event()
        for _ in range(500):
            if "State:\tZ" in Path(f"/proc/{process.pid}/status").read_text():
                break
            waited.wait(0.02)
        assert process_start(process.pid) == started != 0
        process.kill()


JUDGE = """
import sys
from clouds.client import Client, process_start, this_client
pid, start = map(int, sys.argv[1:])
assert process_start(pid) == 0, "it can be seen"
print(Client(this_client().computer, pid, start).fate(made_at=0))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts /proc anew, and runs a command as another user")
def test_process_that_exists_but_may_not_be_seen_is_not_called_dead() -> None:
    inner = 'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'
    mine = [sys.executable, "-c", JUDGE, str(os.getpid()), str(process_start(os.getpid()))]
    command = ["unshare", "--mount", "sh", "-c", inner, "sh", *mine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "mount:" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip(done.stderr)
    assert done.stdout.strip() == Fate.UNKNOWN, done.stderr
