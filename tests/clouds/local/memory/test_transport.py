"""How the memory of a machine is passed to a QEMU of each version; a server stands for QEMU and answers as that version does.

Real saves and loads, with the QEMU that is installed, are in tests/contract/test_memory.py and tests/vm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clouds.errors import RestoreError
from clouds.local.memory import transport
from clouds.local.vm import qemu
from tests.clouds.local.vm.test_sockets import Answer, greeting, serving

FDSET = 7
# https://github.com/qemu/qemu/commit/f1fcc1c101 (11.0), and 72a8192e22 for what 8.2 and later say of an unknown protocol
REFUSES_FILES = "fd: migration to a file is not supported. Use file: instead."
UNKNOWN = "unknown migration protocol: {}"
# https://github.com/qemu/qemu/blob/v7.2.0/migration/migration.c
INVALID = "Parameter 'uri' expects a valid migration protocol"
VERSIONS = [(7, 0), (7, 2), (8, 0), (8, 1), (8, 2), (9, 1), (10, 0), (11, 0), (11, 1)]


def qemu_of(version: tuple[int, int]) -> Answer:
    """Return a QEMU of a version, which saves its memory or waits for one, and refuses what that version refuses."""
    state = {"query-status": "inmigrate", "query-migrate": "none"}

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        command = message["execute"]
        if command in ("migrate", "migrate-incoming"):
            uri = message["arguments"]["uri"]
            if words := refusal(command, uri):
                state["query-migrate"] = "failed"
                is_silent = version == (8, 1) and command == "migrate"
                return {"return": {}} if is_silent else {"error": {"desc": words}}
            state.update({"query-migrate": "completed", "query-status": "paused"})
        if command == "qom-get":
            return {"return": "pc-q35-7.2-machine"}
        if command == "add-fd":
            return {"return": {"fdset-id": FDSET, "fd": 99}}
        return {"return": {"status": state[command]} if command in state else {}}

    def refusal(command: str, uri: str) -> str:
        if uri.startswith("fd:"):
            return REFUSES_FILES if version >= (11, 0) else ""
        if uri == f"file:/dev/fdset/{FDSET}" and version >= (8, 2):
            return ""
        return INVALID if version < (8, 1) and command == "migrate" else UNKNOWN.format(uri)

    return answer


@pytest.mark.parametrize("version", VERSIONS)
def test_memory_is_saved_by_every_version(version: tuple[int, int], tmp_path: Path) -> None:
    with serving(tmp_path, qemu.QMP, qemu_of(version), greeting=greeting(*version)) as asked:
        assert transport.save(tmp_path, tmp_path) == "pc-q35-7.2"
    given = [message["execute"] for message in asked if message["execute"] in ("getfd", "add-fd", "remove-fd")]
    assert given == (["getfd"] if version < (8, 2) else ["add-fd", "remove-fd"])
    assert (tmp_path / transport.STATE).stat().st_mode & 0o777 == 0o600


def test_machine_is_saved_once_qemu_accepts_cont(tmp_path: Path) -> None:
    """QEMU reports `completed` a moment before its run state changes, and rejects `cont` until then."""
    states = iter(["finish-migrate", "finish-migrate", "postmigrate"])
    usual = qemu_of((7, 2))

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        return {"return": {"status": next(states)}} if message["execute"] == "query-status" else usual(message)

    with serving(tmp_path, qemu.QMP, answer, greeting=greeting(7, 2)):
        transport.save(tmp_path, tmp_path)
    assert list(states) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_memory_is_loaded_by_every_version(version: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / transport.STATE).touch()
    with serving(tmp_path, qemu.QMP, qemu_of(version), greeting=greeting(*version)):
        transport.load(tmp_path, tmp_path)


def test_refusal_of_a_load_is_reported_with_its_words(tmp_path: Path) -> None:
    (tmp_path / transport.STATE).touch()
    with serving(tmp_path, qemu.QMP, qemu_of((11, 0)), greeting=greeting(8, 0)), pytest.raises(RestoreError, match="Use file:"):
        transport.load(tmp_path, tmp_path)
