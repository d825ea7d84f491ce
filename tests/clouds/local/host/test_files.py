"""Small files, locks and folders that survive being killed."""

import errno
import os
from pathlib import Path

import pytest

from clouds.local.host import files


def test_record_is_private_and_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files.write_json(path, {"a": [1, "é"]})
    assert files.read_json(path) == {"a": [1, "é"]}
    assert path.stat().st_mode & 0o777 == 0o600


def test_record_that_is_absent_or_cut_is_none(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"a": ')
    assert files.read_json(tmp_path / "cut.json") is None
    assert files.read_json(tmp_path / "nosuch.json") is None
    assert files.read_json(tmp_path / "cut.json" / "below.json") is None


def test_what_goes_while_it_is_counted_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x" * 9000)
    (tmp_path / "going").mkdir()
    scan = os.scandir

    def scandir(folder: os.PathLike[str]) -> object:
        if Path(folder).name == "going":
            Path(folder).rmdir()
        return scan(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert files.folder_bytes(tmp_path) >= 9000
    assert not (tmp_path / "going").exists()


def test_discarded_folder_is_gone_with_all_it_held(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").touch()
    files.discard(folder)
    files.discard(folder)
    assert list(tmp_path.iterdir()) == []


def test_folder_is_discarded_where_no_other_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "thing"
    folder.mkdir()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    files.discard(folder)
    assert list(tmp_path.iterdir()) == []


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert files.sha256(tmp_path / "empty").startswith("e3b0c44298fc1c14")
