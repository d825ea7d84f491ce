"""Requirements files, resolved by uv itself, with packages from a folder in place of the network, and put into scripts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

import clouds
from bakery.errors import RecipeError
from bakery.recipe.recipe import Recipe
from bakery.script.local import SOURCES, TEMPORARY, Local
from bakery.script.render import Script, render
from bakery.script.resolve import Resolution, resolve
from clouds.errors import BakehouseError
from tests.bakery.script.test_render import is_clean, shell_texts
from tests.bakery.script.test_resolve import (
    PACKAGES,
    PASSWORD,
    LockedHandler,
    hash_of,
    plant,
    publish,
    publish_source,
    python,
    recipe,
    serving,
    sha256,
)

pytestmark = pytest.mark.program

FILES = 'python = { requirements = "requirements.txt" }'
OWN_BACKEND = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
"""A package that is built without any other."""
BACKEND = """
import pathlib, zipfile
def _wheel(folder, path):
    name = "lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder, name), "w") as wheel:
        for file, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: lib\\nVersion: 1.0\\n",
            "WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr("lib-1.0.dist-info/" + file, text)
        wheel.writestr(*path)
    return name
def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, ("lib.py", pathlib.Path("lib.py").read_text()))
def build_editable(folder, config_settings=None, metadata_directory=None):
    return _wheel(folder, ("lib.pth", str(pathlib.Path.cwd()) + "\\n"))
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let uv find the packages of test_resolve and no others."""
    folder = tmp_path / "index"
    for name, versions in PACKAGES.items():
        for version in versions:
            publish(folder, name, version)
    for key, value in {"UV_DEFAULT_INDEX": folder.as_uri(), "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(key, value)
    return folder


def resolved(tmp_path: Path, text: str | bytes, *steps: str) -> Resolution:
    """Resolve a recipe whose steps are these, or one with this requirements file."""
    return resolve(recipe_with(tmp_path, text, *steps), tmp_path / "kept", refresh=False)


def recipe_with(tmp_path: Path, text: str | bytes, *steps: str) -> Recipe:
    (tmp_path / "requirements.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return recipe(tmp_path, *(steps or (FILES,)))


def lib(folder: Path, *, needs: str = '"cherry"', build: str = OWN_BACKEND) -> Path:
    """Write the folder of a Python project."""
    folder.mkdir(parents=True)
    text = f'[project]\nname = "Lib"\nversion = "1.0"\ndependencies = [{needs}]\n[project.optional-dependencies]\nx = ["banana"]\n'
    (folder / "pyproject.toml").write_text(text + build)
    (folder / "own.py").write_text(BACKEND)
    (folder / "lib.py").write_text("value = 1\n")
    return folder


def unpacked(script: Script, target: Path) -> Path:
    """Unpack the archives of a script as a builder does, into a folder in place of `/`."""
    for number, archive in enumerate(script.archives(0)):
        file = target.with_name(f"{number}.tar")
        with file.open("wb") as sink:
            archive.write(sink.write)
        with tarfile.open(file) as packed:
            packed.extractall(target, filter="data")
    return target


def installed(script: Script, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Install what a script installs into an environment of its own, with its files unpacked below a folder; then import lib."""
    root = unpacked(script, tmp_path / "root")
    environment = tmp_path / "environment"
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True, timeout=60)
    [text] = [part.text for part in script.parts if part.name == "step-1"]
    for name, content in re.findall(r"^cat >/opt/notebook/(\.\w+\.txt) <<'\w+'\n(.*?)^[A-Z]+$", text, re.MULTILINE | re.DOTALL):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "opt/notebook" / name).write_text(content.replace("file:///opt/", f"file://{root}/opt/"))
    for words in re.findall(r"^retry as_notebook uv (pip install .*?[^\\])$", text, re.MULTILINE | re.DOTALL):
        command = words.replace("\\\n", " ").replace("/opt/notebook/bin/python", str(environment)).replace("=/opt", f"={root}/opt")
        command = command.replace(" /opt", f" {root}/opt")
        subprocess.run([uv, *command.split(), "--no-cache", "--quiet"], check=True, timeout=60, capture_output=True)
    code = "import lib; print(lib.__file__, lib.value)"
    return subprocess.run([environment / "bin/python", "-c", code], capture_output=True, text=True, timeout=60)


