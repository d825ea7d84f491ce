#!/usr/bin/env python3
"""sftp(1) as far as a bake uses it, on this computer alone: the files of a machine are a folder, and a connection may break.

`Store` is that of the machines. Machine NAME has a folder there while its SSH server runs: `host_key`, `files`, and, for each
connection that is to break, a file in `breaks` that holds after how many bytes. What OpenSSH 9.2 says and how it ends is as there
(sftp.c, sftp-client.c: `reput` needs a file there that is smaller). Run as a program of its own; `install` puts it into a folder.
"""

import hashlib
import itertools
import json
import shlex
import shutil
import sys
from pathlib import Path

CLOSED_PORT = 1
"""The port at which nothing listens."""
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeBuilderFakeBuilderFakeBuilderFakeBuil"


def install(folder: Path, store: Path) -> Path:
    """Put an `sftp` into a folder, whose machines are in the folder `store`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sftp").write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-ISE", __file__, str(store)])} "$@"\n')
    (folder / "sftp").chmod(0o755)
    return folder


class Store:
    """The machines that receive files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def listen(self, machine: str, names: list[str], host_key: str = HOST_KEY) -> None:
        """Start the SSH server of a machine, which has these files, empty, from the start."""
        (self.folder / machine / "files").mkdir(parents=True, exist_ok=True)
        (self.folder / machine / "host_key").write_text(host_key)
        for name in names:
            (self.folder / machine / "files" / name).touch()

    def break_off(self, *after_bytes: int) -> None:
        """Let the next connections that send something break, each after so many bytes."""
        (self.folder / "breaks").mkdir(parents=True, exist_ok=True)
        for number, after in enumerate(after_bytes):
            (self.folder / "breaks" / f"{number:03}").write_text(str(after))

    def files(self, machine: str) -> dict[str, bytes]:
        """Return what a machine has received."""
        found = self.folder / machine / "files"
        return {path.name: path.read_bytes() for path in found.iterdir()} if found.exists() else {}

    def has_everything(self, machine: str) -> bool:
        """Say whether the client has said that it has sent everything."""
        return (self.folder / machine / "files/complete").exists()

    def close(self, machine: str) -> dict[str, bytes]:
        """End the SSH server and return what it has received; {}: something is damaged."""
        files = self.files(machine)
        shutil.rmtree(self.folder / machine)
        sums = dict(reversed(line.split("  ")) for line in files.pop("complete").decode().splitlines())
        return files if sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} else {}

    @property
    def calls(self) -> list[list[str]]:
        """The commands of each connection that was made so far, up to the one that failed."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(store: Path, words: list[str]) -> int:
    """Do what sftp would."""
    options = dict(word.split("=", 1) for flag, word in itertools.pairwise(words) if flag == "-o")
    flags = dict(itertools.pairwise(words))
    machine, port, host = store / options["HostKeyAlias"], flags["-P"], words[-1]
    if port == str(CLOSED_PORT) or not (machine / "host_key").exists():
        return fail(f"ssh: connect to host {host} port {port}: Connection refused\nConnection closed\n")
    known = Path(options["UserKnownHostsFile"]).read_text()
    if options["StrictHostKeyChecking"] != "yes" or known != f"{machine.name} {(machine / 'host_key').read_text()}\n":
        return fail("Host key verification failed.\nConnection closed\n")
    if "PRIVATE KEY" not in Path(options["IdentityFile"]).read_text() or Path(options["IdentityFile"]).stat().st_mode & 0o77:
        return fail("root@there: Permission denied (publickey).\nConnection closed\n")
    commands = Path(flags["-b"]).read_text().splitlines()
    done, status = [], 0
    while commands and not status:
        done.append(commands.pop(0))
        status = obey(store, machine / "files", done[-1].split())
    with (store / "calls").open("a") as calls:
        calls.write(json.dumps(done) + "\n")
    return status


def obey(store: Path, files: Path, words: list[str]) -> int:
    """Carry out a command; return the exit status of a failure."""
    print("sftp>", *words, flush=True)
    if words[0] == "ls":
        for path in sorted(files.iterdir()):
            print(f"-rw-------    1 0        0        {path.stat().st_size:8} Nov 26 10:00 {path.name}")
        return 0
    source, target = words[1], files / words[2]
    if words[0] == "rename":
        (files / source).rename(target)
        return 0
    content, there = Path(source).read_bytes(), target.stat().st_size if target.exists() else None
    if words[0] == "reput" and (there is None or there >= len(content)):
        return fail("destination file bigger or same size as source file\n", status=1)
    at = there or 0 if words[0] == "reput" else 0
    broken = next(iter(sorted((store / "breaks").glob("*"))), None)
    end = len(content)
    if broken and len(content) > 1000:
        end = min(at + int(broken.read_text()), end)
        broken.unlink()
    with target.open("ab" if at else "wb") as file:
        file.write(content[at:end])
    return fail("client_loop: send disconnect: Broken pipe\nConnection closed\n") if end < len(content) else 0


def fail(text: str, status: int = 255) -> int:
    """Say why on the error output."""
    sys.stderr.write(text)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
