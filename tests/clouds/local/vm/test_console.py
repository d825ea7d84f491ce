"""What a machine prints, read piece by piece."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clouds.driver import PIECE_BYTES, Position
from clouds.local.vm import console


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"one\n")
    first = console.read(path)
    with path.open("ab") as file:
        file.write(b"two\n")
    assert (first.text, first.position, first.lost) == ("one\n", "4", False)
    assert console.read(path, first.position).text == "two\n"


def test_offset_past_the_end_says_that_text_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"new")
    piece = console.read(path, Position("100"))
    assert (piece.text, piece.position, piece.lost) == ("", "3", True)


def test_piece_of_a_long_console_is_as_long_as_a_driver_has_to_give_it(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_text("日" * (3 * 2**20))
    piece = console.read(path)
    assert len(piece.text) >= PIECE_BYTES
    assert console.read(path, piece.position).text[:1] == "日"


def test_bytes_that_are_no_text_do_not_stop_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"a\xff\xfe\x80b\n")
    piece = console.read(path)
    assert piece.text.startswith("a")
    assert piece.text.endswith("b\n")
    assert piece.position == "6"


@given(st.text(), st.data())
def test_text_that_grows_at_any_byte_is_read_whole(text: str, data: st.DataObject) -> None:
    whole = text.encode()
    cut = data.draw(st.integers(0, len(whole)))
    first = whole[: console.whole_length(whole[:cut])]
    assert first.decode() + whole[len(first) :].decode() == text
    assert cut - len(first) < 4
