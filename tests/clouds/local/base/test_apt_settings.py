"""apt's options, found on this computer, and its mirrors, written for another apt."""

import re
import subprocess
from dataclasses import astuple, replace

import pytest

from clouds.driver import Base
from clouds.local.base.apt_settings import apt_conf, apt_options, mirror_rules, sources_list
from clouds.local.base.definition import Definition, define
from clouds.mirrors import Mirrors, mirrors


def base(suite: str) -> Definition:
    """Return the definition of a base."""
    return define(Base(suite, "amd64"))


@pytest.mark.parametrize(
    ("suite", "archive", "security", "key"),
    [
        ("trixie", "http://m.example/debian", "http://s.example/debian-security", "/usr/share/keyrings/debian-archive-keyring.gpg"),
        ("noble", "http://m.example/ubuntu", "http://s.example/ubuntu", ""),
    ],
)
def test_sources_have_the_updates_and_the_security_suite(suite: str, archive: str, security: str, key: str) -> None:
    text = sources_list(replace(FOUND, debian=archive, security=security, ubuntu=archive, ubuntu_security=security), base(suite))
    values = re.findall(r"^(?:URIs|Suites|Signed-By): ?(.*)$", text, re.MULTILINE)
    assert values == [archive, f"{suite} {suite}-updates", key, security, f"{suite}-security", key]
    assert set(astuple(mirrors([text]))) == {archive, security, ""}


def test_key_of_ubuntu_is_in_its_sources() -> None:
    stanza = sources_list(FOUND, base("noble")).split("\n\n")[0]
    lines = [line.removeprefix(" ") for line in stanza.partition("Signed-By:")[2].splitlines()[1:]]
    key = "\n".join("" if line == "." else line for line in lines)
    shown = subprocess.run(["gpg", "--show-keys", "--with-colons"], input=key, capture_output=True, text=True, check=True).stdout
    assert "fpr:::::::::F6ECB3762474EDA9D21B7022871920D1991BC93C:" in shown


FOUND = Mirrors(
    "http://u&s:p#w\\1@m.example/debian",
    "https://s.example/x/debian-security",
    "http://m.example/ubuntu",
    "https://s.example/ubuntu",
)


@pytest.mark.parametrize(
    ("own", "there"),
    [
        ("deb http://deb.debian.org/debian trixie main", f"deb {FOUND.debian} trixie main"),
        (
            "deb [arch=amd64] https://deb.debian.org/debian/ trixie-backports main",
            f"deb [arch=amd64] {FOUND.debian} trixie-backports main",
        ),
        ("URIs: http://deb.debian.org/debian", f"URIs: {FOUND.debian}"),
        ("URIs: http://ftp.de.debian.org/debian https://deb.debian.org/debian/", f"URIs: {FOUND.debian} {FOUND.debian}"),
        ("URIs: http://deb.debian.org/debian-security/", f"URIs: {FOUND.security}"),
        ("deb http://security.debian.org trixie-security main", f"deb {FOUND.security} trixie-security main"),
        ("deb http://security.debian.org/debian-security trixie-security main", f"deb {FOUND.security} trixie-security main"),
        ("deb http://deb.debian.org/debian-debug trixie-debug main", "deb http://deb.debian.org/debian-debug trixie-debug main"),
        ("deb https://deb.nodesource.com/node_20.x nodistro main", "deb https://deb.nodesource.com/node_20.x nodistro main"),
        ("deb https://debian.example.org/debian trixie main", "deb https://debian.example.org/debian trixie main"),
        ("URIs: http://archive.ubuntu.com/ubuntu", f"URIs: {FOUND.ubuntu}"),
        ("deb http://de.archive.ubuntu.com/ubuntu/ noble main", f"deb {FOUND.ubuntu} noble main"),
        ("URIs: http://security.ubuntu.com/ubuntu/", f"URIs: {FOUND.ubuntu_security}"),
        (
            "deb https://ppa.example.net/x/y/ubuntu noble main",
            "deb https://ppa.example.net/x/y/ubuntu noble main",
        ),
    ],
)
def test_mirrors_take_the_place_of_debians_own_servers_alone(own: str, there: str) -> None:
    command = ["sed", "--regexp-extended", mirror_rules(FOUND)]
    assert subprocess.run(command, input=own, capture_output=True, text=True, check=True).stdout == there


def test_without_mirrors_sources_stay_as_they_are() -> None:
    assert mirror_rules(Mirrors()) == ""


def test_proxies_and_certificates_are_picked_out_of_apts_options() -> None:
    dump = """APT "";
Acquire::http::Proxy "http://p.example:3142";
Acquire::https::Proxy::m.example "DIRECT";
Acquire::https::CAInfo "/etc/ours.crt";
Acquire::http::User-Agent-Non-Interactive "true";
Acquire::Languages "none";
"""
    options = apt_options(dump)
    assert options == {
        "Acquire::http::Proxy": "http://p.example:3142",
        "Acquire::https::Proxy::m.example": "DIRECT",
        "Acquire::https::CAInfo": "/etc/ours.crt",
    }
    assert apt_options(apt_conf(options)) == options
