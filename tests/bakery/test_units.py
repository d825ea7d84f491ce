"""The units of a machine, as systemd orders them: without cycles, also where the socket of SSH listens."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machine_code import TEMPLATES

BASE = TEMPLATES / "base/root/usr/lib/systemd/system"
SSH_SOCKET = "[Unit]\nBefore=sockets.target\n[Socket]\nListenStream=22\nAccept=no\n[Install]\nWantedBy=sockets.target\n"
"""As Debian's openssh-server has it (12 and 13)."""
SSH_SERVICE = "[Unit]\nAfter=network.target\n[Service]\nExecStart=/bin/true\nType=notify\n[Install]\nWantedBy=multi-user.target\n"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Put the units of an image into a folder, enabled; return it. Programs that do not exist here are replaced."""
    for name, source in {
        "bakehouse-identity.service": TEMPLATES / "machine/identity.service.j2",
        "bakehouse-front.service": TEMPLATES / "machine/front.service.j2",
        "jupyter.service": TEMPLATES / "machine/jupyter.service.j2",
        **{path.name: path for path in BASE.glob("bakehouse-*.service")},
    }.items():
        lines = source.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("Exec", "User=", "SupplementaryGroups="))]
        at = kept.index("[Service]") + 1
        (tmp_path / name).write_text("\n".join([*kept[:at], "ExecStart=/bin/true", *kept[at:]]) + "\n")
        wanted = next(line.partition("=")[2] for line in lines if line.startswith("WantedBy="))
        enable(tmp_path, name, wanted)
    (tmp_path / "ssh.socket").write_text(SSH_SOCKET)
    (tmp_path / "ssh.service").write_text(SSH_SERVICE)
    enable(tmp_path, "ssh.service", "multi-user.target")
    return tmp_path


def enable(folder: Path, unit: str, target: str) -> None:
    (folder / f"{target}.wants").mkdir(exist_ok=True)
    (folder / f"{target}.wants" / unit).symlink_to(folder / unit)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("has_socket", [True, False])
def test_there_is_no_ordering_cycle(units: Path, has_socket: bool) -> None:
    if has_socket:
        enable(units, "ssh.socket", "sockets.target")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "multi-user.target"],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:/usr/lib/systemd/system:/lib/systemd/system"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "cycle" not in done.stderr, done.stderr
