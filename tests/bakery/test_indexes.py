"""Package indexes that ask for a password: what a builder gets, and what the user is told before a machine starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from bakery.bake import Baked, bake
from bakery.events import Note
from bakery.order import BakeOptions
from clouds.errors import UsageError
from clouds.local.base.host_environment import GATEWAY, build_files, host_settings
from clouds.local.base.index_logins import with_netrc
from clouds.local.driver import LocalCloud
from tests import conda_channel
from tests.bakery.script.test_resolve import PACKAGES, PASSWORD, LockedHandler, publish, python, recipe, serving
from tests.fake_cloud import FakeCloud
from tests.fake_layers import LayeredCloud
from tests.fake_world import World

pytestmark = pytest.mark.program


class SharingCloud(LayeredCloud):
    """A cloud whose builders use the indexes of this computer."""

    indexes: tuple[str, ...] = ()

    def package_indexes(self) -> tuple[str, ...]:
        return self.indexes


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give an index that asks for a password, which netrc has; it is the only index."""
    for name, versions in PACKAGES.items():
        publish(tmp_path / "index", name, versions[-1])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    with serving(tmp_path / "index", LockedHandler) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/")
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
        yield url


def with_login(site: str) -> str:
    return site.replace("//", f"//me:{PASSWORD}@") + "/"


def baked(cloud: FakeCloud, tmp_path: Path, *steps: str) -> tuple[Baked, str]:
    """Bake a recipe of these steps; return the result, and what was told."""
    told: list[Any] = []
    made = bake(cloud, recipe(tmp_path, *steps), BakeOptions(), home=Path(os.environ["BAKEHOUSE_HOME"]), on_event=told.append)
    return made, "\n".join(event.text for event in told if isinstance(event, Note))


def plant_project(folder: Path) -> str:
    """Write a project with a uv.lock; return its step."""
    text = '[project]\nname = "lab"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["cherry"]\n'
    (folder / "pyproject.toml").write_text(text)
    subprocess.run([find_uv_bin(), "lock", "-q", f"--project={folder}"], check=True, timeout=60)
    return 'python = { project = "." }'


def plant_requirements(folder: Path, text: str = "") -> str:
    """Write a requirements file; return its step."""
    (folder / "requirements.txt").write_text(f"{text}cherry\n")
    return 'python = { requirements = "requirements.txt" }'


@pytest.mark.parametrize("plant", [lambda _folder: python("cherry"), plant_requirements, plant_project])
def test_index_that_asks_the_builder_for_a_password_is_an_error_before_a_machine_starts(
    site: str, world: World, tmp_path: Path, plant: Callable[[Path], str]
) -> None:
    cloud = SharingCloud(world)
    cloud.indexes = (f"{site}/",)
    with pytest.raises(UsageError) as refused:
        baked(cloud, tmp_path, plant(tmp_path))
    told = f"step 'step-1': the package index {site} asks the builder for a user name and a password"
    assert refused.value.message == told
    assert "~/.netrc" in refused.value.next_step
    assert "boot" not in {call.split()[0] for call in cloud.calls}
    assert PASSWORD not in refused.value.message


def test_conda_step_needs_the_index_for_its_installer(site: str, world: World, tmp_path: Path) -> None:
    cloud = SharingCloud(world)
    cloud.indexes = (f"{site}/",)
    conda_channel.publish(tmp_path / "channel", "apple", "1.0")
    with conda_channel.served(tmp_path / "channel") as url, pytest.raises(UsageError, match=r"step 'step-1': the package index"):
        baked(cloud, tmp_path, f'conda = {{ packages = ["apple"], channels = ["{url}"] }}')


def test_index_that_requirements_replace_may_ask_for_a_password(site: str, world: World, tmp_path: Path) -> None:
    cloud = SharingCloud(world)
    cloud.indexes = (f"{site}/",)
    assert baked(cloud, tmp_path, plant_requirements(tmp_path, f"--index-url {site}/\n"))[0].image


