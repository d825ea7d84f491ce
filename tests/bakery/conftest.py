"""What the tests of a machine's own programs share."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from tests.bash_guest import Guest, new_guest
from tests.machine_code import load_identity


@pytest.fixture
def machine(tmp_path: Path) -> Guest:
    """Return a machine whose programs need no root."""
    guest = new_guest(tmp_path)
    for name, body in {
        "chown": 'printf "%s\\n" "chown $*" >>"$CALLS"',
        "ssh-keygen": 'printf "ssh-ed25519 KEY%s root@x\\n" "$RANDOM" | tee "${@: -1}" >"${@: -1}.pub"',
    }.items():
        guest.write(f"bin/{name}", f"#!/bin/bash\n{body}\n")
        (guest.root / "bin" / name).chmod(0o755)
    for folder in ("proc/sys/kernel", "etc/ssh", "var/lib/bakehouse", "var/lib/systemd", "home/notebook"):
        (guest.root / folder).mkdir(parents=True)
    mine = f"x:{os.getuid()}:{os.getgid()}:::"
    guest.write("etc/passwd", f"notebook:{mine}\nwww-data:{mine}\n")
    return guest


@pytest.fixture
def identity(machine: Guest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the program that gives the machine its identity; its markers are on the console."""
    for name, value in machine.environ().items():
        monkeypatch.setenv(name, value)
    return load_identity(machine, monkeypatch)
