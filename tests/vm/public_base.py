"""What the clouds with real machines behind them share: the disk that stands for a public image, and the port of SSH."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from clouds import names
from clouds.driver import Base, BootSpec, Kind
from clouds.lifecycle import is_running, settle
from clouds.local.driver import LocalCloud
from clouds.local.vm.qemu import DISK
from clouds.waiter import until

SSH_PORT = 22
_MAKE_S = 120


def check_ssh_port() -> None:
    """Fail with what to do where this user may not listen on port 22, as the machines behind the server do on 127.x.y.z."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.255.255.254", SSH_PORT))
        except PermissionError:
            pytest.fail(
                "this user may not listen on port 22 of loopback addresses, as the machines of these tests do:"
                f" run the tests as root, or run: sudo sysctl net.ipv4.ip_unprivileged_port_start={SSH_PORT}"
            )
        except OSError:
            pass  # something listens on port 22 of all addresses; the test that needs the port reports it


def make_base(local: LocalCloud, store: Path, disk: Path, *, script: str) -> Path:
    """Make the disk that stands for a cloud's public image out of a base of the local cloud."""
    base = local.resolve_base(Base("trixie", "amd64"))
    spec = BootSpec(
        name=names.new_machine_name("base"),
        token=names.new_nonce(),
        source=base.id,
        cpus=2,
        memory_mb=1024,
        disk_gb=4,
        labels={"role": "test"},
        deadline_s=int(10 * _MAKE_S * local.slowness),
        script=Path(__file__).with_name(script).read_text(encoding="utf-8"),
        build_settings=True,
    )
    settle(local, local.boot(spec))
    try:
        until(lambda: not is_running(local, spec.name), what="making of the base", timeout_s=_MAKE_S * local.slowness, poll_s=0.5)
        made = store / "local/machines" / spec.name / DISK
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(made), str(disk)], check=True)
    finally:
        settle(local, local.delete(Kind.MACHINE, spec.name))
    disk.chmod(0o444)
    return disk
