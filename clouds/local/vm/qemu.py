"""QEMU's command line for a machine, and the process that runs it.

All paths are relative to the machine's folder, in which QEMU runs: a socket's path is limited to 107 bytes, and a store can be
moved. Input for the guest is passed in files, so that it is not visible in the process list.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clouds.client import process_start
from clouds.errors import CloudError, ConflictError
from clouds.local.host import files
from clouds.local.host.command import environment, failure, full_disk, missing
from clouds.local.host.programs import which
from clouds.local.vm.accelerator import PROGRAM as PROGRAM
from clouds.local.vm.accelerator import Accelerator
from clouds.local.vm.record import DISK as DISK
from clouds.local.vm.record import MachineRecord
from clouds.local.vm.scope import start_in_scope

if TYPE_CHECKING:
    import psutil

CONSOLE = "console.log"
STEPS = "steps.log"
QMP = "qmp.sock"
AGENT = "agent.sock"
ORDER = "order.sock"
NETWORK = "net"
DRIVE = "root"
RAM = "ram"
_LOG = "qemu.log"
_PROCESS = "process.json"
# Unused devices are off, since each costs the guest's kernel time to detect.
_OPTIONS = "sata=off,smbus=off,usb=off,vmport=off,i8042=off,hpet=off,memory-backend=ram"
# Not NVMe, although its driver is built into Debian's cloud kernel: QEMU cannot save the state of an NVMe device.
_DISK_DEVICE = f"virtio-blk-pci,drive={DRIVE},serial=root"
# A layer contains a builder's memory: its free pages must not contain what a step has used, such as a proxy's password.
# docs.kernel.org/admin-guide/kernel-parameters.html
_FORGETS = "init_on_free=1"
_KILL_AFTER_S = 10
_WATCHDOG = "timeout"
_WATCH = """
ends() { timeout "$1" tail --pid="$pid" -f /dev/null; }
pid=$2
ends "$1" && exit
kill "$pid"
ends "$3" || kill -KILL "$pid"
"""
"""Ends process $2 after $1 seconds, like `timeout --kill-after=$3`; exits when that process is gone (`tail --pid`)."""


def arguments(record: MachineRecord, accelerator: Accelerator, boot: Mapping[str, str]) -> list[str]:
    """Return QEMU's arguments. `boot`: the files vmlinuz and initrd, and the text of the cmdline.

    A machine restored from saved memory waits for it (-incoming defer), and its ports are not forwarded yet.
    """
    told = {"facts": bool(record.facts), "script": record.has_script, "build": record.has_build_settings}
    return [
        *("-name", record.name, "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", "on"),
        *(*accelerator.arguments, "-smp", str(record.cpus), *_memory(record)),
        *_boot(boot, accelerator.cmdline, *([_FORGETS] if record.has_build_settings else [])),
        *_disk(record.disk, cache="unsafe" if record.has_build_settings else "writeback"),
        *_network({} if record.memory else record.forwards, record.facts.get("MAC", "")),
        *devices(record.machine_type),
        *(word for name, there in told.items() if there for word in ("-fw_cfg", f"name=opt/bakehouse/{name},file={name}")),
        *(("-fw_cfg", "name=opt/bakehouse/await,string=1") if record.waits else ()),
        *(("-incoming", "defer") if record.memory else ()),
    ]


def devices(machine_type: str = "") -> list[str]:
    """Return the arguments that are the same for all machines; saved memory fits only if they have not changed.

    `machine_type` is that of saved memory, such as pc-q35-7.2; the default is the newest of this QEMU.
    """
    return [
        *("-machine", f"{machine_type or 'q35'},{_OPTIONS}", "-device", _DISK_DEVICE),
        *("-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto", "-device", "virtio-serial-pci"),
        *("-chardev", f"file,id=console,path={CONSOLE},append=on", "-serial", "chardev:console"),
        *("-chardev", f"file,id=steps,path={STEPS},append=on"),
        *("-device", "virtserialport,chardev=steps,name=org.bakehouse.log"),
        *("-chardev", f"socket,id=agent,path={AGENT},server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
        *("-chardev", f"socket,id=order,path={ORDER},server=on,wait=off"),
        *("-device", "virtserialport,chardev=order,name=org.bakehouse.order"),
        *("-chardev", f"socket,id=qmp,path={QMP},server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
    ]


def _memory(record: MachineRecord) -> list[str]:
    """Return the RAM arguments: anonymous; a shared file if the machine will be frozen; or a private mapping of such a file."""
    size = f"id=ram,size={record.memory_mb}M"
    backend = f"memory-backend-ram,{size}"
    if record.freezes:
        backend = f"memory-backend-file,{size},mem-path={RAM},share=on"
    elif record.maps_memory:
        backend = f"memory-backend-file,{size},mem-path={record.memory}/{RAM},share=off"
    return ["-m", str(record.memory_mb), "-object", backend]


def _boot(boot: Mapping[str, str], *cmdline: str) -> list[str]:
    words = " ".join(part for part in (boot["cmdline"], *cmdline) if part)
    return ["-kernel", boot["vmlinuz"], "-initrd", boot["initrd"], "-append", words]


def _disk(file: str, *, cache: str) -> list[str]:
    return ["-drive", f"if=none,id={DRIVE},file={file},format=qcow2,cache={cache},discard=unmap,detect-zeroes=unmap"]


def _network(forwards: Mapping[str, int], mac: str) -> list[str]:
    rules = "".join(f",hostfwd={forward(ours, int(guest))}" for guest, ours in forwards.items())
    address = f",mac={mac}" if mac else ""
    return ["-netdev", f"user,id={NETWORK},ipv6=off{rules}", "-device", f"virtio-net-pci,netdev={NETWORK},romfile={address}"]


def forward(ours: int, guest: int) -> str:
    """Return QEMU's forwarding rule from a port of this computer, on loopback only, to a port of the guest."""
    return f"tcp:127.0.0.1:{ours}-:{guest}"


