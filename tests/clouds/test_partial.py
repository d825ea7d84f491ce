import os
import time
from dataclasses import replace
from pathlib import Path

from clouds.client import this_client
from clouds.partial import PARTIAL, UNKNOWN_CLIENT_S, is_under_way, partial_folder, partial_name, sweep
from tests.dead import NOBODY, dead_partial

ELSEWHERE = "h" + 24 * "0"


def test_sweep_removes_what_a_dead_process_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / dead_partial("thing")).mkdir()
    (tmp_path / "finished").mkdir()
    (tmp_path / f"{PARTIAL}of-somebody").mkdir()
    mine = partial_folder(tmp_path, "thing")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["finished", mine.name, f"{PARTIAL}of-somebody"])


def test_what_a_process_of_another_computer_prepares_stays_until_it_is_a_day_old(tmp_path: Path) -> None:
    elsewhere, older = (
        tmp_path / partial_name(replace(this_client(), computer=ELSEWHERE, pid=NOBODY), "thing"),
        tmp_path / f"{PARTIAL}{NOBODY}-1-thing",
    )
    for folder in (elsewhere, older):
        folder.mkdir()
    sweep(tmp_path)
    assert is_under_way(tmp_path, "thing")
    assert len(list(tmp_path.iterdir())) == 2
    long_ago = time.time() - UNKNOWN_CLIENT_S - 60
    for folder in (elsewhere, older):
        os.utime(folder, (long_ago, long_ago))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sweep_of_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "nosuch")
    assert not (tmp_path / "nosuch").exists()


def test_folder_is_under_way_while_its_process_lives(tmp_path: Path) -> None:
    (tmp_path / dead_partial("thing")).mkdir()
    assert not is_under_way(tmp_path, "thing")
    partial_folder(tmp_path, "thing")
    assert is_under_way(tmp_path, "thing")
