"""An ordinary user with a closed home folder (0700), no root and no sudo: we ourselves, or one that root makes for the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clouds.local.base import rootfs
from clouds.local.host.namespaces import missing_ranges, ranges
from clouds.waiter import until

PROJECT = Path(__file__).parents[2]
KEPT = ("PIP_", "UV_", "SSL_CERT_", "BAKEHOUSE_ACCELERATOR")
"""How the names of the variables begin that the user's commands get from us, besides proxies and certificates."""

TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
TREES = ("mmdebstrap.*", f"{rootfs.FOLDER}*")
"""Where builds make their trees, and the names of those."""

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class OrdinaryUser:
    """A user: the words that run a command as that user, and a folder (0700) in which nothing else is."""

    name: str
    uid: int
    folder: Path
    become: tuple[str, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return a small environment: the user's own home, and how to reach package indexes and mirrors."""
        kept = {
            key: value for key, value in os.environ.items() if key.startswith(KEPT) or key.lower().endswith(("_proxy", "_bundle"))
        }
        own = {"HOME": str(self.folder), "USER": self.name, "LOGNAME": self.name, "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        return {**kept, **own, "PATH": SYSTEM_PATH if self.become else os.environ["PATH"], **self.extra}

    def run(self, *words: str | Path, timeout_s: float, umask: int = 0o022, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in the folder of the project where that is copied."""
        line = f"umask {umask:03o}; cd -- {shlex.quote(str(self.folder))}; exec {shlex.join(map(str, words))}"
        return subprocess.run(
            [*self.become, "sh", "-c", line],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            cwd="/",
        )

    def must(self, *words: str | Path, timeout_s: float, umask: int = 0o022, stdin: str = "") -> str:
        """Run a command that has to end well; return what it printed."""
        done = self.run(*words, timeout_s=timeout_s, umask=umask, stdin=stdin)
        assert done.returncode == 0, f"{words}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, name: str, text: str) -> Path:
        """Write a file (0600) of the user's into the folder."""
        path = self.folder / name
        self.must("sh", "-c", 'umask 077; cat >"$0"', path, timeout_s=30, stdin=text)
        return path

    def processes(self) -> list[str]:
        """Return the processes of a user that was made for the tests, or those of ours that work in the folder."""
        return [f"{pid}: {command}" for pid, command in self._processes()]

    def trees(self) -> list[Path]:
        """Return the trees that builds of this user have left: they belong to the user, or to an id of the user's range."""
        [(first, count)] = ranges(Path("/etc/subuid").read_text(), self.name)[:1]
        ids = {self.uid, *range(first, first + count)}
        found = [path for folder in TEMPORARY for name in TREES for path in folder.glob(name)]
        return [path for path in found if path.exists() and path.stat().st_uid in ids]

    def end_processes(self) -> None:
        """Kill what is left of the tests, process by process."""
        for pid, _ in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.processes(), what=f"end of the processes of {self.name}", timeout_s=30)

    def _processes(self) -> Iterator[tuple[int, str]]:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                ours = entry.stat().st_uid == self.uid
                here = ours and (str(self.folder) in command or (entry / "cwd").readlink().is_relative_to(self.folder))
            except OSError:
                continue
            if ours and (self.become or here) and int(entry.name) != os.getpid():
                yield int(entry.name), command


def copy_checkout(user: OrdinaryUser, name: str) -> Path:
    """Copy the project (what git tracks, and new files that it does not ignore) into the user's folder."""
    target = user.folder / name
    with tempfile.TemporaryFile() as packed:
        listed = subprocess.run(["git", "ls-files", "-cozd", "--exclude-standard"], cwd=PROJECT, capture_output=True, check=False)
        if listed.returncode == 0 and listed.stdout:
            names = {entry for entry in listed.stdout.split(b"\0") if entry and os.path.exists(PROJECT / os.fsdecode(entry))}  # noqa: PTH110
            names -= {b".venv"}
            command = ["tar", "--create", "--null", "--files-from=-"]
            subprocess.run(command, cwd=PROJECT, input=b"\0".join(sorted(names)), stdout=packed, check=True)
        else:  # a copy without git
            excluded = [f"--exclude={pattern}" for pattern in ("./.*", "__pycache__", "./test-results")]
            subprocess.run(["tar", "--create", *excluded, "."], cwd=PROJECT, stdout=packed, check=True)
        packed.seek(0)
        user.must("mkdir", target, timeout_s=30)
        command = [*user.become, "tar", "--extract", "--no-same-owner", "--directory", str(target)]
        subprocess.run(command, stdin=packed, env=user.environment(), check=True, cwd="/")
    return target


@contextlib.contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Give an ordinary user, who is gone afterwards with all files and processes.

    Root makes one: useradd gives it ids of its own for namespaces, and no group that may use sudo.
    """
    folder = Path(tempfile.mkdtemp(prefix="bakehouse-user-", dir="/var/tmp"))  # pytest's own folder is closed to other users
    try:
        with _made_user(folder) if os.geteuid() == 0 else _we_ourselves(folder) as user:
            try:
                yield user
            finally:
                user.end_processes()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _we_ourselves(folder: Path) -> Iterator[OrdinaryUser]:
    yield OrdinaryUser(pwd.getpwuid(os.getuid()).pw_name, os.getuid(), folder)


@contextlib.contextmanager
def _made_user(folder: Path) -> Iterator[OrdinaryUser]:
    folder.chmod(0o711)
    name = f"bakehouse-{secrets.token_hex(4)}"
    home = folder / "home"
    _install_what_root_does_not_need()
    subprocess.run(["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name], check=True, capture_output=True)
    try:
        home.chmod(0o700)
        _, command = missing_ranges(name, *(Path(f"/etc/{file}").read_text() for file in ("subuid", "subgid")))
        if command:
            subprocess.run(shlex.split(command.removeprefix("sudo ")), check=True)
        become = ("setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups", "--inh-caps=-all", "--")
        user = OrdinaryUser(name, pwd.getpwnam(name).pw_uid, home, become)
        try:
            yield user
        finally:
            for tree in user.trees():
                shutil.rmtree(tree)
    finally:
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)


def _install_what_root_does_not_need() -> None:
    """Install what an ordinary user needs and root, for whom `./inv` installs all else, does not."""
    has_venv = subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0
    lacking = ([] if has_venv else ["python3-venv"]) + ([] if shutil.which("newuidmap") else ["uidmap"])
    if lacking:
        subprocess.run(["apt-get", "--quiet", "update"], check=True, capture_output=True)
        subprocess.run(
            ["apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *lacking], check=True, capture_output=True
        )
