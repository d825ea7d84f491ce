"""The search of a finished disk: what it finds stops publishing, and what it lets pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.errors import NotSealedError
from bakery.order import BakeOptions
from bakery.proof.seal import find_leaks, summary
from bakery.recipe.recipe import load
from clouds.driver import Kind
from tests import fake_guest
from tests.fake_cloud import FakeCloud
from tests.planted import PLANTED


@dataclass(frozen=True)
class Disk:
    """A disk that holds just these files."""

    files: Mapping[str, bytes]

    def list(self) -> Mapping[str, int]:
        return {path: len(content) for path, content in self.files.items()}

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        return {path: self.files[path][:limit_bytes] for path in paths}


@pytest.mark.parametrize("secret", PLANTED)
def test_a_secret_stops_publishing(fake: FakeCloud, tmp_path: Path, secret: str) -> None:
    planted = PLANTED[secret]
    fake.guest("bake-*", fake_guest.leaves_secret(planted.path, planted.content))
    with pytest.raises(NotSealedError, match=f"{planted.path}: {planted.what}"):
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert [found for found in fake.owned({}) if found.kind is Kind.IMAGE] == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/machine-id", b""),
        ("/root/.ssh/authorized_keys", b""),
        ("/etc/apt/sources.list.d/debian.sources", b"URIs: https://example.org/debian\n"),
        ("/opt/notebook/lib/python3.13/site-packages/tornado/test/test.key", b"-----BEGIN PRIVATE KEY-----\n"),
        ("/etc/ssl/certs/root.pem", b"-----BEGIN CERTIFICATE-----\n"),
        ("/etc/shadow", b"root:*:20000:0:99999:7:::\nnotebook:!:20000::::::\n"),
    ],
)
def test_what_every_system_holds_is_no_leak(path: str, content: bytes) -> None:
    assert find_leaks(Disk({path: content})) == []


def test_a_password_of_an_account_is_a_leak() -> None:
    assert find_leaks(Disk({"/etc/shadow": b"root:$y$j9T$salt$hash:20000::::::\n"})) == ["/etc/shadow: password of a Unix account"]


def test_the_nonce_of_the_bake_is_a_leak() -> None:
    assert find_leaks(Disk({"/home/notebook/note": b"a 0123 b"}), literals=("0123",)) == [
        "/home/notebook/note: secret of this bake"
    ]


def test_a_long_list_is_cut_and_says_so() -> None:
    told = summary([f"/tmp/{number}: temporary file" for number in range(25)])
    assert told.endswith("and 5 more")
    assert len(told.splitlines()) == 22
