"""`copy` between this computer and a machine that is a folder here: the machine's end is the real one, in a shell of its own."""

import ctypes
import errno
import hashlib
import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clouds.errors import CloudError, UsageError
from launcher.access import tree
from launcher.access.copy import copy
from launcher.access.meter import Meter
from launcher.command.terminal import Terminal
from tests.fake_cloud import FakeCloud
from tests.launcher.given import launch_one

pytestmark = pytest.mark.program

SSH = """#!/bin/sh
# What OpenSSH does with its arguments, but on this computer: `ssh -F CONFIG -E FILE NAME -- COMMAND` runs COMMAND in a home.
[ ! -e "$0.refuses" ] || { echo 'ssh: connect to host 127.0.0.1 port 9: Connection refused' >"$4"; exit 255; }
while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
shift
export HOME="${0%/bin/ssh}/machine"
cd "$HOME"
[ ! -e .bashrc ] || . ./.bashrc
exec $(cat "$(dirname "$0")/limit" 2>/dev/null) sh -c "$*"
"""
WHEN = 1_600_000_000_123_456_789
"""A time in ns, which a second or a microsecond does not express."""


@pytest.fixture
def one(fake: FakeCloud, jupyter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """Launch a machine `one`; its home is the folder `machine`, and commands run in the folder `here`."""
    for name in ("bin", "machine", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path / "here")
    launch_one(fake, "one")
    return fake


@pytest.fixture(params=["to", "from"])
def move(request: pytest.FixtureRequest, one: FakeCloud, tmp_path: Path) -> Iterator["Move"]:
    yield Move(one, tmp_path, to_machine=request.param == "to")


class Move:
    """One direction of a copy: `source` and `target` are the folders of both sides."""

    def __init__(self, cloud: FakeCloud, tmp_path: Path, *, to_machine: bool) -> None:
        self.cloud, self.to_machine = cloud, to_machine
        here, machine = tmp_path / "here", tmp_path / "machine"
        self.source, self.target = (here, machine) if to_machine else (machine, here)
        self.told: list[str] = []

    def __call__(self, source: str, destination: str) -> list[str]:
        sides = (source, f"one:{destination}") if self.to_machine else (f"one:{source}", destination or ".")
        copy(self.cloud, *sides, tell=self.told.append)
        return self.told


def listing(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return all that a folder contains: kind, mode and time of each name, and its content or target."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        what = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = None if path.is_symlink() else oct(status.st_mode)
        found[str(path.relative_to(folder))] = (what, mode, status.st_mtime_ns)
    return found


def make_project(folder: Path) -> None:
    """Create what a project has: an environment with links, read-only files and folders, empty ones, odd names."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/lib").mkdir()
    (folder / ".venv/lib64").symlink_to("lib")
    (folder / ".venv/bin/python").symlink_to("/usr/bin/python3")
    (folder / "broken").symlink_to("nowhere/at all")
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("..")
    (folder / "empty").mkdir()
    (folder / "nothing").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "fixed/deep").mkdir(parents=True)
    (folder / "fixed/deep/x").write_bytes(bytes(range(256)) * 5000)
    for odd in ("a b", "it's", "new\nline", "-rf", "ü€", "*", "a\\b", "~", "$HOME", "\x1b[31m", ".hidden"):
        (folder / odd).write_text(odd)
    Path(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9")).write_text("e")
    (folder / "fixed/deep/x").chmod(0o444)
    (folder / "fixed/deep").chmod(0o555)
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, ns=(WHEN, WHEN), follow_symlinks=False)


def test_folder_arrives_as_it_is(move: Move) -> None:
    make_project(move.source / "project")
    assert move("project", "") == []
    assert listing(move.target) == listing(move.source)
    assert (move.target / "project").stat().st_mtime_ns == WHEN


def test_a_repeated_copy_transfers_only_what_has_changed(move: Move) -> None:
    make_project(move.source / "project")
    move("project", "")
    before = {path: path.lstat().st_ino for path in (move.target / "project").rglob("*")}
    (move.source / "project/it's").write_text("changed")
    move("project", "")
    assert listing(move.target) == listing(move.source)
    after = {path: path.lstat().st_ino for path in (move.target / "project").rglob("*")}
    assert {path.name for path in after if after[path] != before.get(path)} == {"it's"}


def test_folder_goes_into_an_existing_one_and_becomes_a_new_one_otherwise(move: Move) -> None:
    (move.source / "data/in").mkdir(parents=True)
    move("data", "new")
    assert (move.target / "new/in").is_dir()
    move("data/", "new")
    assert (move.target / "new/data/in").is_dir()
    move("data", "other/")
    assert (move.target / "other/in").is_dir()


def test_the_contents_of_a_folder_leave_the_mode_of_the_existing_one(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    (move.source / "file").write_text("x")
    move.source.chmod(0o777)
    move.target.chmod(0o750)
    move(".", "")
    assert (move.target / "file").read_text() == "x"
    assert move.target.stat().st_mode & 0o777 == 0o750


def test_file_goes_into_a_folder_or_takes_the_name(move: Move) -> None:
    (move.source / "a.csv").write_text("1")
    (move.target / "folder").mkdir()
    move("a.csv", "folder")
    move("a.csv", "b.csv")
    assert (move.target / "folder/a.csv").read_text() == (move.target / "b.csv").read_text() == "1"
    (move.source / "a.csv").write_text("22")
    move("a.csv", "b.csv")
    assert (move.target / "b.csv").read_text() == "22"


def test_link_that_is_named_is_followed_on_both_sides(move: Move) -> None:
    (move.source / "real").mkdir()
    (move.source / "real/x").write_text("x")
    (move.source / "link").symlink_to("real")
    (move.source / "file").symlink_to("real/x")
    (move.target / "elsewhere").mkdir()
    (move.target / "way").symlink_to("elsewhere")
    move("link", "way")
    assert (move.target / "elsewhere/link/x").read_text() == "x"
    (move.target / "y").symlink_to("elsewhere/y")
    move("file", "y")
    assert (move.target / "elsewhere/y").read_text() == "x"
    assert (move.target / "y").is_symlink()


def test_special_files_are_left_out_and_told(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    (move.source / "data").mkdir()
    (move.source / "data/x").write_text("x")
    os.mkfifo(move.source / "data/pipe")
    monkeypatch.chdir(move.source / "data")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sock")
        monkeypatch.chdir(move.source if move.to_machine else move.target)
        [told] = move("data", "")
    assert told == "left out, since only files, folders and links are copied: data/pipe (FIFO), data/sock (socket)".replace(
        "data/", ""
    )
    assert set(listing(move.target)) == {"data", "data/x"}


def test_name_with_a_line_end_is_reported_on_one_line(move: Move) -> None:
    (move.source / "data").mkdir()
    os.mkfifo(move.source / "data/a\nerror: b\x1b[31m")
    [told] = move("data", "")
    assert told.endswith(": a\\nerror: b\\x1b[31m (FIFO)")


def test_sparse_file_takes_no_more_room_than_it_has_content(move: Move) -> None:
    with (move.source / "disk").open("wb") as file:
        for offset in (0, 40 << 20, (200 << 20) + 7):
            file.seek(offset)
            file.write(b"content")
        file.truncate(300 << 20)
    move("disk", "")
    assert (move.target / "disk").stat().st_blocks * 512 < 4 << 20
    with (move.source / "disk").open("rb") as one, (move.target / "disk").open("rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()


def test_special_file_that_is_named_is_refused(move: Move) -> None:
    os.mkfifo(move.source / "pipe")
    with pytest.raises(CloudError, match="neither a file nor a folder"):
        move("pipe", "")


def test_existing_file_is_never_replaced_by_a_folder_nor_the_reverse(move: Move) -> None:
    (move.source / "data/sub").mkdir(parents=True)
    (move.source / "data/sub/x").write_text("x")
    (move.source / "data/y").write_text("y")
    (move.target / "file").write_text("mine")
    with pytest.raises(CloudError, match="file: exists and is not a folder"):
        move("data", "file")
    (move.target / "data/y").mkdir(parents=True)
    (move.target / "data/sub").write_text("mine")
    with pytest.raises(CloudError, match="could not copy 2 files or folders") as failed:
        move("data", "")
    assert "sub: a file or a link is in the place of a folder" in failed.value.message
    assert "y: a folder or a special file is in the place of a file" in failed.value.message
    assert (move.target / "file").read_text() == (move.target / "data/sub").read_text() == "mine"


def test_device_or_fifo_at_the_target_is_not_replaced(move: Move) -> None:
    (move.source / "x").write_text("x")
    os.mkfifo(move.target / "pipe")
    with pytest.raises(CloudError, match="neither a file nor a folder"):
        move("x", "pipe")


@pytest.mark.parametrize("to", ["no/such/folder", "absent/"])
def test_missing_folder_at_the_target_is_named(move: Move, to: str) -> None:
    (move.source / "x").write_text("x")
    with pytest.raises(CloudError, match="no such folder"):
        move("x", to)


def test_thousands_of_small_files_go_as_one_stream(move: Move) -> None:
    for number in range(3000):
        path = move.source / f"many/{number % 40}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    move("many", "")
    assert listing(move.target) == listing(move.source)


def read_as_a_user() -> None:
    """Take from this thread, and from what it starts, root's capabilities to read every file (1 and 2: capabilities(7))."""
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)  # effective, permitted and inheritable, twice 32 bits each
    sets[:3] = [word & ~0b110 for word in sets[:3]]
    for capability in (1, 2):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: a program does not get it back
    libc.capset(header, sets)


def test_unreadable_file_and_folder_are_reported_and_the_rest_is_copied(move: Move) -> None:
    (move.source / "data/closed").mkdir(parents=True)
    (move.source / "data/x").write_text("x")
    (move.source / "data/secret").write_text("x")
    (move.source / "data/secret").chmod(0)
    (move.source / "data/closed").chmod(0)
    with ThreadPoolExecutor(1, initializer=read_as_a_user) as thread, pytest.raises(CloudError, match="secret: Permission denied"):
        thread.submit(move, "data", "").result()
    assert (move.target / "data/x").read_text() == "x"
    (move.source / "data/closed").chmod(0o700)


@pytest.mark.parametrize("side", ["source", "target"])
def test_single_file_that_cannot_be_copied_is_named_by_its_path(move: Move, side: str) -> None:
    for folder in (move.source, move.target):
        (folder / "data").mkdir()
    (move.source / "data/x").write_text("x")
    closed = move.source / "data/x" if side == "source" else move.target / "data"
    closed.chmod(0)
    given = {"source": str(move.source / "data/x"), "target": str(move.target / "data/y")}
    expected = pytest.raises(CloudError, match=f"could not copy 1 file or folder\n{given[side]}: Permission denied$")
    with ThreadPoolExecutor(1, initializer=read_as_a_user) as thread, expected:
        thread.submit(move, given["source"], given["target"]).result()
    closed.chmod(0o700)


def test_text_that_start_files_of_the_shell_print_does_no_harm(move: Move) -> None:
    machine = move.target if move.to_machine else move.source
    (machine / ".bashrc").write_text("echo Welcome; printf 'no newline'\n")
    (move.source / "data").write_text("x")
    move("data", "copied")
    assert (move.target / "copied").read_text() == "x"


def test_home_folder_on_the_machine_may_be_written_as_a_tilde(one: FakeCloud, tmp_path: Path) -> None:
    (tmp_path / "here/x").write_text("x")
    copy(one, "x", "one:~/y")
    assert (tmp_path / "machine/y").read_text() == "x"
    copy(one, "one:~/y", "z")
    assert (tmp_path / "here/z").read_text() == "x"


def test_machine_that_refuses_the_connection_is_explained(one: FakeCloud, tmp_path: Path) -> None:
    (tmp_path / "bin/ssh.refuses").touch()
    (tmp_path / "here/x").write_text("x")
    for sides in (("x", "one:"), ("one:x", ".")):
        with pytest.raises(CloudError, match="its SSH server is not"):
            copy(one, *sides)


def test_machine_without_python_is_explained(one: FakeCloud, tmp_path: Path) -> None:
    (tmp_path / "bin/limit").write_text("echo no python;")
    with pytest.raises(CloudError, match="the machine's end did not start"):
        copy(one, "one:x", ".")


def test_full_disk_ends_the_copy_with_its_reason(one: FakeCloud, tmp_path: Path) -> None:
    offer = {"base": "x", "entries": [["", "f", 0o644, WHEN, 10, ""]], "left_out": [], "failed": []}
    with pytest.raises(tree.TreeError, match="No space left on device"):
        tree.receive(os.fsencode(tmp_path / "here/x"), Full(offer), io.BytesIO(), lambda _f, _b: None)
    assert list((tmp_path / "here").iterdir()) == []


class Full(io.BytesIO):
    """A sender on whose content the disk is full."""

    def __init__(self, offer: dict[str, object]) -> None:
        super().__init__(json.dumps(offer).encode() + b"\n")

    def read(self, _length: int | None = -1) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "link/out", "x\0y", "a//b", "."])