def free_ports(wanted: Sequence[int]) -> list[int]:
    """Return a free loopback port for each one wanted: that port if it is free, otherwise any."""
    held = [_hold(port) for port in wanted]
    ports = [int(holder.getsockname()[1]) for holder in held]
    for holder in held:
        holder.close()
    return ports


def check_free(port: int) -> None:
    """Raise ConflictError if a machine cannot listen on this loopback port."""
    try:
        _bind(port).close()
    except PermissionError as error:
        raise ConflictError(
            f"port {port} of this computer can be opened by root only", next_step="Launch with another --port, such as 8443."
        ) from error
    except OSError as error:
        raise ConflictError(
            f"port {port} of this computer is in use",
            next_step="Stop the program or machine that uses it (ss -tlnp shows programs), or launch with another --port.",
        ) from error


def _hold(port: int) -> socket.socket:
    for candidate in (port, 0):
        with suppress(OSError):
            return _bind(candidate)
    raise ConflictError("no free port on this computer", next_step="Delete machines that you no longer need.")


def _bind(port: int) -> socket.socket:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does: closing connections do not occupy a port
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    return holder


def spawn(folder: Path, argv: Sequence[str], *, deadline_s: int, scope: Sequence[str] = ()) -> None:
    """Start QEMU in a machine's folder in a new session, which outlives this process; `timeout` ends it at the deadline.

    `scope`: the command that runs it in its own systemd scope (`scope_command`); if systemd refuses, it starts without one.
    """
    program = which(PROGRAM)
    if program is None:
        raise missing(PROGRAM)
    watchdog = [_WATCHDOG, f"--kill-after={_KILL_AFTER_S}", str(deadline_s)] if deadline_s else []
    command = [*watchdog, program, *argv]
    (folder / _PROCESS).unlink(missing_ok=True)
    (folder / _LOG).write_bytes(b"")
    process = start_in_scope(scope, command, folder, _LOG, environment()) if scope else None
    process = process or _start(folder, command)
    files.write_json(folder / _PROCESS, {"pid": process.pid, "start": process_start(process.pid)})


