"""Whether a search of files for secrets finds them, wherever they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import bakehouse

SECRET = b"the password"
HOLE = 1 << 20


@pytest.mark.parametrize("before", [0, 1, HOLE, HOLE + 5, 3 * HOLE - 7])
def test_a_secret_is_found_at_the_start_in_the_middle_and_behind_holes(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bakehouse, "_PIECE", 8)  # it spans pieces
    file = tmp_path / "file"
    with file.open("wb") as written:
        written.truncate(4 * HOLE)
        written.seek(before)
        written.write(SECRET)
    assert bakehouse.holds(file, [b"another", SECRET])
    assert not bakehouse.holds(file, [b"the passwore"])


def test_nothing_is_found_in_a_file_without_data(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert not bakehouse.holds(tmp_path / "empty", [SECRET])