def test_names_of_a_hostile_machine_stay_in_the_target(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "outside").mkdir()
    entries = [
        ["", "d", 0o755, WHEN, 0, ""],
        ["link", "l", 0o777, WHEN, 0, "../../outside"],
        [name, "f", 0o644, WHEN, 1, ""],
    ]
    offer = {"base": "data", "entries": entries, "left_out": [], "failed": []}
    said = io.BytesIO()
    tree.receive(os.fsencode(tmp_path / "target"), io.BytesIO(json.dumps(offer).encode() + b"\n"), said, lambda _f, _b: None)
    assert json.loads(said.getvalue().splitlines()[0]) == {"wanted": []}
    assert list((tmp_path / "outside").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "target"]


def test_setuid_does_not_arrive(move: Move) -> None:
    (move.source / "x").write_text("x")
    (move.source / "x").chmod(0o6755)
    move("x", "")
    assert (move.target / "x").stat().st_mode & 0o7777 == 0o755


class Ends:
    """Two pipes between a sender and a receiver, both in this process."""

    def __init__(self) -> None:
        (a, b), (c, d) = os.pipe(), os.pipe()
        self.to_sender, self.from_receiver = os.fdopen(a, "rb"), os.fdopen(b, "wb")
        self.to_receiver, self.from_sender = os.fdopen(c, "rb"), os.fdopen(d, "wb")

    def close(self) -> None:
        for one in (self.from_receiver, self.from_sender, self.to_sender, self.to_receiver):
            one.close()


