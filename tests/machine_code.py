"""The Python programs of a guest, loaded into a test: their files are those of a `Guest`, their words go on its console."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from clouds import markers
from tests.bash_guest import NONCE, Guest

TEMPLATES = Path(__file__).parents[1] / "templates"
LIBRARY = TEMPLATES / "base/root/usr/lib/bakehouse"
HASH = "argon2:$argon2id$v=19$m=10240,t=10,p=8$c2FsdA$aGFzaA"


def load_code(path: Path | str, text: str, **names: object) -> ModuleType:
    """Run the text of a program as a module in which these names are known already.

    No bytecode is left beside it, where it would become part of the base.
    """
    module = ModuleType(Path(path).stem)
    module.__dict__.update(names)
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def identity_text(guest: Guest) -> str:
    """Return the program that gives a machine its identity, bound to the files of a guest: never run it otherwise."""
    text = (TEMPLATES / "machine/identity.py.j2").read_text(encoding="utf-8")
    assert text.count('\nROOT = ""') == 1
    return text.replace('\nROOT = ""', f"\nROOT = {str(guest.root)!r}")


def load_identity(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return that program as a module, whose log is the guest's console."""
    log_to_console(guest, monkeypatch)
    return load_code("identity.py", identity_text(guest))


def log_to_console(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is loaded from now on write its log on the console of a guest, as the journal would."""

    def write(_priority: int, text: str) -> None:
        with (guest.root / "console").open("a") as console:
            console.write(f"[    1.000000] bakehouse[7]: {text}\n")

    fake = SimpleNamespace(openlog=lambda *_: None, syslog=write, LOG_PID=1, LOG_USER=8, LOG_NOTICE=5)
    monkeypatch.setitem(sys.modules, "syslog", fake)


def tell_facts(machine: Guest, **facts: str) -> None:
    given = {
        "MACHINE": "mine",
        "NONCE": NONCE,
        "AUTHORIZED_KEY": "ssh-ed25519 AAAA me",
        "PASSWORD_HASH": HASH,
        "EXPIRES": "0",
    } | facts
    machine.write("run/bakehouse/facts", "".join(f"{key}={shlex.quote(value)}\n" for key, value in given.items()))


def facts_told(console: str) -> dict[str, str]:
    found = [markers.parse(line, NONCE) for line in console.splitlines()]
    return {marker.key: marker.value for marker in found if isinstance(marker, markers.Fact)}
