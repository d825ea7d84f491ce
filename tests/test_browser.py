"""Which browser the tests drive, by the programs in PATH."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import find_browser, no_browser

BINARY = "\x7fELF"
# What Ubuntu's package chromium-browser installs: https://github.com/puppeteer/puppeteer/issues/8232
STUB = "#!/bin/sh\nif ! [ -x /snap/bin/chromium ]; then\n    echo 'Please install it with: snap install chromium' >&2\nfi\n"
SCRIPT = '#!/bin/bash\nexec /opt/google/chrome/chrome "$@"\n'


def put(folder: Path, name: str, text: str = BINARY) -> Path:
    """Put a program into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return folder / name


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["google-chrome", "chromium"], "google-chrome"),
        (["chromium", "google-chrome-stable"], "google-chrome-stable"),
        (["chromium"], "chromium"),
        (["chromium-browser", "chromium"], "chromium"),
        (["chromium-browser"], "chromium-browser"),
    ],
)
def test_first_known_browser_is_taken(tmp_path: Path, there: list[str], taken: str) -> None:
    for name in there:
        put(tmp_path, name)
    assert find_browser(str(tmp_path)) == str(tmp_path / taken)


def test_script_that_starts_an_installed_chrome_is_taken(tmp_path: Path) -> None:
    program = put(tmp_path, "google-chrome", SCRIPT)
    assert find_browser(str(tmp_path)) == str(program)


def test_snap_is_passed_over(tmp_path: Path) -> None:
    snap = put(tmp_path / "usr", "snap")
    (tmp_path / "snap/bin").mkdir(parents=True)
    (tmp_path / "snap/bin/chromium").symlink_to(snap)
    put(tmp_path / "bin", "chromium-browser", STUB)
    own = put(tmp_path / "own", "chrome")
    path = f"{tmp_path}/snap/bin:{tmp_path}/bin"
    assert find_browser(path) is None
    assert find_browser(path, own) == str(own)


def test_browser_of_playwright_is_the_last_choice(tmp_path: Path) -> None:
    own = put(tmp_path / "own", "chrome")
    assert find_browser(str(tmp_path), own) == str(own)
    program = put(tmp_path, "chromium-browser")
    assert find_browser(str(tmp_path), own) == str(program)
    assert find_browser(str(tmp_path / "nothing"), tmp_path / "not-installed") is None


def test_error_names_what_to_install_in_one_line() -> None:
    error = no_browser()
    assert error.next_step.count("\n") == 0
    for words in (
        "Debian: apt-get install chromium",
        "Fedora: dnf",
        "Arch: pacman",
        "Ubuntu and others: .venv/bin/playwright install",
    ):
        assert words in error.next_step
