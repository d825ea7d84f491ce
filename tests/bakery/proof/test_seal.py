"""The search of a finished disk: what it finds stops publishing, and what it lets pass."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from bakery.bake import bake
from bakery.errors import NotSealedError, TestsFailedError
from bakery.events import Event, StepStarted
from bakery.order import BakeOptions
from bakery.plan import plan
from bakery.proof.finding import Finding, advice, summary
from bakery.proof.seal import find_leaks
from bakery.recipe.recipe import Allow, Seal, Step, load
from clouds.errors import CloudError
from launcher.command.tables import image_row
from launcher.images import ImageView, NoImageError, find_image, images
from tests import fake_guest
from tests.fake_cloud import FakeCloud
from tests.planted import PLANTED
from tests.planted_secrets import planted_secrets

pytestmark = pytest.mark.program


@dataclass(frozen=True)
class Disk:
    """A disk that holds just these files."""

    files: Mapping[str, bytes]

    def list(self) -> Mapping[str, int]:
        return {path: len(content) for path, content in self.files.items()}

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        return {path: self.files[path][:limit_bytes] for path in paths if path in self.files}


def leaks(files: Mapping[str, bytes], *, literals: Sequence[str] = ()) -> list[Finding]:
    """Return what is found on a disk that has just these files."""
    with tempfile.TemporaryDirectory() as scratch:
        return find_leaks(Disk(files), Path(scratch), literals=literals)


@pytest.mark.parametrize("secret", PLANTED)
def test_a_secret_stops_publishing(fake: FakeCloud, tmp_path: Path, secret: str) -> None:
    planted = PLANTED[secret]
    fake.guest("bake-*", fake_guest.leaves_secret(planted.path, planted.content))
    with pytest.raises(NotSealedError, match=planted.told):
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert [image.state for image in images(fake)] == ["candidate"]


OF_EVERY_SYSTEM = {
    "/etc/machine-id": b"",
    "/root/.ssh/authorized_keys": b"",
    "/etc/apt/sources.list.d/debian.sources": b"URIs: https://example.org/debian\n",
    "/opt/notebook/lib/python3.13/site-packages/tornado/test/test.key": b"-----BEGIN PRIVATE KEY-----\n",
    "/etc/ssl/certs/root.pem": b"-----BEGIN CERTIFICATE-----\n",
    "/etc/shadow": b"root:*:20000:0:99999:7:::\nnotebook:!:20000::::::\n",
}


def test_what_every_system_holds_is_no_leak() -> None:
    assert leaks(OF_EVERY_SYSTEM) == []


def test_a_password_of_an_account_is_a_leak() -> None:
    found = leaks({"/etc/shadow": b"root:$y$j9T$salt$hash:20000::::::\n"})
    assert list(map(str, found)) == ["/etc/shadow: password of a Unix account"]


def test_the_nonce_of_the_bake_is_a_leak() -> None:
    found = leaks({"/home/notebook/note": b"a 0123 b"}, literals=("0123",))
    assert list(map(str, found)) == ["/home/notebook/note: secret of this bake"]


def test_a_long_list_is_cut_and_says_so() -> None:
    told = summary([Finding(f"/tmp/{number}", "temporary file") for number in range(105)])
    assert told.endswith("and 5 more")
    assert len(told.splitlines()) == 102


@pytest.mark.parametrize(
    ("path", "entry"),
    [('/srv/ä "b"/.netrc', 'path = "/srv/ä \\"b\\"/.netrc"'), ("/srv/\udcff/.netrc", ""), ("/srv/\x1b[2J\n/.netrc", "")],
)
def test_the_advice_is_an_entry_that_a_recipe_can_have_and_a_terminal_can_print(path: str, entry: str) -> None:
    advised = advice([Finding(path, "netrc")], "mine", "mine-0.1.0-1")
    assert advised.encode().count(b"\x1b") == 0
    if entry:
        assert tomllib.loads(entry)["path"] == path
    assert ("[[seal.allow]]" in advised, entry in advised) == (bool(entry), True)


FILE, CONTENT = "/root/.netrc", b"machine example.org login me password secret\n"
"""A finding by the name of a file: one in its content needs the scanner, which takes a second of each bake."""
ALLOWED = Seal(allow=(Allow(path=FILE, reason="for tests"),))


@pytest.fixture
def unsealed(fake: FakeCloud, tmp_path: Path) -> ImageView:
    """Give the image of a bake that left a password on its disk."""
    fake.guest("bake-*", fake_guest.leaves_secret(FILE, CONTENT))
    with pytest.raises(NotSealedError):
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    [image] = images(fake)
    return image


def test_the_bake_says_what_to_do(fake: FakeCloud, tmp_path: Path) -> None:
    path, key = planted_secrets()["TLS key"]
    fake.guest("bake-*", fake_guest.leaves_secret(path, key))
    with pytest.raises(NotSealedError) as refused:
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert refused.value.message.count(path) == 1
    assert list(refused.value.log) == []
    [fingerprint] = re.findall("fingerprint ([0-9a-f]{16})", refused.value.message)
    for words in (f'fingerprint = "{fingerprint}"', "[[seal.allow]]", "Otherwise remove", "./inv delete-image minimal-"):
        assert words in refused.value.next_step


def test_an_unsealed_image_is_listed_as_such(fake: FakeCloud, unsealed: ImageView) -> None:
    assert image_row(unsealed)["state"] == "candidate (not sealed)"


def test_an_unsealed_image_is_not_launched_by_its_version_either(fake: FakeCloud, unsealed: ImageView) -> None:
    with pytest.raises(CloudError, match="is not sealed: findings of its bake: 1 "):
        find_image(fake, recipe="minimal", version=unsealed.version)
    with pytest.raises(NoImageError) as refused:
        find_image(fake, recipe="minimal")
    assert "--version" not in refused.value.next_step


def test_an_unsealed_image_becomes_stable_without_a_builder_once_its_finding_is_allowed(
    fake: FakeCloud, tmp_path: Path, unsealed: ImageView
) -> None:
    events = list[Event]()
    baked = bake(fake, replace(load("minimal"), seal=ALLOWED), BakeOptions(), home=tmp_path, on_event=events.append)
    assert baked.image == unsealed.name
    assert [one.name for one in events if isinstance(one, StepStarted)][:2] == ["inspect", "test"]  # no builder
    assert [image.state for image in images(fake)] == ["stable"]
    assert find_image(fake, recipe="minimal", version=unsealed.version).name == unsealed.name
    assert fake.attached(unsealed.name, "console.log") is not None  # of its build


def test_an_unsealed_image_stays_as_it_is_while_its_finding_is_not_allowed(
    fake: FakeCloud, tmp_path: Path, unsealed: ImageView
) -> None:
    with pytest.raises(NotSealedError, match=FILE):
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert [image.name for image in images(fake)] == [unsealed.name]


def test_a_step_that_removes_the_file_makes_a_new_image(fake: FakeCloud, tmp_path: Path, unsealed: ImageView) -> None:
    fake.guest("bake-*", fake_guest.OK)
    fixed = replace(load("minimal"), steps=(*load("minimal").steps, Step(name="clean", run=f"rm {FILE}")))
    assert bake(fake, fixed, BakeOptions(), home=tmp_path).image != unsealed.name
    assert sorted(image.state for image in images(fake)) == ["candidate", "stable"]


def test_a_finding_that_is_allowed_from_the_start_stops_nothing_and_changes_no_digest(fake: FakeCloud, tmp_path: Path) -> None:
    fake.guest("bake-*", fake_guest.leaves_secret(FILE, CONTENT))
    baked = bake(fake, replace(load("minimal"), seal=ALLOWED), BakeOptions(), home=tmp_path)
    assert bake(fake, load("minimal"), BakeOptions(), home=tmp_path) == replace(baked, reused=True, seconds=ANY)


def test_an_image_whose_search_did_not_finish_is_searched_again_and_not_built_again(fake: FakeCloud, tmp_path: Path) -> None:
    fake.guest("bake-*", fake_guest.OK)
    fake.fault("files", error=CloudError("the disk of this computer is full", next_step="Free some space."))
    with pytest.raises(NotSealedError, match="did not finish: the disk of this computer is full") as failed:
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert failed.value.next_step.startswith("Free some space.\n")
    [image] = images(fake)
    with pytest.raises(CloudError, match="is not sealed: it was not searched"):
        find_image(fake, recipe="minimal", version=image.version)
    assert bake(fake, load("minimal"), BakeOptions(), home=tmp_path).image == image.name
    assert [(one.name, one.state) for one in images(fake)] == [(image.name, "stable")]
    assert len([call for call in fake.calls if call.startswith("snapshot")]) == 1


def test_what_identifies_a_machine_makes_the_next_bake_build_a_new_image(fake: FakeCloud, tmp_path: Path) -> None:
    fake.guest("bake-*", fake_guest.leaves_secret("/etc/machine-id", b"0123456789abcdef0123456789abcdef\n"), fake_guest.OK)
    with pytest.raises(NotSealedError, match="/etc/machine-id: machine-id") as refused:
        bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert "[[seal.allow]]" not in refused.value.next_step
    [image] = images(fake)
    with pytest.raises(CloudError) as unused:
        find_image(fake, recipe="minimal", version=image.version)
    assert unused.value.next_step.startswith("To bake a new one: ./inv bake")
    assert "bake: would run: an image of the same content was not sealed" in plan(fake, load("minimal"), home=tmp_path)
    bake(fake, load("minimal"), BakeOptions(), home=tmp_path)
    assert [image.state for image in images(fake)] == ["candidate", "stable"]


def test_a_candidate_whose_findings_are_allowed_but_whose_test_fails_can_be_launched(
    fake: FakeCloud, tmp_path: Path, unsealed: ImageView
) -> None:
    fake.guest("test-*", fake_guest.fails_test("user"))
    with pytest.raises(TestsFailedError, match="user") as failed:
        bake(fake, replace(load("minimal"), seal=ALLOWED), BakeOptions(), home=tmp_path)
    assert f"--version {unsealed.version}" in failed.value.next_step
    assert find_image(fake, recipe="minimal", version=unsealed.version).name == unsealed.name


def test_plan_says_that_an_unsealed_image_is_checked_again(fake: FakeCloud, tmp_path: Path, unsealed: ImageView) -> None:
    planned = "\n".join(plan(fake, load("minimal"), home=tmp_path))
    assert f"bake: would check {unsealed.name} again" in planned
    assert f"then {unsealed.name} is stable" in planned
    assert "builder" not in planned
