"""What a guest does with a script, as far as anybody outside can see: console, log, files, and whether it stays on.

The nonce and the steps are read from the script itself, which must hold what templates/script.sh.j2 writes. What a bake's
steps leave on the disk is a function of the steps that were run, in their order: a disk that was reused wrongly tells so.
"""

from __future__ import annotations

import hashlib
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
    disk: Mapping[str, bytes]
    is_on: bool
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """What a guest reads in a script: a bake's leaves the first `done` checkpoints to those who were there before."""

    nonce: str
    names: tuple[str, ...]
    is_bake: bool = False
    done: int = 0
    texts: tuple[str, ...] = ()


CONTENT = "/content.so"
"""The file that tells which steps have made a disk; its suffix keeps it out of the search for secrets, which takes a second."""
_DONE = "/var/lib/bakehouse/done/"


OK = Guest()


def fails_at(step: str, *, line: int = 1, exit_status: int = 1, log: tuple[str, ...] = ()) -> Guest:
    """Fail in a step as a command with this exit status would, tell so, and power off."""
    return Guest("fails", step, line, exit_status, log)


def fails_test(name: str) -> Guest:
    """Fail one of the recipe's tests."""
    return fails_at(name, log=(f"AssertionError in {name}",))


def skips_test(name: str) -> Guest:
    """Skip one of the recipe's tests."""
    return Guest("skips", name)


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


def play(
    guest: Guest,
    *,
    name: str,
    script: str,
    facts: Mapping[str, str],
    disk: Mapping[str, bytes] | None = None,
    archive: int = 1,
    waits: bool = False,
) -> Played:
    """Return what becomes of a boot with this script and these facts, on this disk, and with packages as `archive` has them.

    Where a guest `waits`, the script of a bake ends at each checkpoint that it reaches, but the last.
    """
    console = [
        "[    0.000000] Linux version 6.12.0-fake (debian-kernel@lists.debian.org)",
        f"[    1.5] systemd[1]: Hostname set to <{name}>.",
    ]
    if nonce := facts.get("NONCE"):
        console += [marker(nonce, f"fact host-key {HOST_KEY}"), marker(nonce, "fact ready identity")]
        if facts.get("HTTPS_PORT"):
            console.append(report_of_tls(nonce))
    played = run(guest, script, dict(disk or {}), archive=archive, waits=waits, boots=True)
    return replace(played, console=_text(console, "\r\n") + played.console, disk={**played.disk, **guest.leaves})


def report_of_tls(nonce: str) -> str:
    """Return the line with which a machine reports its certificate."""
    return marker(nonce, f"fact certificate {fake_services.certificate().fingerprint}")


def run(guest: Guest, script: str, disk: dict[str, bytes], *, archive: int, waits: bool, boots: bool = False) -> Played:
    """Return what becomes of a script, at a boot or in a guest that has waited for it."""
    if not script:
        return _end(guest, script, [], [], disk, ended=guest.ending != "ok")
    read, console, log = read_script(script), [], []
    is_fresh = read.done == 0 and not any(path.startswith(_DONE) for path in disk)
    for seq, name in enumerate(read.names, 1):
        where = f"checkpoint {seq}/{len(read.names)} {name}"
        is_new = is_fresh if seq == 1 else not (read.is_bake and (seq <= read.done or f"{_DONE}{seq:02}-{name}" in disk))
        log += [f"=== {seq:02} {name}", f"output of {name}"] if is_new else []
        if guest.ending not in ("ok", "skips") and name == (guest.at or read.names[0]) and (is_new or (boots and seq == 1)):
            if guest.ending == "fails":
                log += guest.log
                console += [marker(read.nonce, f"log {line}") for line in guest.log]
                console.append(marker(read.nonce, f"{where} failed line={guest.line} exit={guest.exit_status}"))
            return _end(guest, script, console, log, disk, ended=True)
        if is_new and read.is_bake and seq > 1:
            _write(disk, read, seq, archive)
        how = "skipped no GPU here" if guest.ending == "skips" and name == guest.at else "ok"
        console.append(marker(read.nonce, f"{where} {how}"))
        if is_new and waits and read.is_bake and seq < len(read.names):
            return replace(_end(guest, script, console, log, disk, ended=False), waits=True)
    return _end(guest, script, [*console, console[-1]], log, disk, ended=False)


