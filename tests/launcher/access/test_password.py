import io
import re
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import given
from hypothesis import strategies as st

from clouds.errors import UsageError
from launcher.access.password import LENGTH_MAX, check, generate, hash_password, read_password


def test_generated_password_can_be_read_aloud_and_holds_80_bits() -> None:
    assert re.fullmatch(r"([abcdefghjkmnpqrstuvwxyz2-9]{5}-){3}[abcdefghjkmnpqrstuvwxyz2-9]{5}", generate())
    assert 31**20 > 2**80


def test_no_two_generated_passwords_are_alike() -> None:
    assert len({generate() for _ in range(100)}) == 100


def test_hash_has_the_form_of_jupyter_and_fits_only_its_password() -> None:
    kind, _, hashed = hash_password("open sesame").partition(":")
    assert kind == "argon2"
    assert PasswordHasher().verify(hashed, "open sesame")
    assert "sesame" not in hashed


def test_hash_has_the_cost_that_owasp_requires_and_no_more() -> None:
    parameters = extract_parameters(hash_password("x").removeprefix("argon2:"))
    assert (parameters.type.name, parameters.time_cost, parameters.memory_cost, parameters.parallelism) == ("ID", 5, 7168, 1)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_line_break_at_the_end_of_the_file_is_not_part_of_the_password(tmp_path: Path, ending: str) -> None:
    (tmp_path / "password").write_bytes(f"correct horse{ending}".encode())
    assert read_password(str(tmp_path / "password")) == "correct horse"


@pytest.mark.parametrize("content", ["", "\n", "two\nlines\n", "tab\there", " in front", "behind ", "nul\0", "two\n\n"])
def test_password_that_a_form_would_change_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "password").write_bytes(content.encode())
    with pytest.raises(UsageError, match="password"):
        read_password(str(tmp_path / "password"))


def test_password_that_is_easily_guessed_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("1234567")
    with pytest.raises(UsageError, match="fewer than 8 characters"):
        read_password(str(tmp_path / "password"))


def test_endless_file_is_refused_and_not_read_to_its_end() -> None:
    with pytest.raises(UsageError, match="longer than 1024"):
        read_password("/dev/zero")


def test_file_that_is_absent_or_no_text_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    for file in ("nosuch", "picture", "."):
        with pytest.raises(UsageError) as raised:
            read_password(str(tmp_path / file))
        assert raised.value.next_step


def test_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe\n"))
    assert read_password("-") == "from a pipe"


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])  # Python's standard input in most locales, and in C
def test_what_is_not_utf_8_is_refused_as_such(errors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latin").write_bytes("päss-wörd-long\n".encode("latin-1"))
    with (tmp_path / "latin").open(encoding="utf-8", errors=errors) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        for file, where in (("-", "standard input"), (str(tmp_path / "latin"), str(tmp_path / "latin"))):
            with pytest.raises(UsageError) as raised:
                read_password(file)
            assert (raised.value.message, raised.value.next_step) == (f"{where}: is not UTF-8 text", "Save the password as UTF-8.")


@given(st.text(max_size=LENGTH_MAX))
def test_any_text_is_taken_as_it_is_or_refused(text: str) -> None:
    try:
        assert check(text, where="it") == text
    except UsageError as error:
        assert error.next_step


def test_hash_of_a_generated_password_is_cheap_to_check() -> None:
    parameters = extract_parameters(hash_password(generate()).removeprefix("argon2:"))
    assert (parameters.type.name, parameters.time_cost, parameters.memory_cost) == ("ID", 1, 1024)
