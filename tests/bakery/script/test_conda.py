"""Conda steps: rattler itself, with a channel that the tests make, on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.errors import RecipeError
from bakery.order import BakeOptions
from bakery.recipe.recipe import Recipe, load
from bakery.script import conda as solver
from bakery.script.render import render
from bakery.script.resolve import resolve
from clouds.errors import BakehouseError, UsageError
from tests.conda_channel import publish, served
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

pytestmark = pytest.mark.program

ROOT = Path(__file__).parents[3]


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """Make a channel of a few packages."""
    folder = tmp_path / "channel"
    publish(folder, "apple", "1.0", files={"share/apple": "1"})
    publish(folder, "tool", "1.0", subdir="linux-64", depends=["apple", "__glibc >=2.41"], files={"bin/tool": "#!/bin/sh\n"})
    publish(folder, "mac", "1.0", subdir="osx-arm64")
    return folder


@pytest.fixture
def url(channel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the channel; nobody has a .condarc."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CONDARC", raising=False)
    with served(channel) as address:
        yield address


def recipe(tmp_path: Path, conda: str, more: str = "") -> Recipe:
    path = tmp_path / "lab.toml"
    path.write_text(f'name = "lab"\n{more}\n[[steps]]\nname = "env"\nconda = {conda}\n')
    return load(path)


def locked(tmp_path: Path, conda: str, *, refresh: bool = False) -> list[str]:
    """Return the names of the files in the lock of a conda step."""
    lock = resolve(recipe(tmp_path, conda), tmp_path / "resolved", refresh=refresh).conda
    return [package.url.rpartition("/")[2] for package in lock.packages]


def condarc(tmp_path: Path, text: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.condarc").write_text(text)


def test_a_solution_has_the_url_and_the_hash_of_each_file(tmp_path: Path, channel: Path, url: str) -> None:
    made = recipe(tmp_path, f'{{ packages = ["tool"], channels = ["{url}"] }}')
    lock = resolve(made, tmp_path / "resolved", refresh=False).conda
    files = {
        f"linux-64/{name}" if name.startswith("tool") else f"noarch/{name}"
        for name in ("tool-1.0-0.tar.bz2", "apple-1.0-0.tar.bz2")
    }
    assert {package.url: package.sha256 for package in lock.packages} == {
        f"{url}/{file}": hashlib.sha256((channel / file).read_bytes()).hexdigest() for file in files
    }
    script = render(made, resolve(made, tmp_path / "resolved", refresh=False)).text
    assert all(f"{package.sha256} {package.url}\n" in script for package in lock.packages)


def test_the_lock_is_kept_until_a_refresh_and_decides_the_digest(tmp_path: Path, channel: Path, url: str) -> None:
    conda = f'{{ packages = ["tool"], channels = ["{url}"] }}'
    made = recipe(tmp_path, conda)
    first = render(made, resolve(made, tmp_path / "resolved", refresh=False)).sha256
    publish(channel, "apple", "2.0")
    assert locked(tmp_path, conda) == ["tool-1.0-0.tar.bz2", "apple-1.0-0.tar.bz2"]
    assert render(made, resolve(made, tmp_path / "resolved", refresh=False)).sha256 == first
    assert locked(tmp_path, conda, refresh=True) == ["tool-1.0-0.tar.bz2", "apple-2.0-0.tar.bz2"]
    assert render(made, resolve(made, tmp_path / "resolved", refresh=False)).sha256 != first


def test_a_stored_lock_needs_no_channel(tmp_path: Path, channel: Path, url: str) -> None:
    with served(channel) as other:
        conda = f'{{ packages = ["apple"], channels = ["{other}"] }}'
        locked(tmp_path, conda)
    assert locked(tmp_path, conda) == ["apple-1.0-0.tar.bz2"]


def test_a_channel_that_never_answers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "LIMIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BakehouseError, match=rf"cannot read a conda channel: no complete answer within 0\.5 s from {address}"):
            locked(tmp_path, f'{{ packages = ["apple"], channels = ["{address}"] }}')


def test_an_environment_file_is_taken_as_it_is(tmp_path: Path, url: str) -> None:
    (tmp_path / "environment.yml").write_text(
        f"name: lab\nprefix: /home/me/lab\nchannels:\n  - {url}\n  - nodefaults\ndependencies:\n  - tool=1.0\n"
    )
    assert locked(tmp_path, '{ environment = "environment.yml" }') == ["tool-1.0-0.tar.bz2", "apple-1.0-0.tar.bz2"]


def test_pip_packages_need_a_python(tmp_path: Path, url: str) -> None:
    (tmp_path / "environment.yml").write_text(f"channels: [{url}]\ndependencies:\n  - apple\n  - pip:\n    - six\n")
    with pytest.raises(RecipeError, match=r"has pip packages, but no Python"):
        locked(tmp_path, '{ environment = "environment.yml" }')


@pytest.mark.parametrize(
    "settings",
    [
        "channels:\n  - {url}\n",
        "channels: [here]\nchannel_alias: {alias}\n",
        "channels: [here]\ncustom_channels:\n  here: {alias}\n",
    ],
)
def test_channels_come_from_condarc(tmp_path: Path, channel: Path, url: str, settings: str) -> None:
    (channel / "here").symlink_to(".")
    condarc(tmp_path, settings.format(url=url, alias=f"{url}/"))
    assert locked(tmp_path, '["apple"]') == ["apple-1.0-0.tar.bz2"]


@pytest.mark.parametrize(
    ("conda", "reason"),
    [
        ('["missing"]', "step 'env': no set of conda packages fits .*\n  No candidates were found for missing"),
        ('["tool", "apple>=2"]', "No candidates were found for apple >=2"),
        ('["mac"]', "mac exists only for osx-arm64, but the machine is linux-64"),
        ('["apple >>2"]', "package 'apple >>2': unable to parse version spec"),
    ],
)
def test_what_cannot_be_solved_is_an_error_with_the_reason(tmp_path: Path, url: str, conda: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        locked(tmp_path, f'{{ packages = {conda}, channels = ["{url}"] }}')


def test_the_glibc_of_the_base_decides(tmp_path: Path, url: str) -> None:
    made = recipe(tmp_path, f'{{ packages = ["tool"], channels = ["{url}"] }}', '[base]\nsuite = "noble"\n')
    with pytest.raises(RecipeError, match=re.escape("__glibc >=2.41, for which no candidates were found")):
        resolve(made, tmp_path / "resolved", refresh=False)


def test_a_channel_on_this_computer_is_an_error_on_a_cloud_before_a_machine_starts(tmp_path: Path, url: str) -> None:
    cloud, made = FakeCloud(World(tmp_path / "world")), recipe(tmp_path, f'{{ packages = ["apple"], channels = ["{url}"] }}')
    with pytest.raises(
        UsageError, match=r"recipe 'lab': step 'env': conda package .* is on this computer, which a builder on fake"
    ):
        bake(cloud, made, BakeOptions(), home=tmp_path, on_event=lambda _: None)
    assert not cloud.owned({})


def test_a_broken_channel_is_named(tmp_path: Path, channel: Path, url: str) -> None:
    with pytest.raises(
        BakehouseError, match=re.escape(f"cannot read a conda channel: could not find subdir 'noarch' in channel '{url}/none/'")
    ):
        locked(tmp_path, f'{{ packages = ["apple"], channels = ["{url}/none"] }}')
    (channel / "noarch/repodata.json").write_text("[")
    with pytest.raises(BakehouseError, match="cannot read a conda channel"):
        locked(tmp_path, f'{{ packages = ["apple"], channels = ["{url}"] }}')


def started(path: Path) -> subprocess.Popen[str]:
    """Start `./inv render` for a recipe, in an interpreter of its own."""
    command = [sys.executable, "-P", "-m", "invoke", "--search-root", str(ROOT), "render", "--recipe", str(path)]
    environment = os.environ | {"BAKEHOUSE_HOME": str(path.parent / "home")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_program_that_could_not_read_a_channel_ends_with_its_error(tmp_path: Path, url: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(f'name = "lab"\n[[steps]]\nname = "env"\nconda = {{ packages = ["apple"], channels = ["{url}/none"] }}\n')
    # With rattler in that interpreter, one run in 15 to 40 would abort: github.com/PyO3/pyo3-async-runtimes/issues/40. Cost: 10 s.
    for _ in range(10):
        with started(path) as one, started(path) as other:
            ends = [(process.communicate()[1], process.returncode) for process in (one, other)]
        for told, code in ends:
            asking, error, next_step = told.splitlines()
            assert asking == f"recipe 'lab': step 'env': reading {url}/none for its conda packages"
            assert error.startswith("error: recipe 'lab': step 'env': cannot read a conda channel: ")
            assert next_step.startswith("next: ")
            assert code == 1


def test_ctrl_c_ends_the_solver_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(120)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        path = tmp_path / "lab.toml"
        path.write_text(f'name = "lab"\n[[steps]]\nname = "env"\nconda = {{ packages = ["apple"], channels = ["{address}"] }}\n')
        with started(path) as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            told, code = process.communicate()[1], process.returncode
        with connection:
            connection.settimeout(120)
            while connection.recv(4096):  # until its process has ended
                pass
    assert (told.splitlines()[1:], code) == (["error: interrupted (SIGINT)"], 130)


def test_a_solver_that_is_killed_is_an_error(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\necho 'https://me:geheim@example.org: out of memory' >&2; kill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(
        BakehouseError, match=r"solver of conda packages failed \(exit status -9\): https://\*\*\*@example\.org: out of"
    ):
        locked(tmp_path, f'{{ packages = ["apple"], channels = ["{url}"] }}')


def test_rattler_is_never_loaded_here_and_yaml_for_conda_steps_only(tmp_path: Path, url: str) -> None:
    program = "import bakery.order, json, sys; print(json.dumps(sorted({'rattler', 'yaml', 'asyncio'} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    locked(tmp_path, f'{{ packages = ["apple"], channels = ["{url}"] }}')
    assert "rattler" not in sys.modules
