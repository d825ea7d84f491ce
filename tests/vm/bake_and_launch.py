"""A bake and a launch, as a user runs them: what Google Cloud and AWS have in common, with real machines behind their servers.

Each function is a test. `test_gcp.py` and `test_aws.py` name those that they run, between their own and in the order in which they
run: all of them work on one image and on one machine, which the last ones delete. The fixtures need two of the file that uses
them: `cloud`, and `recipe`, what `bake --recipe` takes.
"""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bakery.proof.seal import find_leaks
from clouds.local.disk.contents import DiskContents
from launcher.access.notebook import answers, login
from tests.servers.qemu import PORTS
from tests.vm.bakehouse import Finished, holds
from tests.vm.browser import PLOT, run_cell
from tests.vm.real_cloud import AGENTS, RealCloud

if TYPE_CHECKING:
    from playwright.sync_api import Page

MACHINE = "lab"


# Fixtures


@pytest.fixture(scope="module")
def baked(cloud: RealCloud, recipe: str) -> Finished:
    """Give a bake of the recipe, which has ended well."""
    return cloud.must("bake", "--recipe", recipe, "--json", timeout_s=3000)


@pytest.fixture(scope="module")
def image(baked: Finished) -> dict[str, Any]:
    """Give the result of the bake."""
    result: dict[str, Any] = baked.result
    return result


@pytest.fixture(scope="module")
def machine(cloud: RealCloud, image: dict[str, Any]) -> dict[str, Any]:
    """Give the result of a launch of the image; the machine is named `lab`."""
    launched: dict[str, Any] = cloud.must("launch", "--recipe", image["recipe"], "--name", MACHINE, "--json", timeout_s=900).result
    return launched


# The public image


def the_public_image_has_the_agent_of_its_cloud_alone(cloud: RealCloud, tmp_path: Path) -> None:
    files = DiskContents(cloud.public_disk, tmp_path).list()
    assert [name for name, agent in AGENTS.items() if agent in files] == [cloud.name]
    assert files["/etc/machine-id"] == 0
    assert [path for path in files if path.startswith(("/etc/ssh/ssh_host_", "/var/lib/dbus/machine-id"))] == []


# The image


def a_bake_leaves_an_image_and_nothing_else(cloud: RealCloud, image: dict[str, Any], recipe: str) -> None:
    assert (image["image"], image["cloud"]) == (f"{Path(recipe).stem}-{image['version']}", cloud.name)
    assert cloud.left() == []


def the_image_holds_no_secret(cloud: RealCloud, image: dict[str, Any], tmp_path: Path) -> None:
    files = DiskContents(cloud.disk(image["image"]), tmp_path)
    assert len(files.list()) > 10_000
    assert find_leaks(files, tmp_path) == []


def an_unchanged_recipe_is_not_baked_again(cloud: RealCloud, image: dict[str, Any], recipe: str) -> None:
    again = cloud.must("bake", "--recipe", recipe, "--json").result
    assert (again["image"], again["reused"]) == (image["image"], True)


# The machine


def a_launch_tells_programs_all_they_need(cloud: RealCloud, machine: dict[str, Any], image: dict[str, Any]) -> None:
    of_the_cloud = {"dns"} if cloud.name == "aws" else set()
    assert machine.keys() == {"name", "url", "password", "image", "cloud", "seconds"} | of_the_cloud
    assert (machine["name"], machine["image"], machine["cloud"]) == (MACHINE, image["image"], cloud.name)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", machine["url"])


def a_cell_runs_through_the_tunnel(cloud: RealCloud, machine: dict[str, Any], page: Page) -> None:
    run_cell(page, machine["url"], machine["password"], PLOT, screenshot=f"notebook-{cloud.name}.png")


def no_other_port_of_the_machine_answers(cloud: RealCloud, machine: dict[str, Any]) -> None:
    address = cloud.address(machine["name"])
    assert [port for port in (*PORTS, *range(1, 1024)) if _answers(address, port)] == [22, 22]


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def the_password_is_kept_nowhere(cloud: RealCloud, machine: dict[str, Any]) -> None:
    needle = machine["password"].encode()
    assert [path for path in cloud.files() if holds(path, [needle])] == []
    assert needle not in cloud.seen(machine["name"])
    assert needle not in subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, check=True).stdout


def a_command_runs_over_ssh_and_a_file_is_copied(cloud: RealCloud, machine: dict[str, Any], tmp_path: Path) -> None:
    assert cloud.must("ssh", machine["name"], "--", "hostname", timeout_s=120).stdout.strip() == MACHINE
    (tmp_path / "a.txt").write_text("here\n")
    cloud.must("copy", str(tmp_path / "a.txt"), f"{MACHINE}:a.txt")
    assert cloud.must("ssh", MACHINE, "--", "cat", "a.txt", timeout_s=120).stdout == "here\n"


@pytest.mark.long
def a_stopped_machine_starts_again_with_its_files_and_its_password(cloud: RealCloud, machine: dict[str, Any]) -> None:
    cloud.must("ssh", machine["name"], "--", "echo kept >kept; sync", timeout_s=120)
    told = cloud.must("stop", MACHINE, timeout_s=600).stderr
    assert "disk" in told
    assert cloud.state(MACHINE) == cloud.stopped
    assert not answers(machine["url"], timeout_s=1)
    cloud.must("start", MACHINE, timeout_s=900)
    assert cloud.must("ssh", MACHINE, "--", "cat", "kept", timeout_s=120).stdout == "kept\n"
    assert login(machine["url"], machine["password"]) is not None


# The end


def deleting_leaves_nothing(cloud: RealCloud, machine: dict[str, Any]) -> None:
    cloud.must("delete", machine["name"], "--yes", timeout_s=600)
    assert cloud.left() == []
    assert not answers(machine["url"], timeout_s=1)
    assert not list((cloud.home / "ssh").rglob(f"{MACHINE}*"))


def gc_finds_nothing(cloud: RealCloud, machine: dict[str, Any]) -> None:
    """Not even the first time: none of the commands above has left anything, on this computer or on the cloud."""
    assert machine["name"]
    assert [cloud.must("gc", "--yes").told for _ in range(2)] == [["nothing to clean up"]] * 2
    assert cloud.left() == []
