"""Machines behind a test server that are real: QEMU, on disks of their own, with a metadata server and serial ports.

What differs from the clouds: the kernel is started directly; disks are virtio, EC2's are NVMe; a suspended machine is paused, not
written out; the address of a machine is one of the loopback network (127.x.y.z), at which only those ports answer that the firewall
opens to this computer.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from clouds.local.base.esp import boot_arguments, take_boot_files
from clouds.local.vm.accelerator import Accelerator
from clouds.local.vm.sockets import qmp
from tests.servers.ec2.metadata import MetadataServer as AmazonMetadata
from tests.servers.metadata import MetadataServer as GoogleMetadata
from tests.servers.vm import RING_BYTES, Done, Host, Ring, Vm, VmError

PORTS = (22, 80, 443, 8080, 8443, 8888)
"""The ports at which somebody may listen in our machines; others are never opened."""
CALLER = "127.0.0.1"
_LOOK_S = 0.3
_STOP_S = 180.0
_MEMORY_MB_MAX = 4096
_RELAY = Path(__file__).with_name("relay.py")


class Metadata(Protocol):
    """A metadata server of one machine, on a port of the loopback address."""

    port: int

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Platform:
    """How a guest recognizes its cloud: the vendor in its firmware, and the metadata server."""

    smbios: Callable[[Vm], str]
    metadata: Callable[[Vm], Metadata]


def amazon_uuid(vm: Vm) -> str:
    """Return the system's UUID, which starts with ec2 and is also its serial number.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
    """
    return "ec2" + str(uuid.uuid5(uuid.NAMESPACE_OID, vm.id))[3:]


GOOGLE = Platform(lambda vm: "manufacturer=Google,product=Google Compute Engine", GoogleMetadata)
AMAZON = Platform(
    lambda vm: f"manufacturer=Amazon EC2,product=t3.small,uuid={amazon_uuid(vm)},serial={amazon_uuid(vm)}",
    lambda vm: AmazonMetadata(vm.metadata),
)


class SerialFile(Ring):
    """The output of a serial port that QEMU writes into a file: its last MiB."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def end(self) -> int:  # type: ignore[override]
        return self._path.stat().st_size if self._path.exists() else 0

    @property
    def start(self) -> int:
        return max(0, self.end - RING_BYTES)

    def read(self, since: int) -> tuple[int, bytes]:
        end = self.end
        start = max(self.start, min(end, end + since if since < 0 else since))
        if not self._path.exists():
            return start, b""
        with self._path.open("rb") as file:
            file.seek(start)
            return start, file.read(end - start)


@dataclass(slots=True)
class Running:
    """A machine that is on."""

    vm: Vm
    folder: Path
    process: subprocess.Popen[bytes]
    metadata: Metadata
    open_ports: set[int] = field(default_factory=set)