def test_packages_of_a_file_are_resolved_with_hashes(tmp_path: Path, index: Path) -> None:
    text = 'cherry # comes with apple\napple < 2 ; python_version >= "3.12"\nbanana ; sys_platform == "win32"\n'
    found = resolved(tmp_path, text)
    assert found.pins == {"step-1": ("apple==1.0", "cherry==1.0")}
    assert found.hashes == {pin: (hash_of(index, pin),) for pin in ("apple==1.0", "cherry==1.0")}


@pytest.mark.usefixtures("index")
def test_file_of_powershell_stands_beside_packages_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/dev.txt").write_text("-c limits.txt\ncherry\n")
    (tmp_path / "more/limits.txt").write_text("apple<2\n")
    step = 'python = { packages = ["apple"], requirements = ["requirements.txt", "more/dev.txt"] }'
    found = resolved(tmp_path, "banana \\\r\n  >= 1.5 # größer\r\n".encode("utf-16"), step)
    assert found.pins == {"step-1": ("apple==1.0", "banana==1.5", "cherry==1.0")}


@pytest.mark.usefixtures("index")
def test_comment_changes_nothing_and_a_requirement_does(tmp_path: Path, index: Path) -> None:
    before = resolved(tmp_path, "apple\n")
    (tmp_path / "gone").mkdir()
    index.rename(tmp_path / "gone/index")
    assert resolved(tmp_path, "# which apple\r\napple # this\r\n") == before
    (tmp_path / "gone/index").rename(index)
    after = resolved(tmp_path, "apple\nbanana\n")
    assert after.pins == {"step-1": ("apple==2.0", "banana==1.5")}
    scripts = [render(recipe_with(tmp_path, "apple\n"), one).sha256 for one in (before, after)]
    assert scripts[0] != scripts[1]


@pytest.mark.usefixtures("index")
def test_recipe_without_files_is_rendered_and_stored_as_before(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, python("apple"))
    found = resolve(wanted, tmp_path / "kept", refresh=False)
    kept = json.loads((tmp_path / "kept/fruit.json").read_text())
    assert kept["needs"] == {"python": "3.13", "packages": [["step-1", ["apple"]]], "settings": kept["needs"]["settings"]}
    del kept["local"], kept["indexes"]  # as an older release has stored it
    (tmp_path / "kept/fruit.json").write_text(json.dumps(kept))
    assert resolve(wanted, tmp_path / "kept", refresh=False) == found
    text = render(wanted, found).parts[1].text
    assert "unpack" not in text
    assert "indexes" not in text


def test_hashes_of_a_file_are_the_only_ones(tmp_path: Path, index: Path) -> None:
    source, wheel = publish_source(index, "plum", "1.0"), publish(index, "plum", "1.0")
    publish(index, "plum", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64", content="other = 1")
    hashes = hash_of(index, "apple==1.0")
    text = f"plum==1.0 --hash={sha256(wheel)} \\\n --hash={sha256(source)}\napple==1.0 --hash={hashes}\nbanana\n"
    found = resolved(tmp_path, text)
    assert {pin: found.hashes[pin] for pin in ("plum==1.0", "apple==1.0")} == {
        "plum==1.0": (sha256(wheel),),
        "apple==1.0": (hashes,),
    }
    assert found.hashes["banana==1.5"] == (hash_of(index, "banana==1.5"),)


@pytest.mark.usefixtures("index")
def test_hashes_that_no_file_has_are_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refused:
        resolved(tmp_path, f"banana\napple==1.0 --hash=sha256:{'0' * 64}\n")
    reason = "requirements.txt: line 2: no file of apple==1.0 has one of these hashes (remove them, or change the version)"
    assert refused.value.problems == (f"recipe 'fruit': step 'step-1': {reason}",)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("apple\nnosuch\n", "requirements.txt: line 2: package 'nosuch': .*was not found"),
        ("# a\nbanana>=9\n", "requirements.txt: line 2: package 'banana': "),
        ("apple\n./lib\n", "step 'step-1': requirements.txt: line 2: .*failed .*use something else"),
        ("lib @ ./lib\n", "requirements.txt: line 1: package 'lib': Failed to build `lib @ lib`.*use something else"),
    ],
)
def test_what_uv_cannot_resolve_is_told_with_the_line(tmp_path: Path, text: str, told: str) -> None:
    folder = lib(tmp_path / "lib")
    (folder / "pyproject.toml").write_text(OWN_BACKEND)
    (folder / "own.py").write_text("raise SystemExit('use something else')\n")
    with pytest.raises(BakehouseError) as refused:
        resolved(tmp_path, text)
    assert re.search(told, refused.value.message, re.DOTALL), refused.value.message
    assert tempfile.gettempdir() + "/bakehouse" not in refused.value.message


