"""The mirrors of Debian and Ubuntu, found in the files of this computer's apt."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest

from clouds.mirrors import Mirrors, host_mirrors, mirrors

ONE_LINE = """
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://m.example/debian/ bookworm main contrib
deb-src http://src.example/debian bookworm main
deb https://s.example/debian-security bookworm-security main
"""
DEB822 = """
# a comment
Types: deb deb-src
URIs: http://m.example/debian
Suites: trixie trixie-updates
# in between
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://s.example/debian-security/
Suites: trixie-security
Components: main non-free-firmware
"""
UBUNTU = """
Types: deb
URIs: http://s.example/ubuntu/
Suites: noble-security
Components: main universe
"""


@pytest.mark.parametrize("text", [ONE_LINE, DEB822])
def test_mirrors_are_found_in_either_kind_of_file(text: str) -> None:
    found = mirrors([text])
    assert found.debian == "http://m.example/debian"
    assert found.security.endswith("://s.example/debian-security")


@pytest.mark.parametrize(
    "line",
    [
        "deb https://apt.example bookworm main",
        "deb https://download.example/linux/debian bookworm stable",
        "deb http://archive.example/ubuntu noble main",
        "deb file:/srv/debian bookworm main",
        "deb cdrom:[Debian]/ bookworm main",
    ],
)
def test_other_archives_are_not_mirrors_of_debian(line: str) -> None:
    assert mirrors([line]) == Mirrors()


def test_mirrors_of_ubuntu_are_known_by_their_updates() -> None:
    text = (
        "deb https://ppa.example/x/ubuntu noble main\n"
        "deb http://m.example/ubuntu/ noble main restricted\ndeb http://m.example/ubuntu/ noble-updates main restricted\n"
    )
    assert mirrors([text, UBUNTU]) == Mirrors(ubuntu="http://m.example/ubuntu", ubuntu_security="http://s.example/ubuntu")


@pytest.mark.parametrize("value", ["no", "No", "false", "off", "0"])
def test_stanza_that_is_not_enabled_does_not_count(value: str) -> None:
    assert mirrors([DEB822.replace("Types: deb\n", f"Types: deb\nEnabled: {value}\n")]) == Mirrors("http://m.example/debian", "")


def test_key_in_a_stanza_is_no_end_of_it() -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n Types: x\n -----END PGP PUBLIC KEY BLOCK-----\n"
    assert mirrors([DEB822.replace("Types: deb\n", f"{key}Types: deb\n")]).security == "http://s.example/debian-security"


def test_list_of_mirrors_in_a_file_is_followed(tmp_path: Path) -> None:
    listed = tmp_path / "debian.list"
    listed.write_text("https://first.example/debian\nhttps://second.example/debian\n")
    assert mirrors([f"deb mirror+file:{listed} trixie main"]).debian == "https://first.example/debian"


def test_this_computer_always_knows_mirrors() -> None:
    found = host_mirrors()
    assert all(url.startswith("http") for url in astuple(found))
