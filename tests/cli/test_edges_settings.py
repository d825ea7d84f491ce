"""Every verb with a settings file, a home or a default cloud that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import clouds
from clouds import settings
from launcher.command.flags import Verb
from tests.cli.edges import FAILING, FAULTS, run, typed_for, without_privileges
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

CONTENTS = {
    "not a table": "gcp = 3",
    "a list of tables": "[[gcp]]\nproject = 'mine'",
    "unknown cloud": "cloud = 'nimbus'",
    "number for a cloud": "cloud = 3",
    "unknown setting": "[aws]\nversion = 99",
    "number for a setting": "[gcp]\nproject = 3",
    "empty setting": "[gcp]\nproject = ''",
    "table for a setting": "[gcp.project]\nname = 'mine'",
    "wrong value": "[gcp]\nzone = 'nowhere'",
    "account of no cloud": "[nimbus.mine]\nproject = 'mine'",
    "twice": "cloud = 'gcp'\ncloud = 'aws'",
    "half a line": "cloud = 'gc",
    "nested": "a = " + "[" * 2000,
    "another release": "version = 99\n[clouds.gcp]\nproject = 'mine'",
}
HARMLESS = ("empty", "read-only")
"""What may happen to a settings file without harm."""
NAMES = ("nimbus", "gpc", "gcp.nobody", "GCP", ".", " ", "a" * 5000, "\x1b[2J", "local.mine")
"""Names of clouds that there are not."""
USERS = [verb for verb in FAILING.values() if any(flag.name == "cloud" for flag in verb.flags)]


def _in_a_file(path: Path) -> Path:
    path.write_text("of the user")
    return path / "home"


def _not_writable(path: Path) -> Path:
    path.mkdir(mode=0o500)
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


HOMES: dict[str, Callable[[Path], Path]] = {
    "a file": lambda path: _in_a_file(path).parent,
    "in a file": _in_a_file,
    "in a folder that is not writable": lambda path: _not_writable(path) / "home",
    "a loop": _loop,
    "too long": lambda path: path / ("a" * 5000),
    "of the kernel": lambda _path: Path("/proc/nowhere"),
}
CASES = len(USERS) * (len(CONTENTS) + len(FAULTS) + len(HOMES) + len(NAMES))


@pytest.fixture(autouse=True)
def connected(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a verb that has read its settings use the fake cloud."""
    connect = clouds.connect

    def fake(name: str | None = None, given: Mapping[str, str] = {}) -> FakeCloud:
        settings.load(clouds.default() if name is None else name, {})
        connect("local")
        return FakeCloud(world)

    monkeypatch.setattr(clouds, "connect", fake)
    monkeypatch.chdir(tmp_path)


def refused(verb: Verb, case: str) -> list[str]:
    """Run a verb that must be refused as a wrong use; return what is wrong with its end."""
    with without_privileges():
        ended = run(verb, **typed_for(verb, {"source": "lab:a"}, {"recipe": "minimal"}))
    found = ended.problems() + ([] if ended.code == 2 else ["not refused as a wrong use"])
    return [f"{case}: {', '.join(found)}: {ended}"] if found else []


@pytest.mark.matrix(sample=4, edges=[])
@pytest.mark.parametrize("verb", USERS, ids=lambda verb: verb.name)
def test_settings_file(verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[str] = []
    for case, text in CONTENTS.items():
        file = tmp_path / case
        file.write_text(text)
        monkeypatch.setenv("BAKEHOUSE_CONFIG", str(file))
        wrong += refused(verb, case)
        assert file.read_text() == text
    for case, damage in FAULTS.items():
        file = tmp_path / f"{case}.toml"
        file.write_text('[gcp]\nproject = "a-project-with-a-long-name"\n')
        damage(file)
        monkeypatch.setenv("BAKEHOUSE_CONFIG", str(file))
        wrong += [] if case in HARMLESS else refused(verb, case)
    assert not wrong, "\n".join(wrong)


@pytest.mark.matrix(sample=4, edges=[])
@pytest.mark.parametrize("verb", USERS, ids=lambda verb: verb.name)
def test_home(verb: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[str] = []
    for number, (case, make) in enumerate(HOMES.items()):
        monkeypatch.setenv("BAKEHOUSE_HOME", str(make(tmp_path / str(number))))
        wrong += refused(verb, case)
    assert not wrong, "\n".join(wrong)


@pytest.mark.matrix(sample=4, edges=[])
@pytest.mark.parametrize("verb", USERS, ids=lambda verb: verb.name)
def test_default_cloud(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[str] = []
    for name in NAMES:
        monkeypatch.setenv("BAKEHOUSE_CLOUD", name)
        wrong += refused(verb, name[:20])
    assert not wrong, "\n".join(wrong)
