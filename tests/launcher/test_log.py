from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.driver import PIECE_BYTES
from clouds.errors import NotFoundError
from clouds.home import home
from launcher import log
from launcher.clean import clean
from launcher.log import read_log
from tests.fake_cloud import FakeCloud
from tests.launcher.given import launch_one


def write_log(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_log_of_a_bake_is_its_console_and_then_its_steps(fake: FakeCloud) -> None:
    write_log(home() / "bakes" / "bake-1", "steps.log", "=== 01 packages\n")
    write_log(home() / "bakes" / "bake-1", "console.log", "Linux version\n")
    write_log(home() / "bakes" / "bake-1", "result.json", "{}")
    assert read_log(home(), fake, "bake-1") == "--- console.log\nLinux version\n\n--- steps.log\n=== 01 packages\n"


def test_bake_that_failed_before_it_had_a_log_shows_its_result(fake: FakeCloud) -> None:
    write_log(home() / "bakes" / "bake-1", "result.json", '{"error": "no room"}\n')
    assert read_log(home(), fake, "bake-1") == '--- result.json\n{"error": "no room"}\n'


def test_log_stored_with_the_image_is_found_by_the_id_of_its_bake(fake: FakeCloud, tmp_path: Path, jupyter: str) -> None:
    fake.world.images[jupyter].labels["bake"] = "bake-1"
    fake.attach(jupyter, {"steps.log": write_log(tmp_path, "steps.log", "kept with the image\n")})
    assert "kept with the image" in read_log(home(), fake, "bake-1")


def test_log_of_a_machine_is_its_console(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    assert "Hostname set to <one>" in read_log(home(), fake, "one")


def test_long_console_is_shown_to_its_end(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    fake.piece_bytes = PIECE_BYTES
    fake.world.machines["one"].console += b"x" * 79 + b"\n" + b"." * 79 + b"\n" * (3 * PIECE_BYTES) + b"the newest\n"
    shown = read_log(home(), fake, "one")
    assert "Hostname set to <one>" in shown
    assert shown.endswith("the newest\n")


def test_of_a_console_without_end_the_newest_is_shown(fake: FakeCloud, jupyter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert log.LOG_CHARACTERS == 16 * 2**20
    monkeypatch.setattr(log, "LOG_CHARACTERS", longest := 4 * 2**20)
    launch_one(fake, "one")
    fake.piece_bytes = PIECE_BYTES
    lines = (longest + 5 * PIECE_BYTES) // 80
    fake.world.machines["one"].console += b"".join(b"%79d\n" % number for number in range(lines))
    first, *rest = read_log(home(), fake, "one").splitlines()
    assert first == "[bakehouse: older output omitted; the newest 4 MB follow]"
    assert rest[-1].split() == [str(lines - 1)]
    assert longest - PIECE_BYTES < 80 * len(rest) <= longest + 80


@pytest.mark.parametrize("name", ["nosuch", "bake-nosuch", "bake-1/../bake-1", "../bakes/bake-1"])
def test_missing_log_has_a_hint(fake: FakeCloud, name: str) -> None:
    write_log(home() / "bakes" / "bake-1", "console.log", "secret\n")
    with pytest.raises(NotFoundError) as raised:
        read_log(home(), fake, name)
    assert raised.value.next_step


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a line\r\n", "a line\n"),
        (" 10%\r100%\n", " 10%\n100%\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1bcreset\x1b(B", "reset"),
        ("bell\x07 back\x08 c1\x9b31m nul\0", "bell back c1 nul"),
        ("\x1bP1$r0m\x1b\\dcs \x1b_apc\x1b\\ \x9d0;title\x9cosc", "dcs  osc"),
        ("\x1b]0;no end\nthe next line\x07", "\nthe next line"),
        ("a\u202eb\u2066c\u2028d", "abcd"),
        ("größer → 日本", "größer → 日本"),
    ],
)
def test_control_sequences_are_removed(printed: str, shown: str) -> None:
    assert clean(printed) == shown


@given(st.text(alphabet=st.sampled_from("\x1b[]()0;1mcPX^_\x07\\\r\nab\x9b\x9c\x9d\u202e")))
def test_nothing_that_steers_a_terminal_is_ever_left(text: str) -> None:
    assert not set(clean(text)) & set(map(chr, [*range(9), 11, 12, *range(13, 32), *range(127, 160), 0x202E]))


@given(st.lists(st.text(alphabet=st.sampled_from("\x1b[]0;1mcP_\x07\\ab"))))
def test_no_sequence_swallows_another_line(lines: list[str]) -> None:
    assert clean("".join(f"{line}\nkept {number}\n" for number, line in enumerate(lines))).split("\n")[1::2] == [
        f"kept {number}" for number in range(len(lines))
    ]
