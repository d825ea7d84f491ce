"""User data: its form, its limit, and what a guest makes of it."""

from __future__ import annotations

import base64
import gzip
import os
import secrets
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.aws import user_data
from clouds.errors import InvalidError
from tests.servers.ec2.metadata import MetadataServer

TEMPLATE = Path(__file__).parents[3] / "templates/clouds/aws.sh.j2"
FACTS = {"MACHINE": "mine", "PASSWORD_HASH": "argon2:$x$y z", "QUOTED": "it's"}
keys, values = st.text("ABC_", min_size=1), st.text(st.characters(exclude_categories=["C", "Z"]))


@given(st.dictionaries(keys, values), st.text(st.characters(exclude_categories=["C"])))
def test_what_is_told_is_read_back(facts: dict[str, str], line: str) -> None:
    data = user_data.build(facts, f"#!/bin/bash\n#fact A=b\n{line}\n")
    assert user_data.facts_of(data) == facts
    assert user_data.script_of(data) == f"#!/bin/bash\n#fact A=b\n{line}\n"


def test_new_facts_are_laid_over_the_old_ones_and_the_script_stays() -> None:
    data = user_data.with_facts(user_data.build(FACTS, "true\n"), {"MACHINE": "other", "NEW": "1"})
    assert user_data.facts_of(data) == {**FACTS, "MACHINE": "other", "NEW": "1"}
    assert user_data.script_of(data) == "true\n"


def test_user_data_of_somebody_else_have_no_facts() -> None:
    assert user_data.facts_of(b"#!/bin/sh\necho\n") == {}
    assert user_data.facts_of(b"") == {}


def test_the_same_order_is_the_same_bytes() -> None:
    assert user_data.build(FACTS, "true\n") == user_data.build(FACTS, "true\n")


def test_the_limit_holds_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(user_data.build(FACTS, "true\n"))
    monkeypatch.setattr(user_data, "LIMIT_BYTES", size)
    user_data.build(FACTS, "true\n")
    monkeypatch.setattr(user_data, "LIMIT_BYTES", size - 1)
    with pytest.raises(InvalidError, match=f"takes {size} bytes, compressed; EC2 passes {size - 1} bytes"):
        user_data.build(FACTS, "true\n")


def test_the_largest_script_fits_with_the_facts_of_a_test_machine() -> None:
    name, recipe = "test-k7m2px9a", "a" + random_text(39)
    about = f"Machine {name} of Bakehouse: recipe {recipe}, version 10.10.10-1000. On your computer, open its notebook"
    facts = {
        "MACHINE": name,
        "NONCE": secrets.token_hex(16),
        "AUTHORIZED_KEY": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{random_text(43)} bakehouse",
        "PASSWORD_HASH": f"argon2:$argon2id$v=19$m=10240,t=10,p=8${random_text(22)}${random_text(43)}",
        "EXPIRES": "1790000000",
        "ABOUT": f"{about} (./inv open {name}) or run its tests (./inv check-machine {name}).",
        "HTTPS_PORT": "8443",
        "HTTPS_ADDRESS": name,
    }
    script = random_text(user_data.SCRIPT_BYTES * 4 // 3)
    while len(gzip.compress(script.encode())) > user_data.SCRIPT_BYTES:
        script = script[:-32]
    assert len(gzip.compress(script.encode())) > user_data.SCRIPT_BYTES - 64
    assert len(user_data.build(facts, script)) <= user_data.LIMIT_BYTES


def random_text(length: int) -> str:
    """Return text that cannot be compressed, other than as base64."""
    return base64.b64encode(secrets.token_bytes(length)).decode()[:length]


def guest_reads(tmp_path: Path, served: dict[str, str], *, vendor: str = "Amazon EC2") -> str | None:
    """Return the facts that the guest's program writes, None for no file."""
    folder = tmp_path / "run"
    (tmp_path / "vendor").write_text(f"{vendor}\n")
    with MetadataServer({"option/http-tokens": "required", **served}) as server:
        text = TEMPLATE.read_text(encoding="utf-8").partition("<<'FILE'\n")[2].partition("FILE\n")[0]
        text = text.replace("169.254.169.254", f"127.0.0.1:{server.port}").replace("/run/bakehouse", str(folder))
        text = text.replace("/sys/class/dmi/id/sys_vendor", str(tmp_path / "vendor"))
        subprocess.run(["bash"], input=text, text=True, check=True, timeout=30)
    facts = folder / "facts"
    assert sorted(path.name for path in folder.glob("*")) == (["facts"] if facts.exists() else [])
    return facts.read_text(encoding="utf-8") if facts.exists() else None


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_guest_finds_its_facts(tmp_path: Path, is_packed: bool) -> None:
    data = user_data.build(FACTS, "#!/bin/bash\n#fact X=y\n" + "true\n" * 100_000)
    served = {"user-data": _base64(data if is_packed else gzip.decompress(data))}
    assert guest_reads(tmp_path, served) == "MACHINE=mine\nPASSWORD_HASH='argon2:$x$y z'\nQUOTED='it'\"'\"'s'\n"


def test_a_guest_that_is_told_nothing_has_no_facts(tmp_path: Path) -> None:
    assert guest_reads(tmp_path, {"user-data": ""}) is None
    assert guest_reads(tmp_path, {"user-data": _base64(user_data.build({}, "true\n"))}) is None


def test_a_guest_elsewhere_asks_for_nothing(tmp_path: Path) -> None:
    served = {"user-data": _base64(user_data.build(FACTS, "true\n"))}
    assert guest_reads(tmp_path, served, vendor="QEMU") is None


def test_a_guest_starts_its_script_when_cloud_init_has_ended(tmp_path: Path) -> None:
    script = "#!/bin/bash\nprintf '%s\\n' \"$HOME\" 'it'\\''s' `x` \\\\ <<'END'\nEND\n"
    text = gzip.decompress(user_data.build(FACTS, script)).decode().replace("/run/bakehouse", str(tmp_path / "run"))
    program = tmp_path / "bin/systemd-run"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >{tmp_path}/asked\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    subprocess.run(["bash"], input=text, text=True, check=True, timeout=30, env={"PATH": path})
    assert (tmp_path / "run/script").read_text() == script
    assert (tmp_path / "run/script").stat().st_mode & 0o777 == 0o600
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-2:] == ["bash", f"{tmp_path}/run/script"]
    assert "--property=After=cloud-final.service" in asked


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()
