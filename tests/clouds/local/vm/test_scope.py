"""A machine's own systemd scope: when it gets one, that QEMU starts in it or without it, and what is said of the logout.

`computer` is the root folder of a computer: what says that systemd runs, whose cgroup this is, and who lingers.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clouds.client import process_start
from clouds.local.driver import LocalCloud
from clouds.local.host import files
from clouds.local.machines import Machines
from clouds.local.store import Store
from clouds.local.vm import qemu, scope
from clouds.local.vm.accelerator import TCG
from clouds.local.vm.scope import logout_notices, scope_command
from clouds.waiter import until
from tests.clouds.local.small import needs_tools, order

UID = os.geteuid()
USER = pwd.getpwuid(UID).pw_name
MANAGER = f"0::/user.slice/user-{UID}.slice/user@{UID}.service"
DESKTOP = f"{MANAGER}/app.slice/vte-spawn-1.scope\n"
SSH = f"0::/user.slice/user-{UID}.slice/session-3.scope\n"
CONTAINER = "0::/\n"
OLD_CGROUPS = f"5:memory:/user.slice\n1:name=systemd:{DESKTOP.removeprefix('0::')}0::/\n"
ANOTHERS = "0::/user.slice/user-4242.slice/user@4242.service/app.slice/x.scope\n"
PASSES = r"""#!/bin/sh
printf '%s\n' "$XDG_RUNTIME_DIR" "$@" >"$0.asked"
echo 'a warning of systemd-run' >&2
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
REFUSES = "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n"
HANGS = '#!/bin/sh\nsleep 60\nexec "$@"\n'


@pytest.fixture
def computer(tmp_path: Path) -> Path:
    """Give a computer on which systemd runs, with a manager of this user, and a desktop's terminal."""
    root = tmp_path / "computer"
    for folder in ("run/systemd/system", f"run/user/{UID}/systemd", "proc/self", "var/lib/systemd/linger"):
        (root / folder).mkdir(parents=True)
    (root / f"run/user/{UID}/systemd/private").touch()
    (root / "proc/self/cgroup").write_text(DESKTOP)
    return root


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of programs that come before all others: a QEMU that sleeps, and a systemd-run that passes on."""
    folder = tmp_path / "programs"
    folder.mkdir()
    shutil.copy("/bin/sleep", folder / qemu.PROGRAM)
    put(folder / "systemd-run", PASSES)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a machine's folder, and kill its processes afterwards."""
    folder = tmp_path / "machine"
    folder.mkdir()
    yield folder
    end(folder)


def put(program: Path, text: str) -> None:
    program.write_text(text)
    program.chmod(0o755)


def end(folder: Path) -> None:
    killed = qemu.kill(folder)
    until(lambda: qemu.are_gone(killed), what="the end of the machine", timeout_s=30, poll_s=0.01)


def enter(computer: Path, cgroup: str, *, lingers: bool = False, user: str = USER) -> Path:
    """Say from where a machine is started on that computer, and whether the user lingers."""
    (computer / "proc/self/cgroup").write_text(cgroup)
    if lingers:
        (computer / "var/lib/systemd/linger" / user).touch()
    return computer


# When a machine gets a scope


@pytest.mark.parametrize(
    ("cgroup", "lingers", "gets_one"),
    [
        (DESKTOP, False, True),
        (DESKTOP, True, True),
        (OLD_CGROUPS, False, True),
        (SSH, True, True),
        (SSH, False, False),  # its session's scope outlives the logout; one below the user manager would not
        (CONTAINER, False, False),
        (ANOTHERS, False, False),  # root, by sudo: the user manager is another user's
    ],
)
def test_scope_is_asked_for_only_where_the_machine_outlives_more_in_it(
    computer: Path, programs: Path, cgroup: str, lingers: bool, gets_one: bool
) -> None:
    assert bool(scope_command("lab", enter(computer, cgroup, lingers=lingers))) is gets_one


@pytest.mark.parametrize("lacks", ["run/systemd/system", f"run/user/{UID}/systemd/private"])
def test_without_a_user_manager_there_is_no_scope(computer: Path, programs: Path, lacks: str) -> None:
    (computer / lacks).rename(computer / "gone")
    assert scope_command("lab", enter(computer, DESKTOP, lingers=True)) == []


def test_without_systemd_run_there_is_no_scope(computer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "which", lambda program: None)
    assert scope_command("lab", computer) == []


def test_computer_without_proc_has_neither_scope_nor_notice(computer: Path, programs: Path) -> None:
    (computer / "proc/self/cgroup").unlink()
    assert (scope_command("lab", computer), logout_notices(computer)) == ([], [])


# What is said of the logout


