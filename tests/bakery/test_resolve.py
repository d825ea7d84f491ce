"""Resolving: uv itself, with packages from a folder in place of the network."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from bakery.recipe import Base, Recipe, load
from bakery.resolve import PYTHON_OF, Resolution, resolve
from clouds.errors import BakehouseError, RecipeError

PACKAGES = {"apple": ("1.0", "2.0"), "banana": ("1.0", "1.5"), "cherry": ("1.0",)}
NEEDS = {"cherry": ("apple",)}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let uv find these packages and no others: a package index that is a folder."""
    folder = tmp_path / "index"
    for name, versions in PACKAGES.items():
        for version in versions:
            publish(folder, name, version)
    for key, value in {"UV_DEFAULT_INDEX": folder.as_uri(), "UV_NO_CONFIG": "1"}.items():
        monkeypatch.setenv(key, value)
    return folder


def publish(folder: Path, name: str, version: str) -> None:
    """Write a wheel, and the page that lists those of its package."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in NEEDS.get(name, ()))
    with zipfile.ZipFile(folder / name / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in sorted((folder / name).glob("*.whl")))
    (folder / name / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


def recipe(tmp_path: Path, *steps: str) -> Recipe:
    """Return a recipe with these steps, in TOML."""
    body = "".join(f'[[steps]]\nname = "step-{number}"\n{step}\n' for number, step in enumerate(steps, 1))
    (tmp_path / "fruit.toml").write_text(f'name = "fruit"\n{body}')
    return load(tmp_path / "fruit.toml")


def python(*packages: str) -> str:
    return f"python = {{ packages = {list(packages)!r} }}"


@pytest.mark.usefixtures("index")
def test_every_package_has_a_version_also_those_that_come_along(tmp_path: Path) -> None:
    found = resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False)
    assert found == Resolution({"step-1": ("apple==2.0", "cherry==1.0")})


@pytest.mark.usefixtures("index")
def test_steps_are_resolved_together_and_each_gets_what_is_new(tmp_path: Path) -> None:
    found = resolve(recipe(tmp_path, python("cherry"), python("apple<2", "banana")), tmp_path / "kept", refresh=False)
    assert found.pins == {"step-1": ("apple==1.0", "cherry==1.0"), "step-2": ("banana==1.5",)}


def test_what_is_kept_is_used_without_asking_anybody(tmp_path: Path, index: Path) -> None:
    wanted = recipe(tmp_path, python("apple"))
    first = resolve(wanted, tmp_path / "kept", refresh=False)
    publish(index, "apple", "3.0")
    assert resolve(wanted, tmp_path / "kept", refresh=False) == first
    index.rename(tmp_path / "gone")
    assert resolve(wanted, tmp_path / "kept", refresh=False) == first


def test_refresh_resolves_anew(tmp_path: Path, index: Path) -> None:
    wanted = recipe(tmp_path, python("apple"))
    resolve(wanted, tmp_path / "kept", refresh=False)
    publish(index, "apple", "3.0")
    assert resolve(wanted, tmp_path / "kept", refresh=True).pins == {"step-1": ("apple==3.0",)}


def test_another_package_leaves_the_others_as_they_were(tmp_path: Path, index: Path) -> None:
    resolve(recipe(tmp_path, python("apple")), tmp_path / "kept", refresh=False)
    publish(index, "apple", "3.0")
    assert resolve(recipe(tmp_path, python("apple", "banana")), tmp_path / "kept", refresh=False).pins == {
        "step-1": ("apple==2.0", "banana==1.5")
    }


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(("package", "told"), [("nosuch", "was not found"), ("banana>=9", "banana")])
def test_a_package_that_does_not_exist_is_told_with_its_step(tmp_path: Path, package: str, told: str) -> None:
    wanted = recipe(tmp_path, python("apple"), python(package))
    with pytest.raises(RecipeError, match=rf"recipe fruit: step step-2: package {package[:6]}.*{told}"):
        resolve(wanted, tmp_path / "kept", refresh=False)


def test_versions_that_do_not_fit_together_are_told(tmp_path: Path, index: Path) -> None:
    publish(index, "apple", "0.1")
    with pytest.raises(RecipeError, match="step step-1: package apple"):
        resolve(recipe(tmp_path, python("apple>1"), python("apple<1")), tmp_path / "kept", refresh=False)


def test_an_index_that_does_not_answer_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BakehouseError, match="could not be looked up") as raised:
        resolve(recipe(tmp_path, python("apple")), tmp_path / "kept", refresh=False)
    assert not isinstance(raised.value, RecipeError)
    assert "network" in raised.value.next_step


def test_no_network_is_not_called_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"UV_OFFLINE": "1", "UV_NO_CONFIG": "1"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BakehouseError, match="could not be looked up") as raised:
        resolve(recipe(tmp_path, python("apple")), tmp_path / "kept", refresh=False)
    assert not isinstance(raised.value, RecipeError)


def test_a_recipe_without_packages_needs_nobody(tmp_path: Path) -> None:
    assert resolve(recipe(tmp_path, 'run = "true"'), tmp_path / "kept", refresh=False) == Resolution({})


def test_apt_has_no_lock_so_that_the_time_of_the_last_refresh_counts(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, 'apt = ["git"]')
    first = resolve(wanted, tmp_path / "kept", refresh=False)
    assert first.refreshed
    assert resolve(wanted, tmp_path / "kept", refresh=False) == first


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"needs": 1}'])
@pytest.mark.usefixtures("index")
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/fruit.json").write_text(content)
    assert resolve(recipe(tmp_path, python("apple")), tmp_path / "kept", refresh=False).pins == {"step-1": ("apple==2.0",)}


def test_the_python_of_every_suite_is_known() -> None:
    assert set(PYTHON_OF) == set(get_args(get_type_hints(Base)["suite"]))
