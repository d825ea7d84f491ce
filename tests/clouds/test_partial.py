from pathlib import Path

from clouds.partial import PARTIAL, is_under_way, partial_folder, sweep


def test_sweep_removes_what_a_dead_process_left_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}4194999-1-thing").mkdir()
    (tmp_path / "finished").mkdir()
    mine = partial_folder(tmp_path, "thing")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["finished", mine.name])


def test_sweep_of_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    sweep(tmp_path / "nosuch")
    assert not (tmp_path / "nosuch").exists()


def test_folder_is_under_way_while_its_process_lives(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}4194999-1-thing").mkdir()
    assert not is_under_way(tmp_path, "thing")
    partial_folder(tmp_path, "thing")
    assert is_under_way(tmp_path, "thing")
