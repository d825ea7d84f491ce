"""The verbs around a bake whose command was killed: `bakes`, `bake --resume`, `gc`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.recipe.recipe import load
from clouds import names
from clouds.client import Fate
from clouds.ledger import Ledger
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud, Killed
from tests.fake_world import World


@pytest.fixture
def killed(cloud: FakeCloud, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the id of a bake that was killed before it took its image."""
    home = Path(tmp_path)
    monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
    monkeypatch.setattr(names, "client_fate", lambda labels: Fate.DEAD)
    notes = []
    client, ledger = FakeCloud(world), Ledger(home / "ledger.sqlite3")

    def die() -> None:
        notes.extend(ledger.bakes(client.name))
        client._dead = True
        raise Killed

    client.fault("snapshot", error=die)
    with pytest.raises(Killed):
        bake(client, load("minimal"), BakeOptions(), home=home)
    (home / "bakes" / notes[0].id / "result.json").unlink()
    ledger.note_bake(client.name, notes[0].id, notes[0].order)  # Python has cleaned up; SIGKILL does not
    return str(notes[0].id)


def test_killed_bake_is_listed_resumed_and_listed_as_finished(killed: str, world: World) -> None:
    code, stdout, stderr = run("bakes")
    assert code == 0
    assert stdout.splitlines()[1].split()[:3] == [killed, "minimal", "killed"]
    assert stderr == f"the command of {killed} was killed; to continue the bake: ./inv bake --resume {killed}\n"
    code, stdout, stderr = run("bake", resume=killed)
    assert (code, "is baked and tested" in stdout) == (0, True), stderr
    (listed,) = json.loads(run("bakes", json=True)[1])
    assert (listed["id"], listed["state"], listed["holds"]) == (killed, "finished", "")
    code, _, stderr = run("bake", resume=killed)
    assert (code, stderr.splitlines()[-1]) == (2, "next: See: ./inv images")


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("typed", [{"force": True}, {"recipe": "minimal"}, {"cpus": "4"}, {"from_": "seal"}])
def test_resume_refuses_flags_that_would_change_the_order(killed: str, typed: dict[str, object]) -> None:
    code, _, stderr = run("bake", resume=killed, **typed)
    flag = next(iter(typed)).rstrip("_")
    assert (code, stderr.splitlines()[0]) == (2, f"error: --resume: cannot be combined with --{flag}")


def test_gc_says_what_it_keeps_for_a_resume(killed: str, world: World) -> None:
    code, _, stderr = run("gc", yes=True)
    assert code == 0
    assert f"machine {killed!r} is kept, since its bake can be resumed: ./inv bake --resume {killed}" in stderr
    assert list(world.machines) == [killed]
    assert run("gc", yes=True, bakes=True)[0] == 0
    assert not world.machines
    assert json.loads(run("bakes", json=True)[1]) == []


@pytest.mark.usefixtures("cloud")
def test_without_bakes_a_line_says_how_to_bake() -> None:
    assert run("bakes") == (0, "", "no bakes; to bake an image: ./inv bake\n")


@pytest.mark.usefixtures("cloud")
def test_result_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path))
    (tmp_path / "bakes/bake-nested").mkdir(parents=True)
    (tmp_path / "bakes/bake-nested/result.json").write_text("[" * 100_000)
    assert run("bakes") == (0, "", "no bakes; to bake an image: ./inv bake\n")