@pytest.mark.usefixtures("index")
def test_package_for_another_system_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "wheels", "melon", "1.0", tag="cp313-cp313-win_amd64")
    with pytest.raises(RecipeError, match=r"requirements.txt: line 1: package 'melon': its wheel is for another system"):
        resolved(tmp_path, "./wheels/melon/melon-1.0-cp313-cp313-win_amd64.whl\n")


def test_wheel_beside_the_recipe_comes_with_its_hash_and_its_file(tmp_path: Path, index: Path) -> None:
    wheel = publish(tmp_path / "my wheels", "melon", "1.0+cpu")
    found = resolved(tmp_path, f'"./my wheels/melon/{wheel.name}"\n'.replace('"', ""))
    pin = f"melon @ file://{TEMPORARY}/melon-1.0%2Bcpu-py3-none-any.whl"
    assert found.pins == {"step-1": (pin,)}
    assert found.hashes == {pin: (sha256(wheel),)}
    assert found.local == {"step-1": (Local(f"my wheels/melon/{wheel.name}", f"{TEMPORARY}/{wheel.name}"),)}
    (tmp_path / "gone").mkdir()
    index.rename(tmp_path / "gone/index")
    again = recipe_with(tmp_path, f"./my wheels/melon/{wheel.name}\n")
    assert resolve(again, tmp_path / "kept", refresh=False) == found
    script = render(again, found)
    root = unpacked(script, tmp_path / "root")
    assert (root / TEMPORARY[1:] / wheel.name).read_bytes() == wheel.read_bytes()
    assert f"unpack {script.archives(0)[0].sha256}\n" in script.parts[1].text


@pytest.mark.usefixtures("index")
def test_wheel_that_is_replaced_is_resolved_again(tmp_path: Path) -> None:
    wheel = publish(tmp_path / "wheels", "melon", "1.0")
    before = resolved(tmp_path, f"./wheels/melon/{wheel.name}\n")
    publish(tmp_path / "wheels", "melon", "1.0", content="another = True")
    after = resolved(tmp_path, f"./wheels/melon/{wheel.name}\n")
    assert before.pins == after.pins
    assert list(after.hashes.values()) == [(sha256(wheel),)] != list(before.hashes.values())


def test_editable_folder_stays_in_the_image_and_its_dependencies_are_pinned(tmp_path: Path, index: Path) -> None:
    lib(tmp_path / "lib")
    found = resolved(tmp_path, "-e ./lib[x]\n")
    assert found.pins == {"step-1": ("apple==2.0", "banana==1.5", "cherry==1.0")}
    assert found.local == {"step-1": (Local("lib", f"{SOURCES}/lib", is_folder=True, is_editable=True),)}
    script = render(recipe_with(tmp_path, "-e ./lib[x]\n"), found)
    assert is_clean(shell_texts(script)) == ""
    done = installed(script, tmp_path)
    assert done.stdout.split() == [f"{tmp_path}/root{SOURCES}/lib/lib.py", "1"], done.stderr
    assert f"rm --recursive --force {TEMPORARY}\n" in script.parts[1].text
    with tarfile.open(tmp_path / "0.tar") as packed:
        assert {entry.uname for entry in packed} == {"notebook"}
    assert str(index) not in script.text


@pytest.mark.usefixtures("index")
def test_other_folder_is_built_and_installed_beside_a_wheel(tmp_path: Path) -> None:
    lib(tmp_path / "lib")
    wheel = publish(tmp_path / "wheels", "melon", "1.0")
    text = f"lib @ file:lib\n./wheels/melon/{wheel.name}\n"
    found = resolved(tmp_path, text)
    done = installed(render(recipe_with(tmp_path, text), found), tmp_path)
    assert done.stdout.split()[1:] == ["1"], done.stderr
    assert "site-packages/lib.py" in done.stdout