def _start(folder: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    with (folder / _LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment(),
        )


def renew_deadline(folder: Path, deadline_s: int) -> None:
    """Change the deadline of a running QEMU (0: none). A running `timeout` cannot be changed, so another watchdog replaces it."""
    found = [(pid, Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]) for pid in processes(folder)]
    running = [pid for pid, program in found if program != _WATCHDOG.encode()]
    if not running:
        return
    (pid,) = running
    files.write_json(folder / _PROCESS, {"pid": pid, "start": process_start(pid)})
    for watchdog in (watchdog for watchdog, _ in found if watchdog != pid):
        os.kill(watchdog, signal.SIGKILL)  # it would forward any other signal to QEMU
    if deadline_s:
        command = ["sh", "-c", _WATCH, "watchdog", str(deadline_s), str(pid), str(_KILL_AFTER_S)]
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        subprocess.Popen(command, cwd="/", start_new_session=True, env=environment(), **streams)


def is_alive(folder: Path) -> bool:
    """Return whether a machine's QEMU is running."""
    noted = files.read_json(folder / _PROCESS)
    start, pid = (noted or {}).get("start"), (noted or {}).get("pid")
    if start and isinstance(pid, int) and process_start(pid) == start:
        return True
    return bool(processes(folder))


def processes(folder: Path) -> list[int]:
    """Return the pids of QEMU and its watchdog in a machine's folder, recorded or not; none if the folder is gone."""
    try:
        ours = folder.stat()
    except FileNotFoundError:
        return []
    import psutil

    return [process.pid for process in psutil.process_iter() if _runs_in(process, ours)]


def _runs_in(process: psutil.Process, folder: os.stat_result) -> bool:
    import psutil

    try:
        cwd = Path(process.cwd()).stat()
        if (cwd.st_dev, cwd.st_ino) != (folder.st_dev, folder.st_ino) or not process_start(process.pid):
            return False
        return any(PROGRAM in word for word in process.cmdline())
    except (OSError, psutil.Error):
        return False


def kill(folder: Path) -> str:
    """Kill the processes of a machine; return them as `pid:start ...`, for `are_gone`."""
    found = [(pid, start) for pid in processes(folder) if (start := process_start(pid))]  # 0: already ended
    for pid, _ in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return " ".join(f"{pid}:{start}" for pid, start in found)


def are_gone(killed: str) -> bool:
    """Return whether all processes in the result of `kill` have ended."""
    pairs: Iterable[list[str]] = (word.split(":") for word in killed.split())
    return not any(process_start(int(pid)) == int(start) for pid, start in pairs)


def death(folder: Path) -> CloudError | None:
    """Return the error that QEMU printed before it exited, or None if the guest shut down normally."""
    log = folder / _LOG
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    harmless = (": warning:", "terminating on signal")
    words = [line for line in said.splitlines() if line.strip() and not any(mark in line for mark in harmless)]
    if not words:
        return None
    if any("host forwarding rule" in line for line in words):
        return ConflictError(words[-1], next_step="Another program took the port; try again.")
    if any("Cannot allocate memory" in line or "cannot set up guest memory" in line for line in words):
        return CloudError(f"QEMU: {words[-1]}", next_step="Use a machine with less memory (--memory-mb), or close other programs.")
    if any("requires kernel irqchip and X2APIC" in line for line in words):  # QEMU 7.2 without KVM starts 255
        return CloudError(f"QEMU: {words[-1]}", next_step="Use at most 255 processors (--cpus 255).")
    if any("No space left" in line for line in words):
        return full_disk(folder, words[-1])
    return failure("QEMU", "\n".join(words))
