"""A machine as it is written down."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import BootSpec
from clouds.local.vm.record import is_broken, new_record, read_record, with_facts, write_facts, write_record

SPEC = BootSpec(
    name="one",
    token="t",
    source="base-1",
    cpus=1,
    memory_mb=512,
    disk_gb=4,
    labels={"a": "b"},
    deadline_s=60,
    facts={"MACHINE": "one", "NONCE": "first"},
    ports=(22,),
)


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = new_record(SPEC, created_at=1.5)
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None


def test_what_another_release_added_to_a_record_is_kept(tmp_path: Path) -> None:
    write_record(tmp_path, new_record(SPEC, created_at=1.5))
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gpu": "none", "others": 1}))
    record = read_record(tmp_path)
    assert record
    write_record(tmp_path, replace(record, cpus=7))
    assert json.loads(path.read_text()) | {"gpu": "none", "cpus": 7} == json.loads(path.read_text())


def test_what_the_record_of_another_release_lacks_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text('{"source": "base-1", "created_at": 3}')
    record = read_record(tmp_path)
    assert record
    assert (record.name, record.source, record.cpus, record.labels) == (tmp_path.name, "base-1", 1, {"project": "bakehouse"})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"labels": []}', '{"cpus": "2"}', "\udcff"])
def test_record_that_cannot_be_read_is_none_and_raises_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "machine.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_record(tmp_path) is None
    assert is_broken(tmp_path)


def test_facts_of_another_start_are_laid_over_those_there_are() -> None:
    record = with_facts(new_record(SPEC, created_at=1.5), {"NONCE": "second"}, deadline_s=7)
    assert record.facts == {"MACHINE": "one", "NONCE": "second"}
    assert record.deadline_s == 7


def test_shell_reads_facts_as_they_were_meant(tmp_path: Path) -> None:
    value = 'it\'s $HOME `x` \\ "y" $argon2id$v=19'
    write_facts(tmp_path, {"PASSWORD_HASH": value})
    script = 'set -eu; . "$1"; printf %s "$PASSWORD_HASH"'
    done = subprocess.run(["sh", "-c", script, "sh", str(tmp_path / "facts")], capture_output=True, text=True, check=True)
    assert done.stdout == value
    assert (tmp_path / "facts").stat().st_mode & 0o777 == 0o600