def _write(disk: dict[str, bytes], script: Script, seq: int, archive: int) -> None:
    """Leave on the disk what a step of a bake does; the last one seals it."""
    name, text = script.names[seq - 1], script.texts[seq - 2]
    if seq < len(script.names):
        disk[f"{_DONE}{seq:02}-{name}"] = b""
        disk[CONTENT] = disk.get(CONTENT, b"") + f"{content_of(name, text, archive)}\n".encode()
    else:
        for path in [path for path in disk if path.startswith(_DONE)]:
            del disk[path]


def content_of(name: str, text: str, archive: int) -> str:
    """Return what a step leaves: packages are those of the day, and what `prepare` needs is in the base."""
    packages = f" with packages {archive}" if text.startswith("apt_install") else ""
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:12]}{packages}"


def _end(guest: Guest, script: str, console: list[str], log: list[str], disk: dict[str, bytes], *, ended: bool) -> Played:
    if guest.ending == "panics" and ended:
        console = [*console, "[   17.2] Kernel panic - not syncing: Fatal exception in interrupt"]
    is_on = not ended or guest.ending in ("silent", "panics") or (guest.ending == "fails" and _is_kept(script))
    return Played(_text(console, "\r\n"), _text(log, "\n"), disk, is_on)


def read_script(script: str) -> Script:
    """Return what a script holds."""
    halves = re.search(r"^a='([0-9a-f]{16})' b='([0-9a-f]{16})'", script, re.MULTILINE)
    assert halves, "the script holds no nonce, or is not filled for a boot"
    names = ("boot", *re.findall(r"^step \d+ ([a-z0-9-]+)(?: \S+)? <<'", script, re.MULTILINE))
    done = re.search(r"^a='.* reached='(\d+)'$", script, re.MULTILINE)
    texts = [text for _, text in _TEXT.findall(script)] if done else []
    return Script(halves[1] + halves[2], names, is_bake=done is not None, done=int(done[1]) if done else 0, texts=tuple(texts))


@dataclass(frozen=True, slots=True)
class Receiver:
    """What a guest reads in a script that receives another."""

    nonce: str
    names: tuple[str, ...]

    def run(self, files: Mapping[str, bytes]) -> str:
        """Return the script among what was received, which must be all that it needs."""
        script = files["script"].decode()
        needed = {f"{digest}.tar" for digest in re.findall(r"^unpack ([0-9a-f]{64})$", script, re.MULTILINE)}
        assert set(self.names) == set(files)
        assert needed >= set(files) - {"script"}
        return script


def read_receiver(script: str) -> Receiver | None:
    """Return what a script holds that receives another (templates/receive.sh.j2), or None: it is not one."""
    halves = re.search(r"^a='([0-9a-f]{16})' b='([0-9a-f]{16})'", script, re.MULTILINE)
    names = re.search(r"^files=\((.*) \)$", script, re.MULTILINE)
    return Receiver(halves[1] + halves[2], tuple(names[1].split())) if halves and names else None


_TEXT = re.compile(r"^step \d+ [a-z0-9-]+(?: \S+)? <<'(END_[0-9a-f]{12})'\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def _is_kept(script: str) -> bool:
    return re.search(r" keep='1'", script) is not None


def marker(nonce: str, body: str) -> str:
    """Return a line of the console that carries a marker, without its end."""
    return f"[   17.123456] bakehouse[412]: {nonce} {body} ;"


def _text(lines: list[str], end: str) -> str:
    return "".join(line + end for line in lines)
