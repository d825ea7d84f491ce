"""Projects with a uv.lock: locked by uv itself, and taken over as they are, with packages from a folder in place of the network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from bakery.errors import RecipeError
from bakery.recipe.recipe import Recipe
from bakery.script.local import SOURCES, TEMPORARY, Local
from bakery.script.project import locked_pin
from bakery.script.render import render
from bakery.script.resolve import Resolution, resolve
from bakery.script.wheels import fits, fitting
from clouds.errors import BakehouseError
from tests.bakery.script.test_requirements_files import installed, lib, unpacked
from tests.bakery.script.test_resolve import PACKAGES, hash_of, publish, python, recipe, repository, serving, sha256

pytestmark = pytest.mark.program

PROJECT = 'python = { project = "." }'
BACKEND = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let uv find the packages of test_resolve and no others, and this Python."""
    folder = tmp_path / "index"
    for name, versions in PACKAGES.items():
        for version in versions:
            publish(folder, name, version)
    settings = {"UV_DEFAULT_INDEX": folder.as_uri(), "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0", "UV_PYTHON": sys.executable}
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    return folder


def write(folder: Path, dependencies: str = '"cherry"', more: str = "", *, requires: str = ">=3.11") -> Path:
    """Write the pyproject.toml of a project."""
    folder.mkdir(parents=True, exist_ok=True)
    head = f'[project]\nname = "Lab"\nversion = "1.0"\nrequires-python = "{requires}"\ndependencies = [{dependencies}]\n'
    (folder / "pyproject.toml").write_text(head + more)
    return folder


