"""Layers are removed down to a size, least recently used first, and never one that is needed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from clouds.capabilities import Layer
from clouds.driver import BootSpec
from clouds.errors import UsageError
from clouds.ledger import Ledger
from launcher.cached_layers import limit_bytes, prune
from launcher.command.cleanup import tidy_up
from launcher.command.terminal import Terminal
from tests.fake_layers import LAYER_BYTES, LayeredCloud
from tests.fake_world import Kept, World

ON = {"a": "", "b": "a", "c": "b", "x": "a"}
"""Layers, least recently used first, and the layer below each."""


@pytest.fixture
def cloud(world: World) -> LayeredCloud:
    for used_at, (name, parent) in enumerate(ON.items()):
        layer = Layer(f"layer-{name}", name, name, name, parent, float(used_at), LAYER_BYTES, 10, 1, 1024)
        world.layers[layer.id] = Kept(layer, {}, on=f"layer-{parent}")
    return LayeredCloud(world)


def left(cloud: LayeredCloud) -> str:
    return "".join(sorted(kept.layer.step for kept in cloud.world.layers.values()))


@pytest.mark.parametrize(("keep", "stay"), [(4, "abcx"), (3, "abx"), (2, "ax"), (1, "a"), (0, ""), (2.5, "ax")])
def test_least_recently_used_layer_is_removed_first_unless_others_are_on_top(cloud: LayeredCloud, keep: float, stay: str) -> None:
    gone = prune(cloud, int(keep * LAYER_BYTES))
    assert left(cloud) == stay
    assert len(gone) == 4 - len(stay)


def test_layer_of_a_builder_is_kept_with_all_below_it(cloud: LayeredCloud) -> None:
    spec = BootSpec(name="m", token="t", source="layer-b", cpus=1, memory_mb=1, disk_gb=10, labels={}, deadline_s=0)
    cloud.boot(spec)
    assert [layer.step for layer in prune(cloud, 0)] == ["c", "x"]
    assert prune(cloud, 0) == []
    assert left(cloud) == "ab"


def test_limit_is_20_gb_unless_the_environment_sets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limit_bytes() == 20 * 10**9
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", "0.5")
    assert limit_bytes() == 500_000_000
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", "-1")
    with pytest.raises(UsageError, match=r"BAKEHOUSE_LAYERS_GB: '-1' is too small \(write"):
        limit_bytes()


def collect(
    cloud: LayeredCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_gb: float | None, *, yes: bool = True
) -> str:
    monkeypatch.setattr("clouds.connect", lambda _name=None: cloud)
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    assert tidy_up(None, Ledger(tmp_path / "ledger.sqlite3"), terminal, keep_gb=keep_gb, yes=yes) == 0
    return terminal.stderr.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_gc_reports_the_size_of_layers_and_keeps_them(cloud: LayeredCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = collect(cloud, tmp_path, monkeypatch, None, yes=False)
    assert "cached layers (4, 4.0 GB) are kept; to delete them: ./inv gc --layers\n" in told
    assert left(cloud) == "abcx"


def test_gc_with_layers_removes_them_after_asking(cloud: LayeredCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no terminal to ask on"):
        collect(cloud, tmp_path, monkeypatch, 0.0, yes=False)
    told = collect(cloud, tmp_path, monkeypatch, 0.0)
    assert "delete cached layers (4, 4.0 GB), except those in use\n" in told
    assert told.endswith("\nremoved cached layers (4, 4.0 GB)\n")
    assert "nothing to clean up" not in told
    assert left(cloud) == ""


def test_gc_removes_layers_down_to_a_size_and_asks_nothing_where_none_is_to_go(
    cloud: LayeredCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "down to 3 GB" in collect(cloud, tmp_path, monkeypatch, 3.0)
    assert "are kept" in collect(cloud, tmp_path, monkeypatch, 3.0, yes=False)
    assert left(cloud) == "abx"
