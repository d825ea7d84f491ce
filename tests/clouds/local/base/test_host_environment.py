"""The network settings of this computer, as passed to a builder."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from clouds.local.base.host_environment import HostSettings, build_archive, build_files, ca_bundle, for_guest, pip_indexes
from clouds.mirrors import Mirrors

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("http://127.0.0.1:3142/", "http://10.0.2.2:3142/"),
        ("http://localhost/simple//x", "http://10.0.2.2/simple//x"),
        ("http://[::1]:80", "http://10.0.2.2:80"),
        ("http://user:word@localhost:1/", "http://user:word@10.0.2.2:1/"),
        ("127.0.0.1:3128", "10.0.2.2:3128"),
        ("https://mirror.example/debian", "https://mirror.example/debian"),
        ("http://localhost.example/", "http://localhost.example/"),
        ("DIRECT", "DIRECT"),
    ],
)
def test_loopback_of_this_computer_is_the_gateway_of_the_guest(here: str, there: str) -> None:
    assert for_guest(here) == there


def test_index_of_the_environment_is_stronger_than_that_of_a_file() -> None:
    index, _ = pip_indexes({"PIP_INDEX_URL": "https://a.example/simple"}, ["[global]\nindex-url = https://b.example/simple\n"])
    assert index == "https://a.example/simple"


def test_index_comes_from_the_first_file_that_names_one() -> None:
    files = ["", "[global]\nindex-url = https://b.example/simple\n", "[global]\nindex-url = https://c.example/simple\n"]
    assert pip_indexes({}, files) == ("https://b.example/simple", ())


def test_extra_indexes_are_only_those_that_a_guest_can_reach() -> None:
    files = ["[global]\nextra-index-url = file:///opt/simple\n  https://d.example/simple\n"]
    assert pip_indexes({}, files) == ("", ("https://d.example/simple",))


def test_extra_index_of_uv_may_have_a_name() -> None:
    assert pip_indexes({"UV_INDEX": "ours=https://e.example/simple"}, []) == ("", ("https://e.example/simple",))


UV = """[[index]]
url = "https://a.example/simple"
default = true
[[index]]
name = "own"
url = "https://b.example/simple"
[[index]]
name = "explicit"
url = "https://c.example/simple"
explicit = true
"""


@pytest.mark.parametrize(
    ("environment", "file", "found"),
    [
        ({}, UV, ("https://a.example/simple", ("https://b.example/simple",))),
        ({"PIP_INDEX_URL": "https://p.example/"}, UV, ("https://a.example/simple", ("https://b.example/simple",))),
        ({"UV_INDEX_URL": "https://u.example/"}, UV, ("https://u.example/", ("https://b.example/simple",))),
        (
            {},
            '[pip]\nindex-url = "https://a.example/"\nextra-index-url = ["https://b.example/"]',
            ("https://a.example/", ("https://b.example/",)),
        ),
        ({"PIP_INDEX_URL": "https://p.example/"}, "not = [toml", ("https://p.example/", ())),
        ({}, 'index = 3\npip = 4\nindex-url = "file:///x"', ("", ())),
    ],
)
def test_indexes_of_uv_with_which_packages_were_resolved_reach_the_builder(
    environment: dict[str, str], file: str, found: tuple[str, tuple[str, ...]]
) -> None:
    assert pip_indexes(environment, [], [file]) == found


def test_index_in_a_local_folder_is_left_out() -> None:
    assert pip_indexes({"PIP_INDEX_URL": "file:///opt/simple"}, []) == ("", ())


def test_file_that_is_no_configuration_is_passed_over() -> None:
    assert pip_indexes({}, ["not a configuration", "[global]\nindex-url = https://b.example/\n"])[0] == "https://b.example/"


def test_bundle_named_in_the_environment_is_taken(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    assert ca_bundle({"SSL_CERT_FILE": str(tmp_path / "nosuch"), "CURL_CA_BUNDLE": str(bundle)}) == bundle


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    return HostSettings(
        mirrors=Mirrors("http://localhost:3142/debian", "http://s.example/debian-security"),
        proxies={"http_proxy": f"http://me:{SECRET}@127.0.0.1:3128", "no_proxy": "localhost,it's"},
        apt={"Acquire::http::Proxy": "http://127.0.0.1:3142", "Acquire::https::CAInfo": "/etc/ours.crt"},
        index="https://p.example/simple",
        extra_indexes=("https://q.example/simple", "https://r.example/simple"),
        bundle=bundle,
    )


def sourced(env: bytes) -> dict[str, str]:
    """Return the variables that a shell has after it has sourced a file."""
    script = "set -eu; . /dev/stdin; env -0"
    done = subprocess.run(["sh", "-c", script], input=env, env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
    return dict(item.split("=", 1) for item in done.stdout.decode().split("\0") if item)


def test_shell_reads_the_environment_as_it_was_meant(settings: HostSettings) -> None:
    variables = sourced(build_files(settings)["env"])
    assert variables["http_proxy"] == variables["HTTP_PROXY"] == f"http://me:{SECRET}@10.0.2.2:3128"
    assert variables["no_proxy"] == "localhost,it's"
    assert variables["UV_DEFAULT_INDEX"] == variables["PIP_INDEX_URL"] == "https://p.example/simple"
    assert variables["UV_INDEX"] == "https://q.example/simple https://r.example/simple"
    assert variables["SSL_CERT_FILE"] == variables["PIP_CERT"] == "/run/bakehouse/build/ca.crt"
    assert variables["APT_CONFIG"] == "/run/bakehouse/build/apt.conf"


def test_apt_gets_our_mirrors_and_proxies(settings: HostSettings) -> None:
    files = build_files(settings)
    own = (
        "deb http://deb.debian.org/debian trixie main\nURIs: https://security.debian.org\ndeb http://x.example/debian trixie main\n"
    )
    command = ["sed", "--regexp-extended", files["mirrors.sed"].decode()]
    assert subprocess.run(command, input=own, capture_output=True, text=True, check=True).stdout.splitlines() == [
        "deb http://10.0.2.2:3142/debian trixie main",
        "URIs: http://s.example/debian-security",
        "deb http://x.example/debian trixie main",
    ]
    assert 'Dir::Etc::SourceParts "/run/bakehouse/build/sources.list.d";' in files["apt.conf"].decode()
    assert 'Acquire::http::Proxy "http://10.0.2.2:3142";' in files["apt.conf"].decode()
    assert 'Acquire::https::CAInfo "/run/bakehouse/build/ca.crt";' in files["apt.conf"].decode()
    assert "ours.crt" not in files["apt.conf"].decode()


def test_without_a_bundle_no_certificates_are_named() -> None:
    files = build_files(HostSettings())
    assert "ca.crt" not in files
    assert "SSL_CERT_FILE" not in sourced(files["env"])


def test_what_may_hold_credentials_is_for_root_only(settings: HostSettings) -> None:
    with tarfile.open(fileobj=io.BytesIO(build_archive(build_files(settings)))) as tar:
        modes = {entry.name: entry.mode for entry in tar}
        content = tar.extractfile("build/ca.crt")
        assert content
        assert content.read() == b"certificates"
    assert modes == {
        "build": 0o755,
        "build/mirrors.sed": 0o600,
        "build/apt.conf": 0o600,
        "build/env": 0o600,
        "build/ca.crt": 0o644,
    }
