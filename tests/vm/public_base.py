"""What the clouds with real machines behind them share: the disk that stands for a public image, and the port of SSH."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import Base
from clouds.local.base.build import build
from clouds.local.base.definition import Definition, define
from clouds.local.base.host_environment import build_files, host_settings

SSH_PORT = 22
_HERE = Path(__file__).parent
_MIRRORS = "root/usr/share/mirrors/build"


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


def make_base(disk: Path, *, packages: Sequence[str], script: str) -> Path:
    """Build the disk of a cloud's public image: a base of the local cloud with more packages and another customize script.

    `packages` are Debian's, `script` is the name of the cloud's part of the customize script beside this file.
    """
    scratch = disk.with_suffix(".scratch")
    scratch.mkdir()
    templates = disk.with_suffix(".templates")
    build(extend(define(Base("trixie", "amd64")), templates, packages=packages, script=script), scratch, print)
    (scratch / "disk.qcow2").rename(disk)
    for folder in (scratch, templates):
        shutil.rmtree(folder)
    return disk


def extend(base: Definition, templates: Path, *, packages: Sequence[str], script: str) -> Definition:
    """Return the definition of a public image, whose templates are those of the base and more, in a new folder (0700)."""
    templates.mkdir(mode=0o700)
    shutil.copytree(base.templates, templates, dirs_exist_ok=True)
    named = base.templates / "packages"
    (templates / "packages").write_text("\n".join((named.read_text(encoding="utf-8"), "acpid", *packages, "")), encoding="utf-8")
    parts = (base.templates / "customize", _HERE / "public-base.sh", _HERE / script)
    (templates / "customize").write_text("\n".join(part.read_text(encoding="utf-8") for part in parts), encoding="utf-8")
    (templates / _MIRRORS).mkdir(parents=True)
    for name, content in build_files(host_settings()).items():
        (templates / _MIRRORS / name).write_bytes(content)
    return replace(base, templates=templates)
