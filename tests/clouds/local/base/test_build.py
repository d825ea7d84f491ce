"""What is checked before a base is built: nothing may be downloaded when rights or room are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.driver import Base
from clouds.errors import DeniedError, HostFullError
from clouds.local.base import build
from clouds.local.base.definition import Definition

DEFINITION = Definition(Base("trixie", "amd64"), Path("/gone/uv"))


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Simulate a user without root who may create namespaces; yield the output of the build."""
    monkeypatch.setattr(build, "is_root", lambda: False)
    monkeypatch.setattr(build, "check_namespaces", lambda: None)
    return []


def test_missing_rights_stop_a_build_before_it_begins(user: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise DeniedError("AppArmor", next_step="a command")

    monkeypatch.setattr(build, "check_namespaces", refused)
    with pytest.raises(DeniedError):
        build.build(DEFINITION, tmp_path, user.append)
    assert user == list(tmp_path.iterdir()) == []


def test_missing_room_for_the_tree_stops_a_build_before_it_begins(
    user: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr("clouds.local.base.room.TREE_BYTES", 2**60)
    with pytest.raises(HostFullError, match=r"/var/tmp: \d+ MB free, \d+ MB needed; /tmp: "):
        build.build(DEFINITION, tmp_path, user.append)
    assert user == list(tmp_path.iterdir()) == []


def test_missing_room_in_the_store_stops_a_build_before_it_begins(
    user: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_NEEDED_BYTES", 2**60)
    with pytest.raises(HostFullError, match=f"the disk that holds {tmp_path} is full"):
        build.build(DEFINITION, tmp_path, user.append)
    assert user == list(tmp_path.iterdir()) == []


def test_root_needs_no_other_folder(user: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clouds.local.base.room.TREE_BYTES", 2**60)
    monkeypatch.setattr(build, "is_root", lambda: True)
    assert build._prepare(tmp_path) is None
