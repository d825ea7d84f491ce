"""Locks between commands: one at a time, with a time limit, and with a message about the wait."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from clouds.errors import TimedOutError
from clouds.locks import locked, reporting

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from clouds.locks import locked
with locked(Path(sys.argv[1]), what="nobody"):
    print("held", flush=True)
    time.sleep(60)
"""
WHAT = "another command to build the base"


@contextmanager
def held_by_another_process(lock: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.kill()


def test_lock_is_held_against_another_process_and_freed_when_its_holder_is_killed(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", list[str]()
    with held_by_another_process(lock) as holder:
        assert subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode == 1

        def kill(line: str) -> None:
            said.append(line)
            holder.kill()

        with locked(lock, what=WHAT, say_after_s=0.05, timeout_s=60, tell=kill):
            assert said == [f"waiting for {WHAT}"]


def test_lock_of_an_older_release_holds(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; exec sleep 60"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TimedOutError), locked(lock, what=WHAT, timeout_s=0.1):
            pass
        holder.kill()
        subprocess.run(["fuser", "-k", str(lock)], check=False, capture_output=True)


def test_wait_that_is_too_long_says_what_it_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with (
        locked(lock, what="nobody"),
        pytest.raises(TimedOutError, match=f"waiting for {WHAT}: timed out after"),
        locked(lock, what=WHAT, say_after_s=0.02, timeout_s=0.1),
    ):
        pass


def test_wait_is_reported_to_the_command(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", list[str]()
    with (
        reporting(said.append),
        locked(lock, what="nobody"),
        pytest.raises(TimedOutError),
        locked(lock, what=WHAT, say_after_s=0.02, timeout_s=0.1),
    ):
        pass
    assert said == [f"waiting for {WHAT}"]


def test_free_lock_is_taken_without_a_word_and_again_and_again(tmp_path: Path) -> None:
    lock, said = tmp_path / "lock", list[str]()
    for _ in range(3):
        with locked(lock, what=WHAT, say_after_s=0, tell=said.append):
            assert lock.stat().st_mode & 0o777 == 0o600
    assert said == []


def test_threads_take_turns_too(tmp_path: Path) -> None:
    inside: list[int] = []

    def enter(_: int) -> int:
        with locked(tmp_path / "lock", what=WHAT, timeout_s=60):
            inside.append(1)
            count = len(inside)
            inside.pop()
        return count

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(enter, range(40))) == {1}


def test_lock_in_a_folder_that_is_gone_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone" / "lock", what=WHAT):
        pass


def test_what_fails_under_a_lock_gives_it_back(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), locked(tmp_path / "lock", what=WHAT, timeout_s=1):
            raise ValueError("inside")