@pytest.mark.parametrize(
    ("cgroup", "user"),
    [(DESKTOP, USER), (OLD_CGROUPS, USER), (ANOTHERS, "4242")],
)
def test_machine_that_ends_at_the_logout_is_told_in_one_line(computer: Path, cgroup: str, user: str) -> None:
    enter(computer, cgroup, lingers=True, user="somebody-else")
    assert logout_notices(computer) == [
        f"the machine stops about 10 s after your last logout from this computer. To keep it running: loginctl enable-linger {user}"
    ]


@pytest.mark.parametrize(
    ("cgroup", "lingers", "user"), [(DESKTOP, True, USER), (SSH, False, USER), (CONTAINER, False, USER), (ANOTHERS, True, "4242")]
)
def test_machine_that_outlives_the_logout_is_not_spoken_of(computer: Path, cgroup: str, lingers: bool, user: str) -> None:
    assert logout_notices(enter(computer, cgroup, lingers=lingers, user=user)) == []


def test_cloud_says_it_of_its_computer(computer: Path, tmp_path: Path) -> None:
    assert LocalCloud(tmp_path / "local", "tcg", computer).logout_notices() == logout_notices(computer) != []


# QEMU in it


def test_qemu_starts_in_the_scope_as_the_process_that_is_noted(computer: Path, programs: Path, folder: Path) -> None:
    qemu.spawn(folder, ["60"], deadline_s=60, scope=scope_command("lab", computer))
    asked = (programs / "systemd-run.asked").read_text().splitlines()
    assert asked[:6] == [
        *(f"{computer}/run/user/{UID}", "--user", "--scope", "--quiet", "--collect"),
        "--description=Bakehouse machine lab",
    ]
    noted = files.read_json(folder / "process.json")
    assert noted
    assert qemu.is_alive(folder)
    words = Path(f"/proc/{noted['pid']}/cmdline")
    until(lambda: words.read_bytes().startswith(b"timeout\0"), what="QEMU's watchdog", timeout_s=30, poll_s=0.01)
    assert files.read_json(folder / "process.json") == {"pid": noted["pid"], "start": process_start(noted["pid"])}
    assert qemu.death(folder) is None, "a warning of systemd-run is not taken for QEMU's last words"


def test_words_of_qemu_in_a_scope_are_its_log(computer: Path, programs: Path, folder: Path) -> None:
    qemu.spawn(folder, ["--no-such-option"], deadline_s=60, scope=scope_command("lab", computer))
    until(lambda: not qemu.is_alive(folder), what="the end of QEMU", timeout_s=30, poll_s=0.01)
    assert "no-such-option" in str(qemu.death(folder))


@pytest.mark.parametrize("words", ["a b", "$HOME", "${HOME}", "'", '"', "a\nb", ""])
def test_words_of_the_command_reach_qemu_as_they_are(computer: Path, programs: Path, folder: Path, words: str) -> None:
    put(programs / qemu.PROGRAM, '#!/bin/sh\nprintf "%s" "$1" >told\n')
    qemu.spawn(folder, [words], deadline_s=60, scope=scope_command("lab", computer))
    until(lambda: not qemu.is_alive(folder), what="the end of QEMU", timeout_s=30, poll_s=0.01)
    assert (folder / "told").read_text() == words


def test_qemu_starts_without_a_scope_where_systemd_refuses(computer: Path, programs: Path, folder: Path) -> None:
    put(programs / "systemd-run", REFUSES)
    qemu.spawn(folder, ["60"], deadline_s=60, scope=scope_command("lab", computer))
    assert qemu.is_alive(folder)
    until(lambda: qemu.processes(folder), what="QEMU", timeout_s=30, poll_s=0.01)
    end(folder)
    assert qemu.death(folder) is None, "the refusal is not taken for QEMU's last words"


@pytest.mark.skipif(shutil.which("systemd-run") is None, reason="systemd-run is not installed")
def test_qemu_starts_where_the_real_systemd_run_finds_no_manager(
    computer: Path, programs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs / "systemd-run").unlink()
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    command = scope_command("lab", computer)
    done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.startswith("Failed to connect to")) == (1, True), "it knows all options"
    qemu.spawn(folder, ["60"], deadline_s=60, scope=command)
    assert qemu.is_alive(folder)


def test_systemd_run_that_hangs_is_ended_and_qemu_starts_once(
    computer: Path, programs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(programs / "systemd-run", HANGS)
    monkeypatch.setattr(scope, "_REFUSED_S", 0.2)
    qemu.spawn(folder, ["60"], deadline_s=60, scope=scope_command("lab", computer))
    assert qemu.is_alive(folder)
    started = until(lambda: qemu.processes(folder), what="QEMU", timeout_s=30, poll_s=0.01)
    assert not any(b"systemd-run" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started)


@needs_tools
def test_each_machine_of_the_cloud_is_started_so(computer: Path, programs: Path, store: Store) -> None:
    put(programs / qemu.PROGRAM, "#!/bin/sh\nexit 0\n")
    Machines(store, computer).create(order("one"), TCG)
    assert "--description=Bakehouse machine one" in (programs / "systemd-run.asked").read_text()
    end(store.machine("one"))
