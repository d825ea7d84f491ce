"""`launch --env-file`: what the file may contain, and how its variables reach the machine."""

import os
import subprocess
from pathlib import Path

import pytest

from clouds.errors import CloudError, UsageError
from clouds.ledger import Ledger
from launcher.access.environment import BYTES_MAX, FILE, LINE_BYTES_MAX, read_env_file
from launcher.launch import LaunchOptions, launch
from tests.fake_cloud import FakeCloud
from tests.launcher.access.test_copy import SSH


def test_lines_are_taken_as_they_are_without_a_pair_of_quotes(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(
        "# a comment\n\nA=1\nexport B = no\n".replace(" = ", "=") + 'C="x y"\nD=\'$HOME\'\nE=a=b # c\nF=\n  G="\n'
    )
    assert read_env_file(str(tmp_path / "env")) == {
        "A": "1",
        "B": "no",
        "C": "x y",
        "D": "$HOME",
        "E": "a=b # c",
        "F": "",
        "G": '"',
    }


@pytest.mark.parametrize("line", ["secret", "1A=secret", "A-B=secret", "=secret", "A B=secret"])
def test_a_line_that_is_no_variable_is_named_but_not_repeated(tmp_path: Path, line: str) -> None:
    (tmp_path / "env").write_text(f"A=1\n{line}\n")
    with pytest.raises(UsageError, match="line 2 is not NAME=VALUE") as raised:
        read_env_file(str(tmp_path / "env"))
    assert "secret" not in raised.value.message + raised.value.next_step


def test_file_of_an_editor_on_windows_and_values_with_odd_separators_are_read(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes("\ufeffA=1\r\n# c\r\nB=x\u2028y\x0cz\xa0\r\nB=again\r\nC=x\ry".encode())
    assert read_env_file(str(tmp_path / "env")) == {"A": "1", "B": "again", "C": "x\ry"}
    (tmp_path / "env").write_text("B=x\u2028y\x0cz\xa0")
    assert read_env_file(str(tmp_path / "env")) == {"B": "x\u2028y\x0cz\xa0"}


def test_value_in_several_lines_is_refused_at_each_line_that_is_no_variable(tmp_path: Path) -> None:
    (tmp_path / "env").write_text('KEY="-----BEGIN\nMIIE=\n-----END"\n')
    with pytest.raises(UsageError, match="line 3 is not NAME=VALUE"):
        read_env_file(str(tmp_path / "env"))


def test_variable_with_which_no_program_would_start_is_refused(tmp_path: Path) -> None:
    for size, fits in ((LINE_BYTES_MAX - 2, True), (LINE_BYTES_MAX - 1, False)):
        (tmp_path / "env").write_text(f"A={'x' * size}\n")
        environ = {"A": "x" * size}
        if fits:
            assert read_env_file(str(tmp_path / "env")) == environ
            assert subprocess.run(["true"], env=environ, timeout=60).returncode == 0
            continue
        with pytest.raises(UsageError, match=f"line 1 is longer than {LINE_BYTES_MAX} bytes"):
            read_env_file(str(tmp_path / "env"))
        with pytest.raises(OSError, match="Argument list too long"):
            subprocess.run(["true"], env=environ, timeout=60)


def test_file_that_is_too_large_is_refused_not_cut(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=12345678\n" * (BYTES_MAX // 11 + 1))
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        read_env_file(str(tmp_path / "env"))


def test_all_wrong_lines_are_named_up_to_a_number(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("secret\nA=1\nsecret\n")
    with pytest.raises(UsageError, match=r"lines 1, 3 are not NAME=VALUE$"):
        read_env_file(str(tmp_path / "env"))
    (tmp_path / "env").write_text("secret\n" * 50)
    with pytest.raises(UsageError, match=r"lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 40 more are not NAME=VALUE$"):
        read_env_file(str(tmp_path / "env"))


@pytest.fixture
def machines(fake: FakeCloud, jupyter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let machines have the home `machine`; return that folder."""
    for name in ("bin", "machine"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/ssh").write_text(SSH.replace("shift\nexport", 'echo "$*" >>"$0.calls"\nshift\nexport'))
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "machine"


def test_variables_are_stored_on_the_machine_for_its_user_only(fake: FakeCloud, machines: Path, ledger: Ledger) -> None:
    launched = launch(fake, ledger, LaunchOptions(name="one", environment={"TOKEN": "hf_secret$1"}))
    stored = machines / FILE
    assert stored.read_text() == 'TOKEN="hf_secret$$1"\n'
    assert stored.stat().st_mode & 0o777 == 0o600
    assert (machines / ".config/environment.d").stat().st_mode & 0o777 == 0o700
    elsewhere = [*machines.parent.rglob("*.calls"), *Path(os.environ["BAKEHOUSE_HOME"]).rglob("*")]
    assert not [path for path in elsewhere if path.is_file() and b"hf_secret" in path.read_bytes()]
    assert "hf_secret" not in repr(launched) + repr(fake.world.machines["one"]) + repr(
        LaunchOptions(environment={"A": "hf_secret"})
    )


def test_machine_that_cannot_store_them_is_removed(fake: FakeCloud, machines: Path, ledger: Ledger) -> None:
    (machines / ".config").write_text("a file")
    with pytest.raises(CloudError, match="could not store the variables of --env-file"):
        launch(fake, ledger, LaunchOptions(name="one", environment={"A": "1"}))
    assert "one" not in fake.world.machines
