"""Commands on computers that the local cloud does not support: they exit at once with an error; those for other clouds work."""

from __future__ import annotations

import json

import pytest

from clouds.client import process_start
from clouds.home import home
from clouds.local.host import programs
from clouds.local.host.computer import Computer
from tests.cli.verbs import run
from tests.fake_remote import RemoteCloud

MAC = Computer("Darwin", "arm64")


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a Mac for the local cloud's checks of its computer."""
    monkeypatch.setattr(programs, "this_computer", lambda: MAC)


@pytest.mark.parametrize("verb", ["bake", "launch", "plan"])
def test_local_cloud_is_refused_before_anything_is_made(mac: None, verb: str) -> None:
    code, stdout, stderr = run(verb, recipe="minimal")
    assert code == 1, stderr
    error, step = stderr.splitlines()
    assert stdout == ""
    assert error == "error: the local cloud needs Linux on x86-64; this computer runs macOS on arm64"
    assert step.startswith("next: Use a cloud: --cloud gcp (docs/clouds.md), ")
    assert not (home() / "resolved").exists()
    assert not (home() / "bakes").exists()


@pytest.mark.parametrize("verb", ["machines", "images"])
def test_local_resources_are_listed_all_the_same(mac: None, verb: str) -> None:
    assert run(verb, json=True)[:2] == (0, "[]\n")


def test_machine_of_another_cloud_is_launched_used_stopped_and_deleted_from_a_mac(far: RemoteCloud, mac: None) -> None:
    code, stdout, stderr = run("launch", name="two", json=True)
    assert code == 0, stderr
    url = json.loads(stdout)["url"]
    assert url.startswith("http://127.0.0.1:")
    tunnel = json.loads((home() / "ssh/tunnels/faraway/two.json").read_text())
    assert tunnel["start"] == process_start(tunnel["pid"]) != 0
    assert {machine["name"]: machine["url"] for machine in json.loads(run("machines", json=True)[1])}["two"] == url
    assert json.loads((home() / "ssh/tunnels/faraway/two.json").read_text()) == tunnel
    assert run("stop", name="two")[0] == 0
    assert process_start(tunnel["pid"]) == 0
    assert run("start", name="two")[:2] == (0, f"  url       {url}\n")
    assert run("delete", name="two", yes=True)[0] == 0
    assert run("gc", yes=True)[0] == 0
