"""`./inv doctor`: each check is a finding, whatever is broken."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import clouds
from bakery import doctor
from clouds import caller, names
from clouds.accounts import account_key
from clouds.driver import Base, BootSpec
from clouds.errors import CloudError, DeniedError, ThrottledError
from clouds.findings import Check, Finding, Health, Size, ok
from clouds.home import home
from clouds.ledger import Ledger
from clouds.lifecycle import settle
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image


def fails(error: BaseException) -> Check:
    def check() -> list[Finding]:
        raise error

    return check


class Checked(FakeCloud):
    """A cloud with checks of its own."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.found: dict[str, Check] = {}

    def checks(self, largest: Size) -> dict[str, Check]:
        return self.found


@pytest.fixture
def cloud(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checked]:
    """Give a cloud that verbs use, and a computer that can look outside."""
    made = Checked(world)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: made)
    monkeypatch.setattr(caller, "look_outside", lambda: ("203.0.113.7", time.time()))
    yield made


def rows(**typed: str | bool) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the exit code, and the last finding of each check."""
    code, stdout, stderr = run("doctor", json=True, **typed)
    assert stderr == ""
    return code, {row["check"]: row for row in json.loads(stdout)}


def test_computer_and_cloud_without_a_problem_exit_with_0(cloud: Checked) -> None:
    cloud.found = {"credentials": lambda: ok("accepted")}
    code, found = rows()
    assert code == 0
    assert {row["state"] for row in found.values()} == {"ok"}
    assert list(found) == ["settings", "programs", "disk", "network", "credentials", "images", "leftovers"]


def test_a_problem_is_printed_with_what_to_do_and_exits_with_1(cloud: Checked) -> None:
    cloud.found = {"credentials": fails(DeniedError("no credentials", next_step="Log in."))}
    code, stdout, _ = run("doctor")
    assert code == 1
    assert "problem  local: credentials: no credentials\n         next: Log in.\n" in stdout
    assert "images" not in stdout  # they could not be listed either


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ThrottledError("no answer"), "unknown"),
        (CloudError("refused"), "problem"),
        (OSError(13, "Permission denied", "/x"), "problem"),
        (ValueError("a bug"), "unknown"),
        (SystemExit(3), "unknown"),
        (RecursionError(), "unknown"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_check_that_fails_is_a_finding_and_the_others_go_on(cloud: Checked, error: BaseException, state: str) -> None:
    cloud.found = {"first": lambda: ok("fine"), "second": fails(error)}
    _, found = rows()
    assert found["second"]["state"] == state
    assert found["leftovers"]["state"] == "ok"


def test_a_check_that_does_not_end_is_left_behind_at_its_deadline() -> None:
    never = threading.Event()
    [found] = doctor.within(lambda: ok(str(never.wait())), 0.01)
    never.set()
    assert (found.state, found.text) == (Health.UNKNOWN, "no result after 0.01 s")


@pytest.mark.parametrize("text", ["cloud = ", "[gcp]\nproject = 3\n", 'cloud = "mars"\n', "\xff"])
def test_settings_that_cannot_be_read_are_a_problem(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "look_outside", lambda: ("203.0.113.7", time.time()))
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("BAKEHOUSE_CONFIG", str(tmp_path / "config.toml"))
    code, found = rows()
    assert (code, found["settings"]["state"]) == (1, "problem")


def test_home_that_is_no_folder_is_a_problem(cloud: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "file"))
    code, found = rows()
    assert (code, found["disk"]["state"]) == (1, "problem")
    assert "BAKEHOUSE_HOME" in found["disk"]["next"]


def test_ledger_that_is_damaged_is_a_finding(cloud: Checked, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home/ledger.sqlite3").write_bytes(b"no database" * 100)
    assert rows()[1]["leftovers"]["state"] in ("problem", "unknown")


def test_a_clock_that_is_off_is_a_problem(cloud: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "look_outside", lambda: ("203.0.113.7", time.time() + 600))
    _, found = rows()
    assert found["network"]["state"] == "problem"
    assert found["network"]["text"].endswith("s slow: clouds refuse requests of another time")


def test_computer_whose_address_is_unknown_is_a_warning(cloud: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "look_outside", fails(CloudError("cannot look up the address")))
    code, found = rows()
    assert (code, found["network"]["state"]) == (0, "warning")


def test_leftovers_are_warnings_with_the_command_that_removes_them(cloud: Checked) -> None:
    labels = {**names.client_labels(), "role": "builder", "client-pid": "1", "client-start": "1", "machine": "bake-left"}
    base = cloud.resolve_base(Base("trixie", "amd64")).id
    settle(
        cloud,
        cloud.boot(
            BootSpec(name="bake-left", token="t", source=base, cpus=1, memory_mb=1024, disk_gb=10, labels=labels, deadline_s=0)
        ),
    )
    _, found = rows()
    assert (found["leftovers"]["state"], found["leftovers"]["next"]) == ("warning", "Run: ./inv gc")
    _, found = rows(cloud="gcp.research")
    assert found["leftovers"]["next"] == "Run: ./inv gc --cloud gcp.research"


def test_what_a_killed_bake_holds_is_a_warning_with_the_command_that_resumes_it(cloud: Checked) -> None:
    bake = {"role": "builder", "bake": "bake-1", "expires": str(int(time.time()) + 3600)}
    labels = {**names.client_labels(), "client-pid": "1", "client-start": "1", **bake}
    put_image(cloud.world, "minimal", "0.1.0-1")
    image = next(iter(cloud.world.images.values()))
    image.labels = {**labels, "role": "image-in-progress"}
    Ledger(home() / "ledger.sqlite3").note_bake(account_key(cloud), "bake-1", {"labels": labels})
    _, found = rows()
    advice = "Run: ./inv bake --resume bake-1; to delete it: ./inv gc --bakes"
    assert (found["leftovers"]["state"], found["leftovers"]["next"]) == ("warning", advice)


def test_unknown_cloud_is_a_wrong_use() -> None:
    code, stdout, stderr = run("doctor", cloud="mars")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: unknown cloud 'mars'")


def test_an_old_image_is_a_warning_unless_its_recipe_has_a_newer_one(cloud: Checked) -> None:
    put_image(cloud.world, "minimal", "0.1.0-1", days=40)
    _, found = rows()
    assert found["images"]["state"] == "warning"
    assert "image 'minimal-0.1.0-1' is" in found["images"]["text"]
    assert found["images"]["next"] == "Run: ./inv bake --recipe minimal --refresh"
    put_image(cloud.world, "minimal", "0.1.0-2")
    cloud.world.images["minimal-0.1.0-2"].created_at = time.time()
    assert rows()[1]["images"]["state"] == "ok"


def test_region_that_a_cloud_does_not_have_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "look_outside", lambda: ("203.0.113.7", time.time()))
    code, stdout, _ = run("doctor", cloud="local", region="mars")
    assert code == 1
    assert "problem  local: settings: --region: not supported by cloud 'local'" in stdout
