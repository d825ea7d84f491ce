"""Resolving: uv itself, with packages from a folder in place of the network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from uv import find_uv_bin

import clouds
from bakery.bake import bake
from bakery.errors import RecipeError
from bakery.order import BakeOptions
from bakery.recipe.recipe import Base, Recipe, load
from bakery.script.pins import read_lock
from bakery.script.render import render
from bakery.script.resolve import PYTHON_OF, Resolution, resolve
from clouds.errors import BakehouseError, UsageError
from tests.fake_cloud import FakeCloud

pytestmark = pytest.mark.program

PACKAGES = {"apple": ("1.0", "2.0"), "banana": ("1.0", "1.5"), "cherry": ("1.0",)}
NEEDS = {"cherry": ("apple",)}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let uv find these packages and no others: a package index that is a folder."""
    folder = tmp_path / "index"
    for name, versions in PACKAGES.items():
        for version in versions:
            publish(folder, name, version)
    for key, value in {"UV_DEFAULT_INDEX": folder.as_uri(), "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(key, value)
    return folder


def publish(folder: Path, name: str, version: str, *, tag: str = "py3-none-any", content: str = "") -> Path:
    """Write a wheel, and the page that lists the files of its package."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in NEEDS.get(name, ()))
    path = folder / name / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return _list(path)


def publish_source(folder: Path, name: str, version: str) -> Path:
    """Write the source of a package, which needs nothing to be built, and the page that lists its files."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    path = folder / name / f"{name}-{version}.tar.gz"
    text = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n".encode()
    with tarfile.open(path, "w:gz") as source:
        for file in ("PKG-INFO", "pyproject.toml"):
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            content = text if file == "PKG-INFO" else f'[project]\nname = "{name}"\nversion = "{version}"\n'.encode()
            entry.size = len(content)
            source.addfile(entry, io.BytesIO(content))
    return _list(path)


def _list(file: Path) -> Path:
    files = sorted(path for path in file.parent.iterdir() if path.name != "index.html")
    links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in files)
    (file.parent / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    return file


def sha256(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


def hash_of(index: Path, pin: str) -> str:
    """Return the hash of the wheel of a pin."""
    name, _, version = pin.partition("==")
    return sha256(index / name / f"{name}-{version}-py3-none-any.whl")


def repository(folder: Path) -> str:
    """Make a repository that holds the source of `plum`, tagged 1.0, as a web server shows it; return its commit."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "plum"\nversion = "1.0"\n')
    for words in (
        ("init", "--quiet"),
        ("add", "."),
        ("commit", "--quiet", "--message=first"),
        ("tag", "1.0"),
        ("update-server-info",),
    ):
        git(folder, *words)
    commit = git(folder, "rev-parse", "HEAD")
    for path in (folder / ".git").iterdir():  # bare, as it is served
        path.rename(folder / path.name)
    return commit


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True, timeout=30
    ).stdout.strip()


@contextmanager
def serving(folder: Path, kind: type[SimpleHTTPRequestHandler] | None = None) -> Iterator[str]:
    """Serve a folder on the loopback address; give its URL."""
    handler = partial(kind or QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it overrides
        """Log nothing."""


def user_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """Let a user have a uv.toml."""
    file = tmp_path / "config/uv/uv.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("UV_NO_CONFIG")
    return file


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
    assert (found.pins, found.refreshed) == ({"step-1": ("apple==2.0", "cherry==1.0")}, "")


def test_each_package_comes_with_the_hashes_of_its_files(tmp_path: Path, index: Path) -> None:
    found = resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False)
    assert found.hashes == {pin: (hash_of(index, pin),) for pin in ("apple==2.0", "cherry==1.0")}
    assert resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False) == found


@pytest.mark.usefixtures("index")
def test_what_an_older_release_has_kept_gets_hashes_and_stays_otherwise(tmp_path: Path, index: Path) -> None:
    wanted = recipe(tmp_path, python("apple"))
    first = resolve(wanted, tmp_path / "kept", refresh=False)
    kept = json.loads((tmp_path / "kept/fruit.json").read_text())
    del kept["hashes"]
    (tmp_path / "kept/fruit.json").write_text(json.dumps(kept))
    publish(index, "apple", "3.0")
    assert resolve(wanted, tmp_path / "kept", refresh=False) == first


def test_only_wheels_that_fit_a_builder_are_allowed_and_the_source_where_there_is_none(tmp_path: Path, index: Path) -> None:
    source = publish_source(index, "plum", "1.0")
    publish(index, "pear", "1.0", tag="cp313-cp313-win_amd64")
    fitting = publish(index, "pear", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64")
    publish_source(index, "pear", "1.0")
    found = resolve(recipe(tmp_path, python("plum", "pear")), tmp_path / "kept", refresh=False)
    assert found.hashes == {"pear==1.0": (sha256(fitting),), "plum==1.0": (sha256(source),)}


def test_requirement_that_is_a_web_address_has_a_hash_and_one_in_a_repository_its_commit(tmp_path: Path, index: Path) -> None:
    commit = repository(tmp_path / "site/plum.git")
    wheel = publish(tmp_path / "site", "melon", "1.0")
    with serving(tmp_path / "site") as site:
        there, plum = f"melon @ {site}/melon/{wheel.name}", f"plum @ git+{site}/plum.git"
        found = resolve(recipe(tmp_path, python(there, plum, "apple")), tmp_path / "kept", refresh=False)
    assert found.pins == {"step-1": ("apple==2.0", there, f"{plum}@{commit}")}
    assert found.hashes == {"apple==2.0": (hash_of(index, "apple==2.0"),), there: (sha256(wheel),), f"{plum}@{commit}": ()}


@pytest.mark.usefixtures("index")
def test_requirement_in_a_repository_may_name_a_tag_and_is_installed_with_git(tmp_path: Path) -> None:
    commit = repository(tmp_path / "site/plum.git")
    with serving(tmp_path / "site") as site:
        wanted = recipe(tmp_path, python(f"plum @ git+{site}/plum.git@1.0"), python("apple"))
        found = resolve(wanted, tmp_path / "kept", refresh=False)
    assert found.pins["step-1"] == (f"plum @ git+{site}/plum.git@{commit}",)
    first, second = (part.text for part in render(wanted, found).parts[1:3])
    assert "command -v git >/dev/null || apt_install git\n" in first
    assert "apt_install git" not in second


@pytest.mark.usefixtures("index")
def test_package_that_cannot_be_built_is_told_with_its_name_and_what_uv_says(tmp_path: Path, index: Path) -> None:
    """As with sklearn on PyPI, whose build says what to install instead."""
    source = tmp_path / "source/sklorn-1.0"
    source.mkdir(parents=True)
    system = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
    (source / "pyproject.toml").write_text(f'[project]\nname = "sklorn"\ndynamic = ["version", "dependencies"]\n{system}')
    (source / "own.py").write_text("raise SystemExit('use scikit-lorn\\n  instead of sklorn')\n")
    (index / "sklorn").mkdir()
    with tarfile.open(index / "sklorn/sklorn-1.0.tar.gz", "w:gz") as packed:
        packed.add(source, source.name)
    _list(index / "sklorn/sklorn-1.0.tar.gz")
    with pytest.raises(RecipeError) as refused:
        resolve(recipe(tmp_path, python("apple"), python("sklorn")), tmp_path / "kept", refresh=False)
    first, *rest = refused.value.message.splitlines()
    assert first.startswith("recipe 'fruit': step 'step-2': package 'sklorn': Failed to build `sklorn==1.0` (")
    assert rest[:2] == ["  use scikit-lorn", "  instead of sklorn"]


@pytest.mark.usefixtures("index")
def test_file_of_this_computer_is_refused_with_its_step(tmp_path: Path) -> None:
    wheel = publish(tmp_path / "mine", "melon", "1.0")
    wanted = recipe(tmp_path, python("apple"), python(f"melon @ {wheel.as_uri()}"))
    with pytest.raises(RecipeError, match=rf"step 'step-2': package 'melon': .*{wheel.name} is on this computer"):
        resolve(wanted, tmp_path / "kept", refresh=False)


SHAPES = """[pip]
universal = true
no-header = false
no-annotate = false
annotation-style = "line"
emit-index-url = true
emit-index-annotation = true
emit-find-links = true
emit-build-options = true
emit-marker-expression = true
generate-hashes = false
no-strip-extras = true
no-strip-markers = true
output-file = "else.txt"
custom-compile-command = "make"
python-version = "3.9"
python-platform = "windows"
require-hashes = true
only-binary = ["cherry"]
"""


@pytest.mark.usefixtures("index")
def test_settings_of_uv_shape_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = resolve(recipe(tmp_path, python("cherry[red]")), tmp_path / "kept", refresh=False)
    user_settings(tmp_path, monkeypatch, SHAPES)
    for key, value in {"UV_CUSTOM_COMPILE_COMMAND": "make", "PIP_REQUIRE_HASHES": "1", "PIP_FIND_LINKS": "/nowhere"}.items():
        monkeypatch.setenv(key, value)
    assert resolve(recipe(tmp_path, python("cherry[red]")), tmp_path / "kept", refresh=True) == plain


@pytest.mark.usefixtures("index")
def test_settings_of_uv_that_leave_packages_out_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = user_settings(tmp_path, monkeypatch, '[pip]\nno-emit-package = ["apple"]\n')
    with pytest.raises(UsageError) as refused:
        resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False)
    assert refused.value.message == f"{file}: pip.no-emit-package: omits apple from every image (remove it)"
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False).pins["step-1"][0] == "apple==2.0"


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[pip]\nno-deps = true\n", "pip.no-deps: omits the dependencies of packages from every image (remove it)"),
        ('exclude-dependencies = ["apple"]\n', "exclude-dependencies: omits apple from every image (remove it)"),
    ],
)
def test_setting_of_uv_that_drops_dependencies_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    file = user_settings(tmp_path, monkeypatch, text)
    with pytest.raises(UsageError) as refused:
        resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False)
    assert refused.value.message == f"{file}: {told}"


@pytest.mark.usefixtures("index")
def test_variable_of_uv_that_drops_dependencies_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_EXCLUDE", "/x/excluded.txt")
    with pytest.raises(UsageError, match="UV_EXCLUDE"):
        resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("text", "pins"),
    [
        ('constraint-dependencies = ["apple<2"]', ("apple==1.0", "cherry==1.0")),
        ('override-dependencies = ["apple==1.0"]', ("apple==1.0", "cherry==1.0")),
        ('resolution = "lowest"', ("apple==1.0", "cherry==1.0")),
        ('[pip]\nresolution = "lowest"', ("apple==1.0", "cherry==1.0")),
        ('prerelease = "allow"', ("apple==3.0rc1", "cherry==1.0")),
    ],
)
def test_setting_of_uv_that_chooses_versions_holds_as_soon_as_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path, text: str, pins: tuple[str, ...]
) -> None:
    publish(index, "apple", "3.0rc1")
    wanted = recipe(tmp_path, python("cherry"))
    before = resolve(wanted, tmp_path / "kept", refresh=False)
    assert before.pins == {"step-1": ("apple==2.0", "cherry==1.0")}
    file = user_settings(tmp_path, monkeypatch, text + "\n")
    after = resolve(wanted, tmp_path / "kept", refresh=False)
    assert after.pins == {"step-1": pins}
    assert render(wanted, after).sha256 != render(wanted, before).sha256
    index.rename(tmp_path / "gone")
    assert resolve(wanted, tmp_path / "kept", refresh=False) == after
    (tmp_path / "gone").rename(index)
    file.unlink()
    assert resolve(wanted, tmp_path / "kept", refresh=False) == before


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("variable", ["UV_CONSTRAINT", "UV_OVERRIDE"])
def test_file_of_constraints_holds_from_any_folder_and_counts_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "own.txt").write_text("apple==1.0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "own.txt")
    monkeypatch.setenv("UV_WORKING_DIR", "/")
    monkeypatch.setenv("UV_WORKING_DIRECTORY", "/nonexistent")
    wanted = recipe(tmp_path, python("cherry"))
    assert resolve(wanted, tmp_path / "kept", refresh=False).pins["step-1"][0] == "apple==1.0"
    (tmp_path / "own.txt").write_text("apple==2.0\n")
    assert resolve(wanted, tmp_path / "kept", refresh=False).pins["step-1"][0] == "apple==2.0"


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(("name", "table"), [("pyproject.toml", "[tool.uv]"), ("uv.toml", "")])
def test_project_around_the_folder_for_temporary_files_chooses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, table: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("UV_NO_CONFIG")
    (tmp_path / name).write_text(f'{table}\nconstraint-dependencies = ["apple<2"]\n')
    assert resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False).pins["step-1"][0] == "apple==2.0"


@pytest.mark.usefixtures("index")
def test_constraints_may_be_at_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/own.txt").write_text("apple==1.0\n")
    with serving(tmp_path / "site") as site:
        monkeypatch.setenv("UV_CONSTRAINT", f"{site}/own.txt")
        assert resolve(recipe(tmp_path, python("cherry")), tmp_path / "kept", refresh=False).pins["step-1"][0] == "apple==1.0"


PASSWORD = "hunter2-correct-horse"
PLACES = (
    "uv.toml",
    "uv.toml extra",
    "pip.conf",
    "netrc",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "PIP_INDEX_URL",
    "find-links",
)


class LockedHandler(QuietHandler):
    """Serves files to those who send the password."""

    def do_GET(self) -> None:
        """Ask for the password."""
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode():
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()


def plant(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str) -> None:
    """Write the password of an index where uv and pip read it."""
    url = site.replace("//", f"//me:{PASSWORD}@")
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "user"))
    (tmp_path / "user/uv").mkdir(parents=True)
    (tmp_path / "user/pip").mkdir()
    shapes = "[pip]\nemit-index-url = true\nemit-index-annotation = true\nemit-find-links = true\n"
    uv_toml = {
        "uv.toml": f'[[index]]\nurl = "{url}"\ndefault = true\n{shapes}',
        "uv.toml extra": f'[[index]]\nname = "own"\nurl = "{url}"\n{shapes}',
        "netrc": f'[[index]]\nurl = "{site}"\ndefault = true\n{shapes}',
        "find-links": f'no-index = true\nfind-links = ["{url}/apple"]\n{shapes}',
        "pip.conf": f'[[index]]\nurl = "{site}"\ndefault = true\n{shapes}',
        "PIP_INDEX_URL": f'[[index]]\nurl = "{url}"\ndefault = true\n{shapes}',
    }
    (tmp_path / "user/uv/uv.toml").write_text(uv_toml.get(place, shapes))
    server = site.partition("//")[2].partition(":")[0]
    (tmp_path / "user/.netrc").write_text(
        f"machine {server} login me password {PASSWORD}\n" if place in ("netrc", "pip.conf") else ""
    )
    (tmp_path / "user/.netrc").chmod(0o600)
    (tmp_path / "user/pip/pip.conf").write_text(f"[global]\nindex-url = {url}\n" if place == "pip.conf" else "")
    monkeypatch.delenv("UV_NO_CONFIG")
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    if place.isupper():
        monkeypatch.setenv(place, url)


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("place", PLACES)
def test_password_of_an_index_reaches_no_script_no_store_and_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path, place: str
) -> None:
    with serving(index, LockedHandler) as site:
        plant(place, tmp_path, monkeypatch, site)
        wanted = recipe(tmp_path, python("apple"))
        found = resolve(wanted, tmp_path / "kept", refresh=False)
        assert found.pins == {"step-1": ("apple==2.0",)}
        with pytest.raises(BakehouseError) as missing:
            resolve(recipe(tmp_path, python("apple", "nosuch")), tmp_path / "kept", refresh=False)
    with pytest.raises(BakehouseError) as unreachable:
        resolve(wanted, tmp_path / "kept", refresh=True)
    texts = [render(wanted, found, cloud=cloud).text for cloud in clouds.DRIVERS]
    texts += [str(error.value) + error.value.next_step for error in (missing, unreachable)]
    texts += [path.read_text(errors="replace") for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert texts
    assert not [text for text in texts if PASSWORD in text or base64.b64encode(f"me:{PASSWORD}".encode()).decode() in text]


@pytest.mark.parametrize("place", PLACES)
def test_password_of_an_index_reaches_no_file_and_no_event_of_a_bake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path, fake: FakeCloud, place: str
) -> None:
    home, events = Path(os.environ["BAKEHOUSE_HOME"]), list[object]()
    with serving(index, LockedHandler) as site:
        plant(place, tmp_path, monkeypatch, site)
        baked = bake(fake, recipe(tmp_path, python("apple")), BakeOptions(), home=home, on_event=events.append)
    assert baked.image in fake.world.images
    texts = [path.read_text(errors="replace") for path in home.rglob("*") if path.is_file()]
    assert len(texts) > 3
    texts += [repr(events), repr(fake.world.images[baked.image])]
    assert not [text for text in texts if PASSWORD in text]


def test_package_whose_address_needs_a_password_is_refused_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    wheel = publish(index, "melon", "1.0")
    with serving(index, LockedHandler) as site:
        url = f"{site}/melon/{wheel.name}".replace("//", f"//me:{PASSWORD}@", 1)
        user_settings(tmp_path, monkeypatch, f'override-dependencies = ["melon @ {url}"]\n')
        with pytest.raises(RecipeError, match=r"package 'melon': .*\*\*\*@127.* its user name and password") as refused:
            resolve(recipe(tmp_path, python("melon")), tmp_path / "kept", refresh=False)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("scheme", ["https", "git+https"])
def test_password_with_a_slash_in_a_requirement_is_in_no_message(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://me:{PASSWORD}/{PASSWORD}@127.0.0.1:9/melon-1.0-py3-none-any.whl"
    (tmp_path / "requirements.txt").write_text(f"melon @ {url}\n")
    for text in ('python = { requirements = "requirements.txt" }', python(f"melon @ {url}")):
        with pytest.raises(BakehouseError, match="melon") as refused:
            resolve(recipe(tmp_path, text), tmp_path / "kept", refresh=False)
        assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "package",
    [
        'name = "a"\nversion = "1.0 --index-url=http://x"\nwheels = [{ hashes = { sha256 = "%s" } }]',
        'name = "-r"\nversion = "1.0"\nwheels = [{ hashes = { sha256 = "%s" } }]',
        'name = "a"\nversion = "1.0"\nwheels = [{ hashes = {} }]',
        'name = "a"\nversion = "1.0"\nwheels = [{ hashes = { sha256 = "x --pre" } }]',
        'name = "a"\nwheels = [{ hashes = { sha256 = "%s" } }]',
        'name = "a"\narchive = { url = "https://x/a b", hashes = { sha256 = "%s" } }',
        'name = "a"\narchive = { url = "https://x/a.whl", hashes = {} }',
    ],
)
def test_only_exact_requirements_with_hashes_are_read(package: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        read_lock(f"[[packages]]\n{package.replace('%s', '0' * 64)}\n")


@pytest.mark.usefixtures("index")
def test_settings_of_uv_with_another_index_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "other", "melon", "7.0")
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    user_settings(tmp_path, monkeypatch, f'[[index]]\nurl = "{(tmp_path / "other").as_uri()}"\ndefault = true\n')
    assert resolve(recipe(tmp_path, python("melon")), tmp_path / "kept", refresh=False).pins == {"step-1": ("melon==7.0",)}


def install(script: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Install what a rendered step of a bake installs, into a folder."""
    found = re.search(
        r"^cat >/opt/notebook/.pins.txt <<'PINS'\n(.*?)^PINS\n.*(--no-deps --require-hashes)", script, re.MULTILINE | re.DOTALL
    )
    assert found
    pins = target.with_name(".pins.txt")
    pins.write_text(found[1])
    command = [find_uv_bin(), "pip", "install", "--python", sys.executable, "--target", target, *found[2].split()]
    return subprocess.run([*command, "--no-cache", "--requirement", pins], capture_output=True, text=True, timeout=60, check=False)


def test_file_that_is_not_the_one_that_was_resolved_is_refused(tmp_path: Path, index: Path) -> None:
    wanted = recipe(tmp_path, python("cherry"))
    script = render(wanted, resolve(wanted, tmp_path / "kept", refresh=False)).text
    good = install(script, tmp_path / "good")
    assert good.returncode == 0, good.stderr
    publish(index, "apple", "2.0", content="another file")
    bad = install(script, tmp_path / "bad")
    assert bad.returncode != 0
    assert "hash mismatch" in bad.stderr.lower()
    assert "apple" in bad.stderr


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
    with pytest.raises(RecipeError, match=rf"recipe 'fruit': step 'step-2': package '{package[:6]}.*{told}"):
        resolve(wanted, tmp_path / "kept", refresh=False)


def test_versions_that_do_not_fit_together_are_told(tmp_path: Path, index: Path) -> None:
    publish(index, "apple", "0.1")
    with pytest.raises(RecipeError, match="step 'step-1': package 'apple'"):
        resolve(recipe(tmp_path, python("apple>1"), python("apple<1")), tmp_path / "kept", refresh=False)


def test_an_index_that_does_not_answer_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_NO_CONFIG": "1", "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BakehouseError, match="cannot look up the versions") as raised:
        resolve(recipe(tmp_path, python("apple")), tmp_path / "kept", refresh=False)
    assert not isinstance(raised.value, RecipeError)
    assert "network" in raised.value.next_step


def test_no_network_is_not_called_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"UV_OFFLINE": "1", "UV_NO_CONFIG": "1"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BakehouseError, match="cannot look up the versions") as raised:
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
