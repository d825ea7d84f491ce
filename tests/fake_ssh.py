#!/usr/bin/env python3
"""ssh(1) as far as the launcher uses it, on this computer alone: `-L` forwards to a fake notebook, a command runs in a shell here.

Beside it lie `ssh.calls` and `sudo.calls`, the arguments of each call; `forwards`, a link to what tests.fake_remote writes; and,
where a test wants it to fail, `refusal`, with what it is to say, or `refusals`, a folder of files each of which is said once.
Run as a program of its own, and often, so it imports little: asyncio alone takes longer than all the rest. `install` puts it into a
folder.
"""

import os
import shlex
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path


def install(folder: Path, forwards: Path) -> Path:
    """Put an `ssh` into a folder, which finds where the notebooks answer in another; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-ISE", __file__])} "$0" "$@"\n')
    (folder / "sudo").write_text('#!/bin/sh\necho "$*" >>"$0.calls"\n')  # never the computer's own
    for name in ("ssh", "sudo"):
        (folder / name).chmod(0o755)
    (folder / "forwards").symlink_to(forwards)
    return folder


def main(here: Path, words: list[str]) -> int:
    """Do what ssh would."""
    with (here / "ssh.calls").open("a") as calls:
        calls.write(" ".join(words) + "\n")
    said = Path(words[words.index("-E") + 1]) if "-E" in words else None
    if (here / "refusal").exists():
        return say((here / "refusal").read_text(), said)
    for once in sorted(here.glob("refusals/*")):
        text = once.read_text()
        once.unlink()
        return say(text, said)
    if "-L" in words:
        return forward(int(words[words.index("-L") + 1].split(":")[1]), here / "forwards" / words[-1])
    os.environ["HOME"] = str(here)  # never the user's own
    return os.execvp("sh", ["sh", "-c", " ".join(words[words.index("--") + 1 :])])


def say(text: str, said: Path | None) -> int:
    """Fail with these words, on the error output or in the file of `-E`."""
    with said.open("a") if said else os.fdopen(2, "w") as out:
        out.write(text)
    return 255


def forward(port: int, target: Path) -> int:
    """Listen on a port of this computer and carry all there is to where the target's file says, until this is ended."""
    try:
        server = socket.create_server(("127.0.0.1", port), backlog=100)
    except OSError:
        return say(f"bind [127.0.0.1]:{port}: Address already in use\nCould not request local forwarding.\n", None)
    while True:
        threading.Thread(target=connect, args=(server.accept()[0], target), daemon=True).start()


def connect(here: socket.socket, target: Path) -> None:
    """Carry both ways between a connection and the target, if it answers."""
    with here:
        try:
            there = socket.create_connection(("127.0.0.1", int(target.read_text())))
        except OSError:
            return
        with there:
            back = threading.Thread(target=carry, args=(there, here), daemon=True)
            back.start()
            carry(here, there)
            back.join()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way until there are no more, then end both ways."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).parent, sys.argv[2:]))