class QemuVms:
    """Real machines; `base` is the disk behind every image that was not made here."""

    def __init__(self, folder: Path, base: Path, accelerator: Accelerator, platform: Platform) -> None:
        self._folder, self._base, self._accelerator, self._platform = folder, base, accelerator, platform
        self._host: Host | None = None
        self._running: dict[str, Running] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def bind(self, host: Host) -> None:
        self._host = host

    # Disks and images: one overlay each, read-only once it is an image

    def create_disk(self, disk_id: str, size_gb: int, image_id: str) -> Done:
        image = self.image_disk(image_id)
        source = image if image.exists() else self._base
        argv = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-b",
            str(source),
            str(self._disk(disk_id)),
            f"{size_gb}G",
        ]
        _run(argv)
        return _at_once

    def delete_disk(self, disk_id: str) -> None:
        self._disk(disk_id).unlink(missing_ok=True)

    def copy_disk(self, disk_id: str, image_id: str) -> Done:
        target = self.image_disk(image_id)
        return _in_background(lambda: shutil.copyfile(self._disk(disk_id), target).chmod(0o444))

    def delete_image(self, image_id: str) -> None:
        """Keep the file: machines may overlay it, as none does on a cloud."""

    # Power

    def start(self, vm: Vm) -> Done:
        folder = self._machine(vm.id)
        folder.mkdir(exist_ok=True)
        take_boot_files(self._disk(vm.drives[0].id), folder)
        (folder / "console.log").write_bytes(b"")
        metadata = self._platform.metadata(vm)
        with (folder / "qemu.log").open("wb") as log:
            argv = self._arguments(vm, folder, metadata.port)
            process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[vm.id] = Running(vm, folder, process, metadata)
        return _at_once

    def stop(self, vm_id: str) -> Done:
        machine = self._running.pop(vm_id, None)
        if machine is None:
            return _at_once
        with suppress(OSError):
            qmp(machine.folder, "system_powerdown")
        return _in_background(lambda: _end(machine, patience_s=_STOP_S))

    def suspend(self, vm_id: str) -> Done:
        qmp(self._running[vm_id].folder, "stop")
        return _at_once

    def resume(self, vm_id: str) -> Done:
        qmp(self._running[vm_id].folder, "cont")
        return _at_once

    def reset(self, vm_id: str) -> Done:
        qmp(self._running[vm_id].folder, "system_reset")
        return _at_once

    def delete(self, vm_id: str) -> Done:
        if machine := self._running.pop(vm_id, None):
            _end(machine, patience_s=0)
        shutil.rmtree(self._machine(vm_id), ignore_errors=True)
        return _at_once

    def serial(self, vm_id: str, port: int) -> Ring:
        return SerialFile(self._machine(vm_id) / ("console.log" if port == 1 else f"serial-{port}"))

    def close(self) -> None:
        self._closed.set()
        for vm_id in list(self._running):
            self.delete(vm_id)

    # How it is made

    def _arguments(self, vm: Vm, folder: Path, metadata_port: int) -> list[str]:
        boot = boot_arguments(folder)
        initrd = ["-initrd", boot["initrd"]] if "initrd" in boot else []
        guest = "net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15"
        forward = f"guestfwd=tcp:169.254.169.254:80-cmd:{shlex.join([sys.executable, str(_RELAY), str(metadata_port)])}"
        drive = f"if=none,id=root,file={self._disk(vm.drives[0].id)},format=qcow2,cache=unsafe,discard=unmap,detect-zeroes=unmap"
        return [
            *("qemu-system-x86_64", "-name", vm.name, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35,sata=off,smbus=off,usb=off,vmport=off,i8042=off,hpet=off", *self._accelerator.arguments),
            *("-smp", str(min(vm.cpus, os.cpu_count() or 1)), "-m", str(min(vm.memory_mb, _MEMORY_MB_MAX))),
            *("-smbios", f"type=1,{self._platform.smbios(vm)}"),
            *("-kernel", boot["vmlinuz"], *initrd, "-append", f"{boot['cmdline']} {self._accelerator.cmdline}".rstrip()),
            *("-drive", drive, "-device", "virtio-blk-pci,drive=root,serial=root"),
            *("-netdev", f"user,id=net,ipv6=off,{guest},{forward}", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci", "-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
            *("-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off", "-mon", "chardev=qmp,mode=control"),
        ]

    def _watch(self) -> None:
        """Tell of guests that have gone off, and open and shut ports as the firewall says now."""
        while not self._closed.wait(_LOOK_S):
            for vm_id, machine in list(self._running.items()):
                if machine.process.poll() is not None and self._running.pop(vm_id, None):
                    machine.metadata.close()
                    assert self._host
                    self._host.ended(vm_id)
                elif machine.vm.address:
                    with suppress(OSError):
                        self._forward(machine)

    def _forward(self, machine: Running) -> None:
        assert self._host
        wanted = {port for port in PORTS if self._host.is_open(machine.vm.id, port, CALLER)}
        for port in wanted ^ machine.open_ports:
            where = f"net tcp:{machine.vm.address}:{port}"
            command = f"hostfwd_add {where}-:{port}" if port in wanted else f"hostfwd_remove {where}"
            qmp(machine.folder, "human-monitor-command", {"command-line": command})
            machine.open_ports ^= {port}

    def _disk(self, disk_id: str) -> Path:
        return self._folder / f"disk-{_file_name(disk_id)}.qcow2"

    def image_disk(self, image_id: str) -> Path:
        """Return the file that holds an image."""
        return self._folder / f"image-{_file_name(image_id)}.qcow2"

    def _machine(self, vm_id: str) -> Path:
        return self._folder / f"vm-{_file_name(vm_id)}"


def _end(machine: Running, *, patience_s: float) -> None:
    """Wait for a guest to go off, and pull the plug when it does not."""
    deadline = time.monotonic() + patience_s
    while machine.process.poll() is None and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    machine.process.kill()
    machine.process.wait()
    machine.metadata.close()


def _file_name(thing_id: str) -> str:
    return thing_id.removeprefix("projects/").replace("/", "_")


def _at_once() -> bool:
    return True


def _in_background(work: Callable[[], object]) -> Done:
    """Begin something slow and return what says whether it has ended; raises what it raised."""
    failed: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def done() -> bool:
        if failed:
            raise VmError(str(failed[0])) from failed[0]
        return not thread.is_alive()

    return done


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VmError(done.stderr)
