"""How a guest gets its facts: the program of templates/clouds/gcp.sh.j2, run here, with a metadata server on loopback."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clouds.gcp.instances import FACTS, write_facts
from tests.machine_code import TEMPLATES
from tests.servers.metadata import MetadataServer
from tests.servers.vm import Vm

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
TOLD = {"MACHINE": "mine", "PASSWORD_HASH": "argon2:$argon2id$it's"}


def get_facts(
    folder: Path, metadata: dict[str, str], *, product: str = "Google Compute Engine"
) -> subprocess.CompletedProcess[str]:
    """Run the program as a machine with this metadata does; its files are in a folder."""
    text = (TEMPLATES / "clouds/gcp.sh.j2").read_text(encoding="utf-8")
    found = re.search(r"^cat >/usr/lib/bakehouse/facts <<'FILE'\n(.*?)^FILE$", text, re.MULTILINE | re.DOTALL)
    assert found
    (folder / "product_name").write_text(f"{product}\n")
    server = MetadataServer(
        Vm(id="1", name="mine", zone="us-central1-a", cpus=1, memory_mb=1024, metadata=metadata, labels={}, tags=(), drives=())
    )
    moved = {
        "/sys/class/dmi/id/": f"{folder}/",
        "/run/bakehouse": str(folder / "run"),
        "169.254.169.254": f"127.0.0.1:{server.port}",
    }
    program = found[1]
    for before, after in moved.items():
        assert before in program
        program = program.replace(before, after)
    try:
        return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False, timeout=60)
    finally:
        server.close()


def test_guest_keeps_its_facts_where_only_root_can_read_them(tmp_path: Path) -> None:
    assert get_facts(tmp_path, {FACTS: write_facts(TOLD)}).returncode == 0
    assert (tmp_path / "run/facts").read_text() == write_facts(TOLD)
    assert (tmp_path / "run/facts").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("metadata", "product"), [({}, "Google Compute Engine"), ({FACTS: "MACHINE=x\n"}, "Another")], ids=["no facts", "elsewhere"]
)
def test_guest_without_facts_boots_without_them(tmp_path: Path, metadata: dict[str, str], product: str) -> None:
    assert get_facts(tmp_path, metadata, product=product).returncode == 0
    assert not (tmp_path / "run/facts").exists()