def test_builder_that_has_the_password_downloads_and_a_reused_step_needs_none(site: str, world: World, tmp_path: Path) -> None:
    cloud = SharingCloud(world)
    cloud.indexes = (with_login(site),)
    assert baked(cloud, tmp_path, python("cherry"), 'run = "true"')[0].image
    cloud.indexes = (site,)
    assert baked(cloud, tmp_path, python("cherry"), 'run = "false"')[0].image


def test_index_that_does_not_answer_here_is_left_to_the_builder(site: str, world: World, tmp_path: Path) -> None:
    cloud = SharingCloud(world)
    cloud.indexes = (with_login(site),)
    baked(cloud, tmp_path, python("cherry"))
    cloud.indexes = (site.replace("127.0.0.1", "127.0.0.2"),)  # nothing listens there
    assert baked(cloud, tmp_path, python("cherry"), 'run = "true"')[0].image


def test_index_that_builders_of_a_cloud_do_not_use_is_told(site: str, fake: FakeCloud, tmp_path: Path) -> None:
    made, told = baked(fake, tmp_path, python("cherry"))
    assert made.image
    assert f"your package indexes are not used on fake, but the public one: {site}" in told


PLACES = ("url", "netrc", "NETRC", "variables", "variables of uv.toml", "default with a name")


def place(where: str, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the password of the index where uv reads it."""
    name = f"machine 127.0.0.1 login me password {PASSWORD}\n"
    (tmp_path / ".netrc").write_text(name if where == "netrc" else "")
    (tmp_path / "own-netrc").write_text(name)
    for variable, value in {"USERNAME": "me", "PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"UV_INDEX_OUR_OWN_{variable}", value)
    if where == "NETRC":
        monkeypatch.setenv("NETRC", str(tmp_path / "own-netrc"))
    elif where == "url":
        monkeypatch.setenv("UV_DEFAULT_INDEX", with_login(site))
    elif where == "default with a name":
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"our-own={site}/")
    elif where.startswith("variables"):
        monkeypatch.delenv("UV_DEFAULT_INDEX")
    if where == "variables":
        monkeypatch.setenv("UV_INDEX", f"our-own={site}/")
    elif where == "variables of uv.toml":
        (tmp_path / "config/uv").mkdir(parents=True)
        (tmp_path / "config/uv/uv.toml").write_text(f'[[index]]\nname = "our-own"\nurl = "{site}/"\ndefault = true\n')


@pytest.mark.parametrize("where", PLACES)
def test_password_that_uv_here_has_found_is_one_that_the_builder_gets(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    place(where, site, tmp_path, monkeypatch)
    assert LocalCloud(tmp_path / "local").package_indexes()[0] == with_login(site)


@pytest.mark.parametrize(
    ("url", "text", "found"),
    [
        ("http://a@h.example/", "machine h.example login a password p\n", "http://a:p@h.example/"),
        ("http://b@h.example/", "machine h.example login a password p\n", "http://b@h.example/"),
        ("http://h.example:8080/x", "default login a password p/@:\n", "http://a:p%2F%40%3A@h.example:8080/x"),
        ("http://h.example/", "machine other.example login a password p\n", "http://h.example/"),
        ("http://h.example/", "machine login\n", "http://h.example/"),
        ("", "default login a password p\n", ""),
    ],
)
def test_netrc_is_read_as_uv_reads_it(tmp_path: Path, url: str, text: str, found: str) -> None:
    (tmp_path / "netrc").write_text(text)
    assert with_netrc(url, {"NETRC": str(tmp_path / "netrc")}) == found


def test_builder_on_this_computer_downloads_with_the_password_of_netrc(site: str, tmp_path: Path) -> None:
    """As a builder does: with the variables of the bake alone, in a home without netrc."""
    env = build_files(host_settings())["env"].decode().replace(GATEWAY, "127.0.0.1")
    install = f"{find_uv_bin()} pip install --python {sys.executable} --no-cache --target {tmp_path / 'to'} cherry==1.0"
    done = subprocess.run(
        ["bash", "-c", f"{env}\n{install}"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "index"), "UV_HTTP_RETRIES": "0", "UV_NO_CONFIG": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert site in env.replace(f"me:{PASSWORD}@", "")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "to/cherry.py").exists()
