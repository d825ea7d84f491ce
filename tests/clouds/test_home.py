import resource
from pathlib import Path

import pytest

from clouds.errors import UsageError
from clouds.home import home, write_private


def test_home_is_where_the_environment_says_and_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "a folder" / "state"))
    assert home() == tmp_path / "a folder" / "state"
    assert home().stat().st_mode & 0o777 == 0o700


def test_home_is_else_in_the_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BAKEHOUSE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "bakehouse"


def test_relative_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAKEHOUSE_HOME", "state")
    assert home() == tmp_path / "state"


def test_home_that_cannot_be_made_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "file" / "state"))
    with pytest.raises(UsageError, match=r"^BAKEHOUSE_HOME: .*/state: Not a directory") as refused:
        home()
    assert "BAKEHOUSE_HOME" in refused.value.next_step


def test_home_that_is_a_file_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"^BAKEHOUSE_HOME: .*/file is not a folder$"):
        home()


def test_private_file_is_for_its_owner_alone_even_when_it_replaces_an_open_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_private_file_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_file_that_finds_no_room_leaves_nothing_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_private(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # Python ignores SIGXFSZ, so a write fails with EFBIG
    try:
        with pytest.raises(OSError, match="File too large"):
            write_private(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]
    assert path.read_text() == "old"
