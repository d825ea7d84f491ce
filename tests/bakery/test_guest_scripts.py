"""The frame of a script, run by bash: steps, failures, restarts, and the markers about them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import tty
from pathlib import Path

import pytest

from bakery.script.render import Part, Script, frame
from clouds import markers
from tests.bash_guest import NONCE, Guest, new_guest

pytestmark = pytest.mark.program

LOG_MAX_BYTES = 32 * 2**20
"""What the frame keeps of a log; it drops the oldest half when there is more."""


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return new_guest(tmp_path)


def bake(*steps: tuple[str, str]) -> Script:
    """Return a script that bakes, of these names and texts."""
    return frame("a test", [Part(name, text + "\n") for name, text in steps], is_bake=True)


def test_each_step_tells_that_it_has_ended(guest: Guest) -> None:
    progress = guest.run(bake(("one", "echo first"), ("two", "echo second")))
    assert progress.done
    assert progress.failure is None
    assert "=== 02-one\nfirst\n=== 03-two\nsecond\n" in guest.read("run/bakehouse/bake.log")


def test_the_last_marker_is_written_again_until_the_machine_is_stopped(guest: Guest) -> None:
    guest.run(bake(("one", "true")))
    assert guest.read("console").count("checkpoint 2/2 one ok ;") == 3


def test_steps_that_have_ended_are_skipped_at_the_next_boot(guest: Guest) -> None:
    script = bake(("one", f"echo x >>{guest.root}/ran"), ("two", f"test -e {guest.root}/mended"), ("three", "true"))
    assert guest.run(script).failure is not None
    guest.write("mended", "")
    guest.reboot()
    assert guest.run(script).done
    assert guest.read("ran") == "x\n"
    assert "checkpoint 2/4" not in guest.read("console")


def test_steps_that_the_image_holds_are_skipped(guest: Guest) -> None:
    script = bake(("one", f"echo one >>{guest.root}/ran"), ("two", f"echo two >>{guest.root}/ran"), ("three", "true"))
    assert guest.run(script, done=2).done
    assert guest.read("ran") == "two\n"


def test_the_last_step_of_a_bake_leaves_no_trace_of_having_ended(guest: Guest) -> None:
    guest.run(bake(("one", "true"), ("seal", "true")))
    assert sorted(path.name for path in (guest.root / "var/lib/bakehouse/done").iterdir()) == ["02-one"]


@pytest.mark.parametrize(
    ("text", "line", "status"),
    [
        ("echo a\n\nfalse\necho b", 3, 1),
        ("exit 3", 1, 3),
        ("f() {\n  exit 4\n}\nf", 2, 4),
        ("f() {\n  echo in\n  ls /no/such/file\n}\nf", 3, 2),
        ("(\n  cd /\n  bash -c 'exit 9'\n)", 3, 9),
        ("for i in 1 2; do\n  echo $i | grep 3\ndone", 2, 1),
        ("true\nbash -c 'exit 7' | cat", 2, 7),
        ("x=$(false; echo 1)\necho $x\n\nfalse", 4, 1),
        ("false || true\nif false; then :; fi\nfalse", 3, 1),
        ("set -x\ntrue\nfalse", 3, 1),
        ("exec bash -c 'exit 5'", 0, 5),
        ("kill -KILL $$", 0, 137),
        ("echo $undefined", 0, 1),
        ("if then", 0, 2),
        ("return 6", 0, 6),
    ],
)
def test_a_failing_step_tells_its_own_line_and_exit_status(guest: Guest, text: str, line: int, status: int) -> None:
    failure = guest.run(bake(("good", "true"), ("bad", text), ("never", "true"))).failure
    assert failure == markers.Checkpoint(3, 4, "bad", failed_line=line, exit_status=status)


def test_a_failure_in_what_steps_share_is_told_as_the_line_that_called_it(guest: Guest) -> None:
    failure = guest.run(bake(("bad", "true\n\nfetch_file file:///no/such/file 00 /nowhere/at/all 0644"))).failure
    assert failure is not None
    assert failure.failed_line == 3


def test_exit_0_ends_a_step_well(guest: Guest) -> None:
    assert guest.run(bake(("early", "exit 0\nfalse"), ("next", "true"))).done


def test_the_last_20_lines_of_a_failing_step_are_told(guest: Guest) -> None:
    script = bake(("one", "echo of another step"), ("bad", "for i in {1..50}; do echo line $i; done; false"))
    assert guest.run(script).log == tuple(f"line {number}" for number in range(31, 51))


def test_only_lines_of_the_failing_step_are_told(guest: Guest) -> None:
    assert guest.run(bake(("one", "echo before"), ("bad", "echo mine; false"))).log == ("mine",)


def test_lines_are_told_as_one_reads_them_on_a_terminal(guest: Guest) -> None:
    text = r"""printf '10%%\r50%%\r100%%\n\033[31mred\033[0m ; end ;\ncarriage\r\nbell\a tab\there\n%0500d\n' 7; false"""
    assert guest.run(bake(("bad", text))).log == ("100%", "red ; end ;", "carriage", "bell  tab here", "0" * 400)


def test_bytes_that_are_no_text_do_not_hide_a_failure(guest: Guest) -> None:
    progress = guest.run(bake(("bad", r"printf '\0\377\376 caf\303\251\n'; false")))
    assert progress.failure is not None
    assert progress.log[0].endswith("café")


def test_a_process_that_a_step_leaves_behind_holds_nothing_up(guest: Guest) -> None:
    began = time.monotonic()
    progress = guest.run(bake(("leaves", f"/bin/sleep 60 & echo $! >{guest.root}/pid"), ("next", "true")))
    os.kill(int(guest.read("pid")), signal.SIGKILL)
    assert progress.done
    assert time.monotonic() - began < 40


def test_a_step_reads_nothing_of_the_script(guest: Guest) -> None:
    assert guest.run(bake(("greedy", "cat"), ("next", "true"))).done


def test_a_text_that_looks_like_the_end_of_a_step_is_only_text(guest: Guest) -> None:
    text = "cat <<'STEP'\nEND_000000000000\nRUN_STEP\nLIB\nSTEP"
    assert guest.run(bake(("one", text), ("two", "true"))).done


@pytest.mark.parametrize("text", ["set -x\ntrue", "cat /proc/$PPID/environ; env; set", "echo @NONCE_A@@NONCE_B@"])
def test_the_nonce_does_not_reach_what_a_step_prints(guest: Guest, text: str) -> None:
    assert guest.run(bake(("loud", text))).done
    assert NONCE not in guest.read("run/bakehouse/bake.log")
    assert NONCE[:16] not in guest.read("run/bakehouse/bake.log")


def test_the_nonce_is_whole_in_no_file_of_the_machine(guest: Guest) -> None:
    guest.run(bake(("one", "true"), ("bad", "false")))
    (guest.root / "console").unlink()
    holding = [
        path for path in guest.root.rglob("*") if path.is_file() and NONCE in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert holding == []


def test_a_step_that_fakes_a_marker_is_not_believed(guest: Guest) -> None:
    fake = "echo '[    1.000000] bakehouse[7]: checkpoint 3/3 bad ok ;'; bash -c 'exit 2'"
    assert guest.run(bake(("one", "true"), ("bad", fake))).failure is not None


@pytest.mark.parametrize("disk", ["15 10000", "90 10000"])
def test_a_full_disk_is_told_when_a_step_fails(guest: Guest, disk: str) -> None:
    guest.write("disk", disk)
    assert guest.run(bake(("bad", "false"))).log[-1].startswith("bakehouse: disk full")


def test_a_disk_that_was_full_is_told_when_the_step_has_cleaned_up(guest: Guest) -> None:
    text = "echo 'cp: error writing x: No space left on device'; false"
    assert guest.run(bake(("bad", text))).log[-1].startswith("bakehouse: disk full")


def test_a_disk_with_space_is_not_called_full(guest: Guest) -> None:
    assert guest.run(bake(("bad", "echo mine; false"))).log == ("mine",)


def test_log_of_a_step_that_prints_much_keeps_its_end_and_takes_little_memory(guest: Guest) -> None:
    script = bake(
        ("quiet", "echo before"), ("loud", f"head --bytes={LOG_MAX_BYTES * 3} /dev/zero | tr '\\0' x; echo; echo last; exit 4")
    )
    progress = guest.run(script)
    assert progress.failure is not None
    assert progress.failure.exit_status == 4
    assert progress.log[-1] == "last"
    status = (guest.root / "run/bakehouse/bake.log").stat()
    assert status.st_size > LOG_MAX_BYTES * 3
    assert status.st_blocks * 512 < LOG_MAX_BYTES * 1.5


def test_output_that_does_not_fit_in_memory_is_lost_and_that_is_told(guest: Guest) -> None:
    guest.write("bin/dd", "#!/bin/bash\nhead --bytes=100 >/dev/null\nexit 1\n")
    (guest.root / "bin/dd").chmod(0o755)
    progress = guest.run(bake(("loud", "for i in {1..20000}; do echo line $i; done; exit 4")))
    assert progress.failure is not None
    assert progress.failure.exit_status == 4
    assert progress.log[-1] == "bakehouse: some output was lost: no memory left for it"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Failed to connect to system scope bus via local transport: No such file or directory", r'.* apt = \["dbus"\]'),
        ("Failed to connect to bus: No such file or directory", r'.* apt = \["dbus"\]'),
        (
            "Failed to connect to user scope bus via local transport: $XDG_RUNTIME_DIR not defined",
            ".*systemctl --global enable UNIT",
        ),
        (
            "Failed to connect to bus: $DBUS_SESSION_BUS_ADDRESS and $XDG_RUNTIME_DIR not defined",
            ".*systemctl --global enable UNIT",
        ),
        ("another reason", "another reason"),
    ],
)
def test_command_that_needs_a_bus_which_a_builder_lacks_is_told_with_what_to_do(guest: Guest, said: str, told: str) -> None:
    assert re.fullmatch(told, guest.run(bake(("bad", f"echo '{said}' >&2; false"))).log[-1])


def test_step_that_a_signal_has_ended_tells_which(guest: Guest) -> None:
    assert guest.run(bake(("bad", "kill -SEGV $$"))).log[-1] == "bakehouse: ended by signal SEGV"


def test_step_that_needed_too_much_memory_tells_so(guest: Guest) -> None:
    guest.write("kernel", "[ 12.3] Out of memory: Killed process 77 (python3) total-vm:9kB, anon-rss:8kB\n[ 13.0] other (line)\n")
    told = guest.run(bake(("bad", "bash -c 'kill -KILL $$'"))).log[-1]
    assert re.fullmatch(r"bakehouse: out of memory \(\d+ MB in all\); the kernel ended process 77 \(python3\)", told)


@pytest.mark.parametrize(("keep", "calls"), [(False, 1), (True, 0)])
def test_a_failure_powers_the_builder_off_unless_it_is_kept(guest: Guest, keep: bool, calls: int) -> None:
    guest.write("bin/sleep", "#!/bin/bash\n")
    assert guest.run(bake(("bad", "false")), keep=keep).failure is not None
    assert guest.read("calls").count("systemctl poweroff") == calls


def test_a_failure_is_told_several_times(guest: Guest) -> None:
    guest.write("bin/sleep", "#!/bin/bash\n")
    guest.run(bake(("bad", "false")))
    assert guest.read("console").count("failed line=1 exit=1") == 6


def test_the_machine_powers_itself_off_at_its_deadline(guest: Guest) -> None:
    guest.run(bake(("one", "true")), deadline_s=90)
    assert "--on-active=90 systemctl poweroff" in guest.read("calls")


def test_without_a_deadline_there_is_no_timer(guest: Guest) -> None:
    guest.run(bake(("one", "true")))
    assert "systemd-run" not in guest.read("calls")


def test_a_builder_that_the_host_orders_about_stops_once_at_each_checkpoint_but_the_last(guest: Guest) -> None:
    guest.write("run/bakehouse/await", "")
    script = bake(("one", f"echo x >>{guest.root}/ran"), ("two", "true"))
    assert [guest.run(script).reached for _ in range(3)] == [1, 2, 3]
    assert guest.read("ran") == "x\n"


def test_a_builder_that_restarts_in_a_step_or_boots_from_a_layer_does_not_stop_before_its_next_step(guest: Guest) -> None:
    script = bake(("one", "true"), ("two", "true"), ("three", "true"))
    guest.write("run/bakehouse/await", "")
    assert guest.run(script, done=1).reached == 2
    guest.reboot()
    guest.write("run/bakehouse/await", "")
    assert guest.run(script).reached == 3


def test_another_script_goes_on_where_the_first_one_has_stopped(guest: Guest) -> None:
    guest.write("run/bakehouse/await", "")
    for _ in range(2):
        assert guest.run(bake(("one", "true"), ("two", "false"))).failure is None
    assert guest.run(bake(("one", "true"), ("two", f"echo mended >{guest.root}/ran"), ("three", "true"))).reached == 3
    assert guest.read("ran") == "mended\n"


@pytest.mark.parametrize(("text", "why"), [("echo no GPU here; exit 77", "no GPU here"), ("(exit 77)", "exit status 77")])
def test_a_test_that_cannot_run_here_is_skipped_and_the_next_one_runs(guest: Guest, text: str, why: str) -> None:
    script = frame("tests", [Part("gpu", text + "\n"), Part("last", "true\n")], is_bake=False)
    console = guest.run_text(script.for_boot(NONCE, deadline_s=0))
    found = [marker for line in console.splitlines() if (marker := markers.parse(line, NONCE))]
    assert found.count(markers.Checkpoint(2, 3, "gpu", skipped=why)) == 2  # one may be lost, and the next would imply `ok`
    assert guest.progress(script, console).done
    assert markers.Checkpoint(2, 3, "gpu") not in found


def test_a_last_test_that_is_skipped_is_told_so_again_and_again(guest: Guest) -> None:
    script = frame("tests", [Part("gpu", "exit 77\n")], is_bake=False)
    console = guest.run_text(script.for_boot(NONCE, deadline_s=0))
    assert "2/2 gpu ok" not in console
    assert console.count("2/2 gpu skipped exit status 77") > 2


def test_a_step_of_a_bake_that_exits_with_77_fails(guest: Guest) -> None:
    assert guest.run(bake(("one", "exit 77"))).failure == markers.Checkpoint(2, 2, "one", failed_line=1, exit_status=77)


def test_tests_stop_for_nobody(guest: Guest) -> None:
    guest.write("run/bakehouse/await", "")
    assert guest.run(frame("tests", [Part("one", "true\n")], is_bake=False)).done


def test_a_later_run_in_the_same_boot_has_a_deadline_of_its_own(guest: Guest) -> None:
    guest.run(bake(("one", "true")), deadline_s=90)
    assert "systemctl stop bakehouse-deadline.timer" not in guest.read("calls")
    guest.write("run/systemd/transient/bakehouse-deadline.timer", "")
    guest.run(bake(("one", "true")), deadline_s=80)  # the same bake continues
    guest.write("run/bakehouse/begun", "another bake\n")
    guest.run(bake(("one", "true")), deadline_s=70)
    stop, start = [line for line in guest.read("calls").splitlines() if "bakehouse-deadline" in line][1:]
    assert stop == "systemctl stop bakehouse-deadline.timer"
    assert "--on-active=70" in start


def test_package_lists_of_long_ago_are_fetched_anew(guest: Guest) -> None:
    script = bake(("one", "true"))
    guest.write("run/bakehouse/apt-updated", "")
    guest.run(script)
    assert (guest.root / "run/bakehouse/apt-updated").exists()
    os.utime(guest.root / "run/bakehouse/apt-updated", (time.time() - 7200,) * 2)
    guest.write("run/bakehouse/begun", "another bake\n")
    guest.run(script)
    assert not (guest.root / "run/bakehouse/apt-updated").exists()


def test_the_host_gets_what_each_run_writes_into_the_log_and_no_more(guest: Guest) -> None:
    """A pseudo-terminal is the character device here."""
    host, port = os.openpty()
    tty.setraw(port)
    (guest.root / "dev/virtio-ports").mkdir(parents=True)
    (guest.root / "dev/virtio-ports/org.bakehouse.log").symlink_to(os.ttyname(port))
    guest.write("bin/sleep", '#!/bin/bash\n[[ $1 != infinity ]] || exec /bin/sleep infinity\nkill -TERM "$PPID"\n')
    guest.write("run/bakehouse/await", "")
    guest.write("run/bakehouse/bake.log", "of an earlier bake\n")
    script = bake(("one", "echo of one"), ("two", "echo of two"), ("three", "true"))
    os.set_blocking(host, False)
    got = []
    for _ in range(3):
        guest.run(script)
        with contextlib.suppress(BlockingIOError):
            got.append(os.read(host, 65536).decode())
    os.close(host)
    os.close(port)
    assert got == ["=== 02-one\nof one\n", "=== 03-two\nof two\n"]


def test_a_step_that_is_killed_because_the_machine_restarts_has_not_failed(guest: Guest) -> None:
    script = bake(("restarts", f"test -e {guest.root}/restarted || {{ touch {guest.root}/restarted; kill -TERM $$; }}"))
    guest.write("system_state", "stopping\n")
    assert guest.run(script).failure is None
    guest.reboot()
    assert guest.run(script).done


def test_a_step_that_restarts_the_machine_without_end_is_told(guest: Guest) -> None:
    script = bake(("restarts", "kill -TERM $$"))
    guest.write("system_state", "stopping\n")
    for _ in range(3):
        assert guest.run(script).failure is None
        guest.reboot()
    guest.write("system_state", "running\n")
    progress = guest.run(script)
    assert progress.failure is not None
    assert "restarted 3 times in this step" in progress.log[-1]


def test_what_keeps_a_step_from_starting_is_told_as_its_failure(guest: Guest) -> None:
    script = bake(("one", "rm -r ${BASH_SOURCE[0]%/*}"), ("two", "true"))
    failure = guest.run(script).failure
    assert failure is not None
    assert (failure.name, failure.failed_line) == ("two", 0)


def test_the_settings_of_the_build_reach_every_step(guest: Guest) -> None:
    guest.write("run/bakehouse/build/env", "export UV_DEFAULT_INDEX='http://mirror.example/simple'\n")
    guest.run(bake(("one", 'echo "index $UV_DEFAULT_INDEX"')))
    assert "index http://mirror.example/simple\n" in guest.read("run/bakehouse/bake.log")


def test_the_journal_is_kept_off_the_disk_that_becomes_the_image(guest: Guest) -> None:
    guest.run(bake(("one", "true")))
    assert "Storage=volatile" in guest.read("run/systemd/journald.conf.d/bakehouse-bake.conf")
    assert "systemctl restart systemd-journald.service" in guest.read("calls")


def test_a_base_that_is_made_for_it_is_left_as_it_is(guest: Guest) -> None:
    guest.write("etc/systemd/journald.conf.d/bakehouse.conf", "")
    for unit in ("serial-getty@ttyS0.service", "apt-daily.timer"):
        (guest.root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
        (guest.root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    guest.run(bake(("one", "true")))
    assert guest.read("calls") == ""


def test_tests_neither_power_off_nor_run_again(guest: Guest) -> None:
    guest.write("bin/sleep", "#!/bin/bash\n")
    script = frame("tests", [Part("one", f"echo x >>{guest.root}/ran\n", "root"), Part("bad", "false\n", "root")], is_bake=False)
    assert guest.run(script).failure is not None
    guest.reboot()
    assert guest.run(script).failure is not None
    assert guest.read("ran") == "x\n"
    assert "poweroff" not in guest.read("calls")


def test_a_test_runs_as_its_user_below_a_login_shell(guest: Guest) -> None:
    guest.write("bin/setpriv", '#!/bin/bash\nprintf "%s\\n" "$*" >>"$CALLS"\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    (guest.root / "bin/setpriv").chmod(0o755)
    guest.write("bin/id", "#!/bin/bash\necho 1000\n")
    (guest.root / "bin/id").chmod(0o755)
    script = frame("tests", [Part("who", "true\nbash -c 'exit 3'\n", "notebook")], is_bake=False)
    failure = guest.run(script).failure
    assert failure == markers.Checkpoint(2, 2, "who", failed_line=2, exit_status=3)
    assert "--reuid=notebook --regid=1000 --init-groups --reset-env bash --login" in guest.read("calls")


def test_what_could_be_tried_again_is_tried_five_times(guest: Guest) -> None:
    guest.write("bin/sleep", "#!/bin/bash\n")
    progress = guest.run(bake(("bad", f"retry bash -c 'echo x >>{guest.root}/tries; exit 4'")))
    assert progress.failure is not None
    assert progress.failure.exit_status == 4
    assert guest.read("tries") == "x\n" * 5


def test_what_meets_a_full_disk_is_not_tried_again(guest: Guest) -> None:
    text = f"retry bash -c 'echo x >>{guest.root}/tries; echo No space left on device; exit 4'"
    assert guest.run(bake(("bad", text))).failure is not None
    assert guest.read("tries") == "x\n"


@pytest.mark.parametrize("said", ["Hash mismatch for `apple==2.0`", "THESE PACKAGES DO NOT MATCH THE HASHES"])
def test_package_with_another_hash_is_not_tried_again_and_that_is_told(guest: Guest, said: str) -> None:
    guest.write("said", said)
    progress = guest.run(bake(("bad", f"retry bash -c 'echo x >>{guest.root}/tries; cat {guest.root}/said; exit 2'")))
    assert progress.failure is not None
    assert progress.failure.exit_status == 2
    assert guest.read("tries") == "x\n"
    assert any("./inv bake --refresh" in line for line in progress.log)


def test_a_file_with_another_digest_is_refused(guest: Guest) -> None:
    guest.write("file", "hello\n")
    good = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    fetch = f"fetch_file file://{guest.root}/file {{}} {guest.root}/got/file 0640"
    assert guest.run(bake(("good", fetch.format(good)))).done
    assert (guest.root / "got/file").stat().st_mode & 0o777 == 0o640
    progress = guest.run(bake(("bad", fetch.format("0" * 64))))
    assert progress.failure is not None
    assert re.search(r"SHA-256 is 5891b5\w+, but must be 0000", progress.log[-1])