def lock(folder: Path) -> Path:
    """Let uv lock a project, as its author does."""
    done = subprocess.run([find_uv_bin(), "lock", "--quiet"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def recipe_in(folder: Path, *steps: str) -> Recipe:
    return recipe(folder, *(steps or (PROJECT,)))


def resolved(folder: Path, *steps: str) -> Resolution:
    return resolve(recipe_in(folder, *steps), folder.parent / "kept", refresh=False)


def refused(folder: Path, *steps: str) -> str:
    with pytest.raises(BakehouseError) as error:
        resolved(folder, *steps)
    return error.value.message


def test_packages_are_as_they_are_locked_whatever_the_index_has_since(tmp_path: Path, index: Path) -> None:
    folder = lock(write(tmp_path / "lab", '"cherry", "banana; sys_platform == \'win32\'"'))
    publish(index, "apple", "3.0")
    found = resolved(folder)
    assert found.pins == {"step-1": ("apple==2.0", "cherry==1.0")}
    assert found.hashes == {pin: (hash_of(index, pin),) for pin in ("apple==2.0", "cherry==1.0")}
    assert (found.local, found.indexes) == ({}, ())
    assert resolve(recipe_in(folder), tmp_path / "kept", refresh=True) == found


def test_what_is_stored_is_used_until_lock_or_project_change(tmp_path: Path, index: Path) -> None:
    folder = lock(write(tmp_path / "lab"))
    first = resolved(folder)
    publish(index, "apple", "3.0")
    index.rename(tmp_path / "gone")
    assert resolved(folder) == first
    (tmp_path / "gone").rename(index)
    (folder / "uv.lock").unlink()
    lock(folder)
    assert resolved(folder).pins == {"step-1": ("apple==3.0", "cherry==1.0")}
    script = render(recipe_in(folder), first)
    (folder / "pyproject.toml").write_text((folder / "pyproject.toml").read_text() + "# a comment\n")
    assert render(recipe_in(folder), resolved(folder)).sha256 != script.sha256


@pytest.mark.usefixtures("index")
def test_lock_that_is_out_of_date_is_refused_with_the_command(tmp_path: Path) -> None:
    folder = lock(write(tmp_path / "lab"))
    write(folder, '"cherry", "banana"')
    before = (folder / "uv.lock").read_text()
    message = refused(folder)
    reason = "uv.lock is not up to date with pyproject.toml, or with the package indexes of your uv settings"
    assert message == f"recipe 'fruit': step 'step-1': project '.': {reason} (run: uv lock --project {folder})"
    assert (folder / "uv.lock").read_text() == before


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("variable", ["UV_FROZEN", "UV_NO_EDITABLE", "UV_NO_DEV", "UV_NO_DEFAULT_GROUPS", "UV_NO_GROUP"])
def test_variable_of_uv_does_not_change_what_a_lock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    folder = lib(tmp_path / "lab")
    with (folder / "pyproject.toml").open("a") as file:
        file.write('[dependency-groups]\ndev = ["banana"]\n')
    lock(folder)
    monkeypatch.setenv(variable, "dev" if variable == "UV_NO_GROUP" else "1")
    step = 'python = { project = ".", groups = ["dev"] }'
    found = resolved(folder, step)
    assert found.pins == {"step-1": ("apple==2.0", "banana==1.5", "cherry==1.0")}
    assert [one.is_editable for one in found.local["step-1"]] == [True]
    with (folder / "pyproject.toml").open("a") as file:
        file.write('test = ["apple"]\n')
    assert "uv.lock is not up to date" in refused(folder, step)


@pytest.mark.usefixtures("index")
def test_groups_and_extras_are_installed_only_if_they_are_named(tmp_path: Path) -> None:
    more = '[project.optional-dependencies]\nplots = ["banana"]\n[dependency-groups]\ndev = ["melon"]\n'
    publish(tmp_path / "index", "melon", "1.0")
    folder = lock(write(tmp_path / "lab", more=more))
    assert resolved(folder).pins == {"step-1": ("apple==2.0", "cherry==1.0")}
    found = resolved(folder, 'python = { project = ".", groups = ["dev"], extras = ["plots"] }')
    assert found.pins == {"step-1": ("apple==2.0", "banana==1.5", "cherry==1.0", "melon==1.0")}


@pytest.mark.usefixtures("index")
def test_project_that_is_a_package_is_installed_from_its_folder(tmp_path: Path) -> None:
    folder = lib(tmp_path / "lab")
    lock(folder)
    found = resolved(folder)
    assert found.pins == {"step-1": ("apple==2.0", "cherry==1.0")}
    assert found.local == {"step-1": (Local(".", f"{SOURCES}/lib", is_folder=True, is_editable=True),)}
    script = render(recipe_in(folder), found)
    done = installed(script, tmp_path)
    assert done.stdout.split() == [f"{tmp_path}/root{SOURCES}/lib/lib.py", "1"], done.stderr
    sent = {path.name for path in unpacked(script, tmp_path / "again").rglob("*") if path.is_file()}
    assert sent == {"lib.py", "own.py", "pyproject.toml", "uv.lock"}
    before = render(recipe_in(folder), resolved(folder)).sha256
    (folder / "lib.py").write_text("value = 2\n")
    assert render(recipe_in(folder), resolved(folder)).sha256 != before


@pytest.mark.usefixtures("index")
def test_workspace_members_and_path_sources_travel_with_the_project(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    lib(folder / "libs/lib", needs='"banana"')
    shutil.copytree(folder / "libs/lib", folder / "plain")
    text = (folder / "plain/pyproject.toml").read_text()
    (folder / "plain/pyproject.toml").write_text(text.replace("Lib", "Plain"))
    wheel = publish(folder / "wheels", "melon", "1.0")
    sources = (
        '[tool.uv.sources]\nlib = { workspace = true }\nplain = { path = "plain" }\n'
        f'melon = {{ path = "wheels/melon/{wheel.name}" }}\n[tool.uv.workspace]\nmembers = ["libs/*"]\n'
    )
    lock(write(folder, '"lib", "plain", "melon"', sources))
    found = resolved(folder)
    melon = f"melon @ file://{TEMPORARY}/{wheel.name}"
    assert found.pins == {"step-1": ("banana==1.5", melon)}
    assert found.hashes[melon] == (sha256(wheel),)
    assert found.local["step-1"] == (
        Local("libs/lib", f"{SOURCES}/lib", is_folder=True, is_editable=True),
        Local(f"wheels/melon/{wheel.name}", f"{TEMPORARY}/{wheel.name}"),
        Local("plain", f"{TEMPORARY}/plain", is_folder=True),
    )
    (folder / "libs/lib/pyproject.toml").write_text((folder / "libs/lib/pyproject.toml").read_text().replace("banana", "apple"))
    assert "uv.lock is not up to date" in refused(folder)


@pytest.mark.usefixtures("index")
def test_member_that_needs_another_is_installed_without_its_workspace(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    lib(folder / "libs/lib", needs='"other"', build=f"{BACKEND}[tool.uv.sources]\nother = {{ workspace = true }}\n")
    write(folder / "libs/other", "", "[tool.uv]\npackage = false\n")
    other = folder / "libs/other/pyproject.toml"
    other.write_text(other.read_text().replace("Lab", "other"))
    lock(write(folder, '"lib"', '[tool.uv.sources]\nlib = { workspace = true }\n[tool.uv.workspace]\nmembers = ["libs/*"]\n'))
    found = resolved(folder)
    assert [one.source for one in found.local["step-1"]] == ["libs/lib"]
    done = installed(render(recipe_in(folder), found), tmp_path)
    assert done.stdout.split()[1:] == ["1"], done.stderr


@pytest.mark.usefixtures("index")
def test_path_source_outside_of_the_recipes_folder_is_refused(tmp_path: Path) -> None:
    lib(tmp_path / "lib")
    folder = lock(write(tmp_path / "lab", '"lib"', '[tool.uv.sources]\nlib = { path = "../lib" }\n'))
    told = "recipe 'fruit': step 'step-1': project '.': package 'lib' is in ../lib, outside the recipe's folder (copy it there)"
    assert refused(folder) == told
    inside = recipe(tmp_path, 'python = { project = "lab" }')
    assert resolve(inside, tmp_path / "kept", refresh=False).local["step-1"][0].source == "lib"


@pytest.mark.usefixtures("index")
def test_package_from_a_repository_is_pinned_to_the_locked_commit(tmp_path: Path) -> None:
    commit = repository(tmp_path / "site/plum.git")
    with serving(tmp_path / "site") as site:
        folder = write(tmp_path / "lab", '"plum"', f'[tool.uv.sources]\nplum = {{ git = "{site}/plum.git", tag = "1.0" }}\n')
        found = resolved(lock(folder))
    assert found.pins == {"step-1": (f"plum @ git+{site}/plum.git@{commit}",)}
    assert "apt_install git" in render(recipe_in(folder), found).parts[1].text


def test_package_of_an_index_of_its_own_is_pinned_to_the_address_of_its_wheel(tmp_path: Path, index: Path) -> None:
    wheel = publish(tmp_path / "other", "melon", "1.0+cpu")
    with serving(tmp_path / "other") as site:
        own = f'[tool.uv.sources]\nmelon = {{ index = "own" }}\n[[tool.uv.index]]\nname = "own"\nurl = "{site}"\nexplicit = true\n'
        folder = write(tmp_path / "lab", '"melon", "apple"', own)
        lock(folder)
        found = resolved(folder)
    apple, melon = found.pins["step-1"]
    assert (apple, found.hashes[apple]) == ("apple==2.0", (hash_of(index, "apple==2.0"),))
    assert re.fullmatch(rf"melon @ {site}/melon/melon-1\.0(\+|%2B)cpu-py3-none-any\.whl", melon)
    assert found.hashes[melon] == (sha256(wheel),)


@pytest.mark.usefixtures("index")
def test_password_in_an_address_of_a_lock_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "lab", '"melon"')
    wheel = publish(tmp_path / "site", "melon", "1.0")
    with serving(tmp_path / "site") as site:
        url = f"{site}/melon/{wheel.name}".replace("//", "//me:hunter2@")
        (folder / "pyproject.toml").write_text(
            (folder / "pyproject.toml").read_text() + f'[tool.uv.sources]\nmelon.url = "{url}"\n'
        )
        lock(folder)
        message = refused(folder)
    assert "package 'melon': http://***@127.0.0.1" in message
    assert "hunter2" not in message


@pytest.mark.usefixtures("index")
def test_python_that_a_project_needs_is_compared_with_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lock(write(tmp_path / "lab", requires=">=3.11,<3.13"))
    told = "project '.': needs Python >=3.11, <3.13, but trixie has Python 3.13 (change requires-python or base.suite)"
    assert told in refused(folder)
    write(folder, requires=">=3.99")
    monkeypatch.delenv("UV_PYTHON")
    message = refused(folder)
    assert "to check uv.lock, uv needs a Python on this computer that fits requires-python" in message


@pytest.mark.usefixtures("index")
def test_other_steps_are_resolved_with_the_versions_of_the_project(tmp_path: Path, index: Path) -> None:
    folder = lock(write(tmp_path / "lab", '"apple<2"'))
    found = resolved(folder, python("banana", "cherry"), PROJECT, python("apple"))
    assert found.pins == {"step-1": ("apple==1.0", "banana==1.5", "cherry==1.0"), "step-2": (), "step-3": ()}
    assert found.hashes["apple==1.0"] == (hash_of(index, "apple==1.0"),)
    message = refused(folder, PROJECT, python("apple>1"))
    assert "step 'step-2': package 'apple'" in message


@pytest.mark.usefixtures("index")
def test_two_projects_that_lock_different_versions_are_refused(tmp_path: Path) -> None:
    lock(write(tmp_path / "lab/one", '"apple<2"'))
    lock(write(tmp_path / "lab/two", '"apple"'))
    steps = [f'python = {{ project = "{name}" }}' for name in ("one", "two")]
    told = "recipe 'fruit': step 'step-2': locks apple==2.0, but an earlier project apple==1.0 (lock the same version)"
    assert refused(tmp_path / "lab", *steps) == told


@pytest.mark.usefixtures("index")
def test_project_that_uv_cannot_read_is_told_in_its_words(tmp_path: Path) -> None:
    folder = lock(write(tmp_path / "lab"))
    (folder / "pyproject.toml").write_text('[project]\nname = "-"\n')
    message = refused(folder)
    assert message.startswith("recipe 'fruit': step 'step-1': project '.': uv cannot read the project:\n")


WHEELS = [
    "melon-1.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "melon-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
    "melon-1.0-cp313-cp313t-manylinux_2_17_x86_64.whl",
    "melon-1.0-cp313-cp313-musllinux_1_2_x86_64.whl",
    "melon-1.0-cp313-cp313-manylinux_2_99_x86_64.whl",
    "melon-1.0-cp313-cp313-macosx_14_0_arm64.whl",
    "melon-1.0-cp39-abi3-manylinux_2_28_x86_64.whl",
    "melon-1.0-py3-none-any.whl",
    "melon-1.0-py2-none-any.whl",
    "not a wheel",
]


def test_wheels_that_fit_a_builder_are_found_the_best_first() -> None:
    found = [wheel["url"] for wheel in fitting([{"url": f"https://example.org/{name}"} for name in reversed(WHEELS)], "3.13")]
    assert [name.rpartition("/")[2] for name in found] == [WHEELS[0], WHEELS[6], WHEELS[7]]
    assert [fits(name, "3.13") for name in ("a/b.tar.gz", "", WHEELS[1], WHEELS[7])] == [True, True, False, True]


def test_locked_package_without_a_file_for_the_builder_is_refused() -> None:
    package = {"name": "melon", "version": "1.0", "wheels": [{"url": f"https://example.org/{name}"} for name in WHEELS[1:4]]}
    with pytest.raises(RecipeError, match=r"lab: melon 1.0 has no file for Linux on x86_64 \(lock a version that has one"):
        locked_pin(package, "3.13", set(), "lab")
