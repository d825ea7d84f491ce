"""A stored log has a bound: the oldest lines go."""

from __future__ import annotations

from pathlib import Path

from bakery.watch import drop_oldest


def test_last_part_of_a_log_stays_from_the_start_of_a_line(tmp_path: Path) -> None:
    log = tmp_path / "steps.log"
    lines = [f"line {number:06} of some output" for number in range(100_000)]
    log.write_text("\n".join(lines) + "\n")
    size_bytes = log.stat().st_size
    drop_oldest(log, 1_000_000)
    first, *rest = log.read_text().splitlines()
    assert first == f"[bakehouse: the oldest {(size_bytes - 1_000_000) >> 20} MiB of the output were dropped]"
    assert rest == lines[-len(rest) :]
    assert 990_000 < log.stat().st_size < 1_000_100


def test_log_that_is_one_long_line_is_bounded_too(tmp_path: Path) -> None:
    log = tmp_path / "steps.log"
    log.write_bytes(b"x" * 3_000_000)
    drop_oldest(log, 1_000_000)
    assert log.stat().st_size < 1_000_100