def between(source: Path, target: Path, meanwhile: Callable[[int], None]) -> dict[str, object]:
    """Copy between two folders; `meanwhile` is called with the number of bytes each time that some have been sent."""
    ends = Ends()
    got: list[dict[str, object]] = []

    def receiver() -> None:
        got.append(tree.receive(os.fsencode(target), ends.to_receiver, ends.from_receiver, lambda _f, _b: None))

    thread = threading.Thread(target=receiver)
    thread.start()
    report = tree.send(os.fsencode(source), ends.to_sender, ends.from_sender, lambda _f, n: meanwhile(n))
    thread.join(timeout=30)
    ends.close()
    assert report == got[0]
    return report


@pytest.mark.parametrize("change", ["grows", "shrinks", "vanishes", "becomes a FIFO", "becomes a link"])
def test_files_that_change_meanwhile_end_no_copy(tmp_path: Path, change: str) -> None:
    source, target = tmp_path / "s", tmp_path / "t"
    source.mkdir()
    (source / "a").write_bytes(b"a" * 3_000_000)
    (source / "b").write_text("first")
    (source / "c").write_text("last")
    (tmp_path / "secret").write_text("secret")
    done = []

    def meanwhile(_bytes: int) -> None:
        if done:
            return
        done.append(True)
        if change == "grows":
            (source / "a").open("ab").write(b"more")
        elif change == "shrinks":
            os.truncate(source / "a", 1_000_000)
        else:
            (source / "b").unlink()
            if change == "becomes a FIFO":
                os.mkfifo(source / "b")
            elif change == "becomes a link":
                (source / "b").symlink_to("../secret")

    report = between(source, target, meanwhile)
    assert (target / "c").read_text() == "last"
    if change in ("grows", "shrinks"):
        assert report["changed"] == ["a"]
        assert between(source, tmp_path / "t2", lambda _n: None)["changed"] == []
        between(source / "a", target / "a", lambda _n: None)
        assert (target / "a").read_bytes() == (source / "a").read_bytes()
    else:
        assert [name for name, _ in report["failed"]] == ["b"]  # type: ignore[attr-defined]
        assert not (target / "b").exists()


