"""The key of a layer holds all that makes a disk; the choice among layers and its reasons are functions of plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.layers import Link, Reuse, Shape, chain, choose, explain, reached, reuse, to_forget
from bakery.recipe.recipe import Builder, Copy, Machine, Python, Recipe, Step, Test
from bakery.script import render as rendering
from bakery.script.render import Script, render
from bakery.script.resolve import Resolution
from clouds.capabilities import Layer
from clouds.driver import Base, BaseImage
from clouds.errors import UsageError

BASE = BaseImage("base-1234", "us", Base("trixie", "amd64"))
RESOLUTION = Resolution({"packages": ("numpy==2.4.0",)}, "2026-01-02")


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "data.csv").write_text("1,2\n")
    steps = (
        Step(name="tools", apt=("git",)),
        Step(name="packages", python=Python(packages=("numpy",))),
        Step(name="files", copy=(Copy(**{"from": "data.csv", "to": "/opt/"}),)),
        Step(name="last", run="true"),
    )
    return Recipe(name="geo", folder=tmp_path, steps=steps)


def keys(recipe: Recipe, resolution: Resolution = RESOLUTION, base: BaseImage = BASE) -> list[str]:
    return [link.key for link in chain(render(recipe, resolution), base)]


def equal_links(first: list[str], second: list[str]) -> int:
    """Return how many leading keys are equal, and check that no later ones are."""
    same = [one == other for one, other in zip(first, second, strict=False)]
    assert same == sorted(same, reverse=True)
    return sum(same)


def test_packages_in_the_base_do_not_depend_on_the_time_of_the_resolution(tmp_path: Path) -> None:
    """So recipes that begin with the same such steps share their layers, unless the base could not take the packages."""
    recipe = Recipe(
        name="geo", folder=tmp_path, steps=(Step(name="tools", apt=("git",), in_base=True), Step(name="c", apt=("g++",)))
    )
    later = replace(RESOLUTION, refreshed="2026-02-03")
    for packages, equal in ((("git",), 3), ((), 2)):
        base = replace(BASE, base=replace(BASE.base, packages=packages))
        assert equal_links(keys(recipe, base=base), keys(recipe, later, base)) == equal


def with_step(recipe: Recipe, at: int, step: Step) -> Recipe:
    return replace(recipe, steps=(*recipe.steps[:at], step, *recipe.steps[at + 1 :]))


def test_there_is_a_link_for_each_checkpoint_but_the_last(recipe: Recipe) -> None:
    links = chain(render(recipe, RESOLUTION), BASE)
    assert [link.step for link in links] == ["boot", "prepare", "tools", "packages", "files", "last"]
    assert all(len(digest) == 32 and set(digest) <= set("0123456789abcdef") for link in links for digest in (link.own, link.key))


CHANGES: dict[str, tuple[Callable[[Recipe], Recipe], int]] = {
    "text": (lambda recipe: with_step(recipe, 3, Step(name="last", run="false")), 5),
    "name": (lambda recipe: with_step(recipe, 3, replace(recipe.steps[3], name="end")), 5),
    "packages": (lambda recipe: with_step(recipe, 0, Step(name="tools", apt=("git", "vim"))), 2),
    "order": (lambda recipe: replace(recipe, steps=(*recipe.steps[:2], recipe.steps[3], recipe.steps[2])), 4),
    "one more before": (lambda recipe: replace(recipe, steps=(Step(name="new", run="true"), *recipe.steps)), 2),
    "one less": (lambda recipe: replace(recipe, steps=recipe.steps[1:]), 2),
    "one more behind": (lambda recipe: replace(recipe, steps=(*recipe.steps, Step(name="new", run="true"))), 6),
}


@pytest.mark.parametrize(("change", "kept"), CHANGES.values(), ids=CHANGES)
def test_a_change_of_a_step_makes_other_layers_of_it_and_of_all_behind_it(
    recipe: Recipe, change: Callable[[Recipe], Recipe], kept: int
) -> None:
    assert equal_links(keys(recipe), keys(change(recipe))) == kept


def test_a_file_that_is_copied_counts_with_its_content_and_its_mode(recipe: Recipe) -> None:
    before = keys(recipe)
    (recipe.folder / "data.csv").write_text("1,3\n")
    assert equal_links(before, keys(recipe)) == 4
    (recipe.folder / "data.csv").write_text("1,2\n")
    assert keys(recipe) == before
    (recipe.folder / "data.csv").chmod(0o755)
    assert equal_links(before, keys(recipe)) == 4


def test_versions_count_and_the_time_of_the_last_refresh_where_there_is_no_lock(recipe: Recipe) -> None:
    assert equal_links(keys(recipe), keys(recipe, replace(RESOLUTION, pins={"packages": ("numpy==2.4.1",)}))) == 3
    assert equal_links(keys(recipe), keys(recipe, replace(RESOLUTION, refreshed="2026-01-03"))) == 2


@pytest.mark.parametrize("base", [replace(BASE, id="base-5678"), replace(BASE, owner="somebody")])
def test_nothing_of_one_base_is_reused_on_another(recipe: Recipe, base: BaseImage) -> None:
    assert not set(keys(recipe)) & set(keys(recipe, base=base))


def test_another_bakehouse_reuses_nothing(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    before, as_it_was = keys(recipe), rendering.frame
    monkeypatch.setattr("bakery.layers.frame", lambda *a, **b: Script(as_it_was(*a, **b).text + "# better\n", ()))
    assert equal_links(before, keys(recipe)) == 0


def test_what_leaves_the_disk_as_it_is_changes_no_key(recipe: Recipe) -> None:
    other = replace(
        recipe,
        name="other",
        description="another",
        builder=Builder(cpus=8, memory_mb=999, disk_gb=20, deadline_min=5),
        machine=Machine(cpus=7, disk_gb=30),
        tests=(Test(name="works", run="true"),),
    )
    assert keys(other) == keys(recipe)


STEPS = ("boot", "prepare", "one", "two", "seal")
CHAIN = tuple(Link(step, f"own of {step}", f"key of {step}") for step in STEPS[:-1])
ALL = reuse(STEPS)


def layer(step: str, *, parent: str = "", disk_gb: int = 10, cpus: int = 2, **fields: str) -> Layer:
    found = Layer(f"id of {step}", f"key of {step}", step, f"own of {step}", parent, 0.0, 5_000_000, disk_gb, cpus, 4096)
    return replace(found, **fields)  # type: ignore[arg-type]


def kept(*steps: str) -> list[Layer]:
    """Return the layers of these steps, each on the one before."""
    return [layer(step, parent=f"key of {before}") for before, step in zip(("base", *steps), steps, strict=False)]


def chosen(layers: list[Layer], reuse: Reuse = ALL, disk_gb: int = 10) -> str:
    found = choose(CHAIN, layers, reuse, Shape(disk_gb, 2, 4096))
    return found.step if found else ""


def test_a_bake_starts_from_the_longest_way_that_is_done(recipe: Recipe) -> None:
    assert chosen([]) == ""
    assert chosen(kept("boot", "prepare", "one")) == "one"
    assert chosen([layer("prepare"), layer("boot")]) == "prepare"
    assert chosen([layer("two", key="key of another")]) == ""


def test_a_layer_with_a_larger_disk_than_the_builders_is_not_taken() -> None:
    layers = [layer("boot"), layer("prepare", disk_gb=11)]
    assert chosen(layers) == "boot"
    assert chosen(layers, disk_gb=11) == "prepare"


def test_of_equal_layers_the_one_is_taken_whose_memory_fits() -> None:
    ours, other = layer("boot", id="ours"), layer("boot", id="other", cpus=8)
    for layers in ([ours, other], [other, ours]):
        found = choose(CHAIN, layers, reuse([link.step for link in CHAIN]), Shape(10, 2, 4096))
        assert found == ours


@pytest.mark.parametrize(
    ("asked", "step"),
    [
        ({}, "two"),
        ({"from_step": "two"}, "one"),
        ({"from_step": "prepare"}, "boot"),
        ({"from_step": "boot"}, ""),
        ({"from_step": "seal"}, "two"),
        ({"no_cache": True}, "boot"),
        ({"no_cache": True, "from_step": "two"}, "boot"),
        ({"no_cache": True, "from_step": "boot"}, ""),
    ],
)
def test_its_user_says_from_where_on_steps_are_repeated(asked: dict[str, bool | str], step: str) -> None:
    assert chosen(kept("boot", "prepare", "one", "two"), reuse(STEPS, **asked)) == step  # type: ignore[arg-type]


def test_a_step_that_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"--from: unknown step 'prepar' \(known: boot, prepare, one, two, seal\)") as raised:
        reuse(STEPS, from_step="prepar")
    assert raised.value.next_step == "Did you mean prepare?"


def test_a_key_tells_how_much_of_the_chain_a_disk_holds() -> None:
    assert [reached(CHAIN, key) for key in ("key of boot", "key of two", "another", "")] == [1, 4, 0, 0]


def test_what_is_repeated_is_forgotten_with_all_that_follows_from_it() -> None:
    foreign = layer("other", parent="key of one")
    layers = [*kept("boot", "prepare", "one", "two"), foreign]
    found = [one.step for one in to_forget(CHAIN, layers, reuse(STEPS, from_step="one"))]
    assert sorted(found) == ["one", "other", "two"]


def test_what_follows_from_a_layer_that_is_not_kept_is_forgotten_too() -> None:
    layers = [*kept("boot", "prepare"), layer("other", parent="key of one"), layer("higher", parent="key of other")]
    assert [one.step for one in to_forget(CHAIN, layers, reuse(STEPS, from_step="one"))] == ["other", "higher"]


def test_nothing_is_forgotten_when_nothing_is_asked_for() -> None:
    assert to_forget(CHAIN, kept("boot", "prepare"), ALL) == []
    assert to_forget(CHAIN, kept("boot", "prepare"), reuse(STEPS, from_step="seal")) == []


def outlook(layers: list[Layer], start: int, reuse: Reuse = ALL) -> dict[str, str]:
    found = explain(CHAIN, layers, reuse, start=start, what="in something larger")
    return {one.step: ("reused: " if one.reused else "runs: ") + one.why for one in found}


def test_each_step_is_explained() -> None:
    found = outlook(kept("boot", "prepare"), 2)
    assert list(found) == list(STEPS)
    assert found["prepare"].startswith("reused: layer last used 19")
    assert found["prepare"].endswith(", 5 MB")
    assert found["one"] == "runs: no cached layer"
    assert found["two"] == "runs: an earlier step runs"
    assert found["seal"] == "runs: last step of every bake"


def test_a_step_without_a_layer_of_its_own_is_in_that_of_a_later_one() -> None:
    assert outlook([layer("prepare")], 2)["boot"] == "reused: in something larger"


def test_a_step_that_differs_from_a_layer_of_its_name_is_told_from_one_that_is_new() -> None:
    old = layer("one", parent="key of prepare", own="another", key="another")
    assert outlook([*kept("boot", "prepare"), old], 2)["one"].startswith("runs: it differs from the layer last used 19")
    elsewhere = replace(old, parent="key of something else")
    assert outlook([*kept("boot", "prepare"), elsewhere], 2)["one"] == "runs: no cached layer"


def test_a_layer_that_does_not_fit_and_a_wish_are_reasons_too() -> None:
    assert outlook([layer("boot"), layer("prepare", disk_gb=40)], 1)["prepare"] == "runs: its layer needs a disk of 40 GB"
    assert outlook(kept("boot", "prepare", "one"), 2, reuse(STEPS, from_step="one"))["one"] == "runs: --from one"
    assert outlook(kept("boot", "prepare"), 1, reuse(STEPS, no_cache=True))["prepare"] == "runs: --no-cache"