@pytest.mark.usefixtures("index")
def test_code_of_a_folder_changes_the_script_but_needs_no_network(tmp_path: Path, index: Path) -> None:
    folder = lib(tmp_path / "lib")
    first = resolved(tmp_path, "-e lib\n")
    before = render(recipe_with(tmp_path, "-e lib\n"), first)
    index.rename(tmp_path / "gone")
    (folder / "lib.py").write_text("value = 2\n")
    second = resolved(tmp_path, "-e lib\n")
    assert second == first
    after = render(recipe_with(tmp_path, "-e lib\n"), second)
    assert (before.sha256 != after.sha256, before.archives(0) != after.archives(0)) == (True, True)
    (folder / ".git").mkdir()
    (folder / ".git/index").write_text("x")
    assert render(recipe_with(tmp_path, "-e lib\n"), second).sha256 == after.sha256


@pytest.mark.usefixtures("index")
def test_dependency_of_a_folder_is_resolved_when_it_is_added(tmp_path: Path) -> None:
    folder = lib(tmp_path / "lib", needs="")
    assert resolved(tmp_path, "-e lib\n").pins == {"step-1": ()}
    (folder / "pyproject.toml").write_text((folder / "pyproject.toml").read_text().replace("[]\n[", '["cherry"]\n['))
    assert resolved(tmp_path, "-e lib\n").pins == {"step-1": ("apple==2.0", "cherry==1.0")}


@pytest.mark.usefixtures("index")
def test_build_of_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    """As setuptools does, whose egg-info would change the digest of the folder at each bake."""
    folder = lib(tmp_path / "lib")
    (folder / "pyproject.toml").write_text(OWN_BACKEND)
    (folder / "own.py").write_text("import pathlib\npathlib.Path('left').write_text('x')\n" + BACKEND)
    assert resolved(tmp_path, "./lib\n").pins == {"step-1": ()}
    assert sorted(path.name for path in folder.iterdir()) == ["lib.py", "own.py", "pyproject.toml"]


@pytest.mark.usefixtures("index")
def test_recipe_in_the_folder_of_a_package_installs_that(tmp_path: Path) -> None:
    folder = lib(tmp_path / "mine")
    wanted = recipe_with(folder, "-e .\n")
    found = resolve(wanted, tmp_path / "kept", refresh=False)
    before = render(wanted, found).sha256
    (folder / "fruit.toml").write_text((folder / "fruit.toml").read_text() + "# changed\n")
    assert found.local["step-1"][0].source == "."
    assert render(wanted, found).sha256 == before


def test_local_folder_of_files_is_searched_and_only_what_is_taken_is_sent(tmp_path: Path, index: Path) -> None:
    wheel = publish(tmp_path / "wheels", "melon", "1.0")
    files = wheel.parent
    publish(tmp_path / "wheels", "melon", "0.5")
    (index / "melon").mkdir()
    found = resolved(tmp_path, "--find-links ./wheels/melon\n--no-index\nmelon\n")
    assert found.pins == {"step-1": (f"melon @ file://{TEMPORARY}/{wheel.name}",)}
    assert [one.source for one in found.local["step-1"]] == [f"wheels/melon/{wheel.name}"]
    assert found.indexes == ()
    newer = publish(tmp_path / "wheels", "melon", "2.0")
    again = resolved(tmp_path, "--find-links ./wheels/melon\n--no-index\nmelon\n")
    assert [one.source for one in again.local["step-1"]] == [f"wheels/melon/{newer.name}"]
    assert files.exists()


