"""The files of a running machine, read over SSH: the scripts of templates/inside run here, on a folder of the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bakery.proof.live_disk import MachineFiles
from clouds.errors import CloudError
from tests.fake_remote import RemoteCloud
from tests.planted_secrets import planted_secrets

KEY = planted_secrets()["TLS key"][1]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture
def machine(remote: RemoteCloud, far_ssh: Path, disk: Path, tmp_path: Path) -> MachineFiles:
    """Give a machine whose only files are those in `disk`."""
    program(far_ssh / "sudo", 'shift\nexec "$@"')
    program(far_ssh / "find", f"exec /usr/bin/find '{disk}' -type f -printf '%s %p\\0'")
    return MachineFiles(remote, "one", tmp_path / "config")


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_files_arrive_as_they_are_whatever_their_names(machine: MachineFiles, disk: Path) -> None:
    contents = {"a b": b"1", "new\nline": b"\0\xff", "$(id)": b"", os.fsdecode(b"\xff"): KEY}
    for name, content in contents.items():
        (disk / name).write_bytes(content)
    assert machine.list() == {f"{disk}/{name}": len(content) for name, content in contents.items()}
    assert machine.read([*machine.list(), "/nosuch"]) == {f"{disk}/{name}": content for name, content in contents.items()}
    assert machine.read([f"{disk}/a b"], limit_bytes=0) == {f"{disk}/a b": b""}


def test_an_archive_that_was_cut_short_is_an_error(machine: MachineFiles, far_ssh: Path, disk: Path) -> None:
    (disk / "server.key").write_bytes(KEY)
    machine.list()
    program(far_ssh / "gzip", "head --bytes=40")
    with pytest.raises(CloudError, match="cannot read the files of machine 'one'"):
        machine.read(machine.list())
