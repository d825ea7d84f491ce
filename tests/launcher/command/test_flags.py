import re
from pathlib import Path

import pytest

from clouds.errors import UsageError
from launcher.command.flags import (
    Flag,
    Positional,
    Values,
    Verb,
    gigabytes,
    hours,
    machine_name,
    password_file,
    port,
    read,
    text,
    whole,
)
from launcher.command.terminal import Terminal


def _run(_values: Values, _terminal: Terminal) -> int:
    return 0


VERB = Verb(
    "brew",
    "Brew.",
    _run,
    (Positional("pot", "which pot"),),
    (
        Flag("memory-mb", "memory", whole(1, 4096), default=512),
        Flag("lifetime-h", "hours", hours),
        Flag("json", "JSON", parse=None),
    ),
)
TYPED = {"pot": "red", "memory_mb": None, "lifetime_h": None, "json": False}


def test_missing_flag_has_its_default() -> None:
    assert read(VERB, TYPED) == {"command": (), "pot": "red", "memory_mb": 512, "lifetime_h": None, "json": False}


def test_typed_values_are_parsed() -> None:
    values = read(VERB, TYPED | {"memory_mb": "2048", "lifetime_h": "0.5", "json": True})
    assert (values["memory_mb"], values["lifetime_h"], values["json"]) == (2048, 0.5, True)


def test_bad_value_is_reported_with_place_problem_and_suggestion() -> None:
    with pytest.raises(UsageError) as refused:
        read(VERB, TYPED | {"memory_mb": "two"})
    assert refused.value.message == "--memory-mb: 'two' is not a whole number (write one from 1 to 4096)"


def test_an_empty_positional_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="pot: '' is empty"):
        read(VERB, TYPED | {"pot": ""})


def test_a_command_is_refused_by_a_verb_that_takes_none() -> None:
    with pytest.raises(UsageError, match="takes no command"):
        read(VERB, TYPED, ["ls"])


def test_a_verb_that_takes_a_command_gets_its_words() -> None:
    verb = Verb("ssh", "Shell.", _run, takes_command=True)
    assert read(verb, {}, ["ls", "a b"])["command"] == ("ls", "a b")


@pytest.mark.parametrize("typed", ["", "-", "--1", "1.5", "1e3", "٣", "0x10", " 2", "2 ", "9" * 5000, "two", "nan"])
def test_only_whole_numbers_are_read(typed: str) -> None:
    with pytest.raises(ValueError, match=r"is not a whole number \(write one from 1 to 4096\)"):
        whole(1, 4096)(typed)


@pytest.mark.parametrize(("typed", "value"), [("1", 1), ("007", 7), ("4096", 4096)])
def test_whole_numbers_are_read(typed: str, value: int) -> None:
    assert whole(1, 4096)(typed) == value


@pytest.mark.parametrize("typed", ["", "-", "--1", "nan", "inf", "1e9", "a day", "1,5", ".5", "1."])
def test_only_plain_numbers_are_hours(typed: str) -> None:
    with pytest.raises(ValueError, match="write"):
        hours(typed)


@pytest.mark.parametrize(("typed", "value"), [("0", 0.0), ("0.0", 0.0), ("24", 24.0), ("0.02", 0.02), ("8760", 8760)])
def test_hours_are_read(typed: str, value: float) -> None:
    assert hours(typed) == value


def test_a_flag_whose_name_python_keeps_for_itself_has_a_key_all_the_same() -> None:
    assert (Flag("from", "help").key, Flag("layers-gb", "help").key) == ("from_", "layers_gb")


def test_blank_text_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        text(" ")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("1", "is too small (write 2 or more)"),
        ("-1", "is too small (write 2 or more)"),
        ("9", "is too large (write 8 or less)"),
        ("9" * 30, "is too large (write 8 or less)"),
    ],
)
def test_number_outside_of_its_range_is_refused_with_the_limit(typed: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        whole(2, 8)(typed)
    assert [whole(2, 8)(number) for number in ("2", "8")] == [2, 8]


@pytest.mark.parametrize(
    ("typed", "told"),
    [("0.01", "small"), ("-1", "small"), ("-0.5", "small"), ("8761", "large"), ("99999999", "large"), ("9" * 5000, "large")],
)
def test_lifetime_outside_of_its_range_is_refused_with_the_range(typed: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"is too {told} (write one from 0.02 to 8760, such as 8, or 0 for no limit)")):
        hours(typed)


def test_size_of_layers_outside_of_its_range_is_refused_with_the_range() -> None:
    assert [gigabytes(typed) for typed in ("0", "0.5", "1000000")] == [0, 0.5, 1000000]
    with pytest.raises(ValueError, match=re.escape("is too small (write one from 0 to 1000000)")):
        gigabytes("-1")
    with pytest.raises(ValueError, match=re.escape("is too large (write one from 0 to 1000000)")):
        gigabytes("99999999")


def test_port_of_ssh_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("is the port of SSH inside the machine (write another one, such as 8443)")):
        port("22")


def test_what_cannot_be_the_name_of_a_machine_is_refused_with_what_can() -> None:
    with pytest.raises(UsageError, match="invalid machine name 'My Lab'") as refused:
        machine_name("My Lab")
    assert refused.value.next_step.startswith("Use 1 to 40 of a-z")


def test_password_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "given").touch()
    assert [password_file("-"), password_file(str(tmp_path / "given"))] == ["-", str(tmp_path / "given")]
    with pytest.raises(ValueError, match="is not a file that can be read"):
        password_file(str(tmp_path / "absent"))