@pytest.mark.usefixtures("index")
def test_index_of_a_file_reaches_every_python_step_and_the_builder(tmp_path: Path) -> None:
    publish(tmp_path / "other", "melon", "1.0")
    pear = publish(tmp_path / "other", "pear", "1.0")
    with serving(tmp_path / "other") as site:
        text = f"--extra-index-url {site}/\n-f {site}/pear/index.html\nmelon\npear\n"
        wanted = recipe_with(tmp_path, text, python("apple"), FILES)
        found = resolve(wanted, tmp_path / "kept", refresh=False)
        lines = (f"--extra-index-url {site}/", f"--find-links {site}/pear/index.html")
        assert found.pins == {"step-1": ("apple==2.0",), "step-2": ("melon==1.0", "pear==1.0")}
        assert found.indexes == lines
        assert found.hashes["pear==1.0"] == (sha256(pear),)
        script = render(wanted, found)
        assert is_clean(shell_texts(script)) == ""
        for part in script.parts[1:3]:
            assert "<<'INDEXES'\n{}\n{}\nINDEXES\n".format(*lines) in part.text
            assert "--require-hashes --requirement=/opt/notebook/.indexes.txt --requirement=/opt/notebook/.pins.txt" in part.text
        alone = Script(script.text, tuple(part for part in script.parts if part.name == "step-2"))
        (tmp_path / "root/opt/notebook").mkdir(parents=True)
        renamed = Script("", tuple(type(part)("step-1", part.text) for part in alone.parts))
        assert "No module named 'lib'" in installed(renamed, tmp_path).stderr
    packages = sorted(path.name for path in tmp_path.glob("environment/lib/*/site-packages/*.py") if path.stem != "_virtualenv")
    assert packages == ["melon.py", "pear.py"]


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("options", "pin"),
    [
        ("--pre\n", "apple==3.0rc1"),
        ("", "apple==2.0"),
        ("--no-binary apple\n", "apple==1.5"),
        ("--only-binary=:all:\n", "apple==2.0"),
    ],
)
def test_options_of_a_file_choose_versions(tmp_path: Path, index: Path, options: str, pin: str) -> None:
    publish(index, "apple", "3.0rc1")
    source = publish_source(index, "apple", "1.5")
    found = resolved(tmp_path, f"{options}apple\n")
    assert found.pins == {"step-1": (pin,)}
    assert found.hashes[pin] == (sha256(source) if pin == "apple==1.5" else hash_of(index, pin),)


@pytest.mark.usefixtures("index")
def test_password_of_an_index_in_the_users_settings_serves_a_file_and_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    with serving(index, LockedHandler) as site:
        plant("UV_INDEX", tmp_path, monkeypatch, site)
        wanted = recipe_with(tmp_path, "cherry\n")
        found = resolve(wanted, tmp_path / "kept", refresh=False)
        with pytest.raises(BakehouseError) as missing:
            resolved(tmp_path, "nosuch\n")
    assert found.pins == {"step-1": ("apple==2.0", "cherry==1.0")}
    texts = [render(wanted, found, cloud=cloud).text for cloud in clouds.DRIVERS]
    texts += [path.read_text(errors="replace") for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    texts += [str(missing.value)]
    assert not [text for text in texts if PASSWORD in text]


@pytest.mark.usefixtures("index")
def test_value_of_the_environment_reaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", PASSWORD)
    with pytest.raises(RecipeError, match=r"requirements.txt: line 2: takes \$\{TOKEN\} from the environment") as refused:
        resolved(tmp_path, "apple\nmelon @ https://example.org/${TOKEN}/melon.whl\n")
    assert PASSWORD not in str(refused.value)


@pytest.mark.usefixtures("index")
def test_file_that_was_changed_after_the_recipe_was_loaded_is_refused(tmp_path: Path) -> None:
    wanted = recipe_with(tmp_path, "apple\n")
    (tmp_path / "requirements.txt").write_text("apple\n--frob\n")
    with pytest.raises(RecipeError, match=r"step 'step-1': requirements.txt: line 2: --frob is not a known option"):
        resolve(wanted, tmp_path / "kept", refresh=False)


@pytest.mark.usefixtures("index")
def test_package_that_disappears_before_the_script_is_made_is_told(tmp_path: Path) -> None:
    folder = lib(tmp_path / "lib")
    wanted = recipe_with(tmp_path, "-e lib\n")
    found = resolve(wanted, tmp_path / "kept", refresh=False)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="recipe 'fruit': lib does not exist"):
        render(wanted, found)


def test_stored_resolution_is_plain_data(tmp_path: Path, index: Path) -> None:
    lib(tmp_path / "lib")
    resolved(tmp_path, f"-e lib\nbanana==1.0 --hash={hash_of(index, 'banana==1.0')}\n")
    kept: dict[str, Any] = json.loads((tmp_path / "kept/fruit.json").read_text())
    assert kept["local"] == {"step-1": [["lib", f"{SOURCES}/lib", True, True]]}
    assert kept["needs"]["requirements"]["step-1"][0][1][0] == "banana==1.0"
