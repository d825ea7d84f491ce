"""What drivers have looked up and keep on this computer: a damaged file costs a request, and no command."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clouds.aws.bases import Bases
from clouds.aws.client import Client
from clouds.aws.places import places
from clouds.driver import Base
from clouds.gcp.images import Images
from clouds.home import read_json

DAMAGED = [b"", b"{", b"[1]", b"\xff" * 99, b"[" * 100_000, b'{"debian-13": 3}', b'{"debian-13": {"version": 99}}']
TRIXIE = Base("trixie", "amd64")


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:12].decode(errors="replace"))
def test_damaged_record_of_a_base_is_looked_up_again(content: bytes, tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(what: str, *_: object, **__: object) -> SimpleNamespace:
        asked.append(what)
        return SimpleNamespace(name="debian-13-new", disk_size_gb=10)

    kept = tmp_path / "bases.json"
    kept.write_bytes(content)
    services = SimpleNamespace(images=SimpleNamespace(get_from_family=None))
    images = Images(cast(Any, SimpleNamespace(ask=ask, services=services)), "us-central1", kept)
    for _ in range(2):
        assert images.resolve(TRIXIE, refresh=False).id.endswith("/debian-13-new")
    assert len(asked) == 1


@pytest.mark.parametrize("content", DAMAGED[:5], ids=lambda content: content[:12].decode(errors="replace"))
def test_damaged_record_of_a_base_of_ec2_is_looked_up_again(content: bytes, tmp_path: Path) -> None:
    asked: list[str] = []

    def items(what: str, *_: object, **__: object) -> list[dict[str, Any]]:
        asked.append(what)
        disk = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}}
        found = {"ImageId": "ami-1", "CreationDate": "2026", "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [disk]}
        return [found]

    (tmp_path / "bases-us-east-1.json").write_bytes(content)
    where = places({"region": "us-east-1", "debian_owner": "136693071363", "ubuntu_owner": "099720109477"})
    for _ in range(2):
        bases = Bases(cast(Any, SimpleNamespace(items=items, region_name="us-east-1")), where, tmp_path)
        assert bases.resolve(TRIXIE, refresh=False).id == "ami-1"
    assert len(asked) == 1


def test_known_accounts_of_access_keys_are_read_where_they_can_be(tmp_path: Path) -> None:
    client = Client("us-east-1", "", tmp_path)
    (tmp_path / "accounts.json").write_text('{"AKIA": "123456789012", "ASIA": 3}')
    assert client._known_account("AKIA") == "123456789012"
    (tmp_path / "accounts.json").write_bytes(b"\xff")
    assert read_json(tmp_path / "accounts.json") is None