def test_file_without_a_size_is_copied(one: FakeCloud, tmp_path: Path) -> None:
    copy(one, "one:/proc/cpuinfo", "cpuinfo")
    assert "processor" in (tmp_path / "here/cpuinfo").read_text()


@pytest.mark.parametrize("to_machine", [True, False], ids=["to", "from"])
def test_an_interrupted_copy_leaves_no_half_file_and_continues(one: FakeCloud, tmp_path: Path, to_machine: bool) -> None:
    """The copy runs in a process of its own, which gets a SIGINT in the middle of a large file."""
    move = Move(one, tmp_path, to_machine=to_machine)
    (move.source / "data").mkdir()
    (move.source / "data/0").write_text("first")
    with (move.source / "data/large").open("wb") as file:
        for number in range(64):
            file.write(bytes([number]) * (1 << 20))
    process_id = os.fork()
    if process_id == 0:  # pragma: no cover
        seen = [0]

        def count(line: str) -> None:
            seen[0] += 1
            if seen[0] > 40:  # some MiB of the large file
                os.kill(os.getpid(), signal.SIGINT)

        try:
            meter_is_fast()
            sides = ("data", "one:") if to_machine else ("one:data", ".")
            copy(one, *sides, transient=count)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == 7
    deadline = time.monotonic() + 20
    while not (partial := list((move.target / "data").glob(".bakehouse-*.part"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (move.target / "data/large").exists()
    assert partial[0].stat().st_size <= 64 << 20
    move("data", "")
    assert listing(move.target) == listing(move.source)


def meter_is_fast() -> None:
    import launcher.access.meter

    launcher.access.meter._EVERY_S = 0.0


def test_progress_is_one_line_that_is_rewritten_and_removed() -> None:
    now = [0.0]
    lines: list[str] = []
    meter = Meter(lines.append, now=lambda: now[0])
    meter.start(2, 4_000_000)
    meter.count(0, 1_000_000)
    now[0] = 1.0
    meter.count(1, 1_000_000)
    meter.end()
    assert lines == ["copying: 1 of 2 files, 2.0 of 4.0 MB (2.0 MB/s)", ""]


def test_progress_is_shown_on_a_terminal_only() -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown, plain = Tty(), io.StringIO()
    for stream in (shown, plain):
        Terminal(None, io.StringIO(), stream).transient("copying \x1b[2J")
    assert shown.getvalue() == "\rcopying \x1b[K"
    assert plain.getvalue() == ""


@pytest.mark.parametrize(("source", "destination"), [("a", "b"), ("one:a", "one:b"), ("./one:a", "/x"), ("UP:a", "b")])
def test_copy_needs_exactly_one_side_on_a_machine(one: FakeCloud, source: str, destination: str) -> None:
    with pytest.raises(UsageError, match="exactly one side") as raised:
        copy(one, source, destination)
    assert "NAME:PATH" in raised.value.next_step


def test_copy_of_a_file_that_is_not_here_is_refused_before_anything_is_asked(one: FakeCloud) -> None:
    one.calls.clear()
    with pytest.raises(UsageError, match="no such file"):
        copy(one, "nosuch", "one:x")
    assert one.calls == []


def test_path_that_cannot_be_looked_up_is_refused_with_the_reason(one: FakeCloud, tmp_path: Path) -> None:
    for side in ("here", "machine"):
        (tmp_path / side / "loop").symlink_to("loop")
    for path, reason in (("x" * 300, "File name too long"), ("loop", "Too many levels of symbolic links")):
        with pytest.raises(UsageError, match=reason):
            copy(one, path, "one:x")
        with pytest.raises(CloudError, match=reason):
            copy(one, f"one:{path}", "x")


def test_file_that_is_not_on_the_machine_is_reported(one: FakeCloud) -> None:
    with pytest.raises(CloudError, match="results: No such file or directory"):
        copy(one, "one:results", ".")


def test_local_path_is_never_taken_for_a_machine_or_an_option(one: FakeCloud, tmp_path: Path) -> None:
    (tmp_path / "machine/x").write_text("x")
    for path in ("-odd", "./odd:name"):
        copy(one, "one:x", path)
        assert (tmp_path / "here" / path).read_text() == "x"
