"""What a guest does with a script, as far as anybody outside can see: console, log, files, and whether it stays on.

The nonce and the checkpoints are read from the script itself, which must hold what templates/script.sh.j2 writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests import fake_services

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"


@dataclass(frozen=True, slots=True)
class Guest:
    """How the boot of a guest goes: well, or `ending` happens instead of the checkpoint `at` ("" = the first)."""

    ending: str = "ok"
    at: str = ""
    line: int = 1
    exit_status: int = 1
    log: tuple[str, ...] = ()
    leaves: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Played:
    """What a boot has brought about."""

    console: str
    log: str
    files: Mapping[str, bytes]
    is_on: bool


OK = Guest()


def fails_at(step: str, *, line: int = 1, exit_status: int = 1, log: tuple[str, ...] = ()) -> Guest:
    """Fail in a step as a command with this exit status would, tell so, and power off."""
    return Guest("fails", step, line, exit_status, log)


def fails_test(name: str) -> Guest:
    """Fail one of the recipe's tests."""
    return fails_at(name, log=(f"AssertionError in {name}",))


def disk_full_at(step: str) -> Guest:
    """Fail in a step because the disk is full."""
    return fails_at(step, exit_status=100, log=("E: write error - No space left on device", "bakehouse: disk full"))


def silent_at(step: str) -> Guest:
    """Stay on, but say nothing more from this step on."""
    return Guest("silent", step)


def dies_at(step: str = "") -> Guest:
    """Go off in the middle of a step, without a word."""
    return Guest("dies", step)


def panics_at(step: str = "") -> Guest:
    """Panic in the middle of a step; the machine stays on, as a panicked kernel does."""
    return Guest("panics", step)


def leaves_secret(path: str, content: bytes) -> Guest:
    """Do all steps well, but leave a file on the disk."""
    return replace(OK, leaves={path: content})


def play(guest: Guest, *, name: str, script: str, facts: Mapping[str, str]) -> Played:
    """Return what becomes of a boot with this script and these facts."""
    console = [
        "[    0.000000] Linux version 6.12.0-fake (debian-kernel@lists.debian.org)",
        f"[    1.5] systemd[1]: Hostname set to <{name}>.",
    ]
    if nonce := facts.get("NONCE"):
        console += [marker(nonce, f"fact host-key {HOST_KEY}"), marker(nonce, "fact ready identity")]
        if facts.get("HTTPS_PORT"):
            console.append(marker(nonce, f"fact certificate {fake_services.certificate().fingerprint}"))
    log: list[str] = []
    ended = guest.ending != "ok" and not script
    if script:
        nonce, names = read_script(script)
        lines, log, ended = _run(guest, nonce, names)
        console += lines
    if guest.ending == "panics" and ended:
        console.append("[   17.2] Kernel panic - not syncing: Fatal exception in interrupt")
    is_on = not ended or guest.ending in ("silent", "panics") or (guest.ending == "fails" and _is_kept(script))
    return Played(_text(console, "\r\n"), _text(log, "\n"), guest.leaves, is_on)


def _run(guest: Guest, nonce: str, names: tuple[str, ...]) -> tuple[list[str], list[str], bool]:
    """Return console lines, log lines, and whether the guest's ending was reached."""
    console, log = [], []
    for seq, name in enumerate(names, 1):
        log += [f"=== {seq:02} {name}", f"output of {name}"]
        where = f"checkpoint {seq}/{len(names)} {name}"
        if guest.ending != "ok" and name == (guest.at or names[0]):
            if guest.ending == "fails":
                log += guest.log
                console += [marker(nonce, f"log {line}") for line in guest.log]
                console.append(marker(nonce, f"{where} failed line={guest.line} exit={guest.exit_status}"))
            return console, log, True
        console.append(marker(nonce, f"{where} ok"))
    return [*console, console[-1]], log, False


def read_script(script: str) -> tuple[str, tuple[str, ...]]:
    """Return the nonce and the names of the checkpoints that a script holds."""
    halves = re.search(r"^a='([0-9a-f]{16})' b='([0-9a-f]{16})'", script, re.MULTILINE)
    assert halves, "the script holds no nonce, or is not filled for a boot"
    return halves[1] + halves[2], ("boot", *re.findall(r"^step \d+ ([a-z0-9-]+)(?: \S+)? <<'", script, re.MULTILINE))


def _is_kept(script: str) -> bool:
    return re.search(r" keep='1'", script) is not None


def marker(nonce: str, body: str) -> str:
    """Return a line of the console that carries a marker, without its end."""
    return f"[   17.123456] bakehouse[412]: {nonce} {body} ;"


def _text(lines: list[str], end: str) -> str:
    return "".join(line + end for line in lines)
