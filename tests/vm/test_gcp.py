"""A bake and a launch on Google Cloud, as its user runs them: the strict server, with real machines behind it."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bakery.proof.seal import find_leaks
from clouds.errors import CloudError
from clouds.local.disk.contents import DiskContents
from launcher.access.notebook import Session, answers, login
from tests.servers.qemu import PORTS
from tests.vm.bakehouse import RECIPES, holds
from tests.vm.browser import PLOT, run_cell
from tests.vm.google import Google, google

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.vm

NAME = "lab"
RECIPE = str(RECIPES / "notebook.toml")


@pytest.fixture(scope="module")
def cloud(vm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """Give Google Cloud with real machines."""
    with google(vm_home, tmp_path_factory.mktemp("google")) as made:
        yield made


@pytest.fixture(scope="module")
def image(cloud: Google) -> dict[str, Any]:
    """Give the result of a bake of `notebook`."""
    result: dict[str, Any] = cloud.must("bake", "--recipe", RECIPE, "--json", timeout_s=3000).result
    return result


@pytest.fixture(scope="module")
def machine(cloud: Google, image: dict[str, Any]) -> dict[str, Any]:
    """Give a machine that was launched from it."""
    launched: dict[str, Any] = cloud.must("launch", "--recipe", "notebook", "--name", NAME, "--json", timeout_s=900).result
    return launched


def test_a_bake_leaves_an_image_in_the_family_of_its_recipe(cloud: Google, image: dict[str, Any]) -> None:
    assert (image["image"], image["cloud"]) == (f"notebook-{image['version']}", "gcp")
    found = cloud.server.get(f"global/images/{image['image'].replace('.', '-')}")
    assert (found["status"], found["family"], found["labels"]["state"]) == ("READY", "bakehouse-notebook", "stable")
    assert cloud.left() == []


def test_the_image_holds_no_secret(cloud: Google, image: dict[str, Any], tmp_path: Path) -> None:
    files = DiskContents(cloud.image_disk(image["image"].replace(".", "-")), tmp_path)
    assert len(files.list()) > 10_000
    assert find_leaks(files) == []


def test_an_unchanged_recipe_is_not_baked_again(cloud: Google, image: dict[str, Any]) -> None:
    again = cloud.must("bake", "--recipe", RECIPE, "--json").result
    assert (again["image"], again["reused"]) == (image["image"], True)


def test_a_launch_tells_programs_all_they_need(machine: dict[str, Any], image: dict[str, Any]) -> None:
    assert machine.keys() == {"name", "url", "password", "image", "cloud", "seconds"}
    assert (machine["name"], machine["image"], machine["cloud"]) == (NAME, image["image"], "gcp")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", machine["url"])


def test_a_cell_runs_through_the_tunnel(machine: dict[str, Any], page: Page) -> None:
    run_cell(page, machine["url"], machine["password"], PLOT, screenshot="notebook-gcp.png")


def test_no_other_port_of_the_machine_answers(cloud: Google, machine: dict[str, Any]) -> None:
    address = cloud.server.instance(NAME)["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    assert machine["name"]
    assert [port for port in (*PORTS, *range(1, 1024)) if _answers(address, port)] == [22, 22]


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def test_the_password_is_kept_nowhere(cloud: Google, machine: dict[str, Any]) -> None:
    needle = machine["password"].encode()
    assert [path for path in cloud.home.rglob("*") if path.is_file() and holds(path, [needle])] == []
    assert needle not in cloud.server.serial(NAME)
    assert machine["password"] not in str(cloud.server.calls)
    assert needle not in subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, check=True).stdout


def test_a_command_runs_over_ssh_and_a_file_is_copied(cloud: Google, machine: dict[str, Any], tmp_path: Path) -> None:
    assert machine["name"]
    assert cloud.must("ssh", NAME, "--", "hostname", timeout_s=120).stdout.strip() == NAME
    (tmp_path / "a.txt").write_text("here\n")
    cloud.must("copy", str(tmp_path / "a.txt"), f"{NAME}:a.txt")
    assert cloud.must("ssh", NAME, "--", "cat", "a.txt", timeout_s=120).stdout == "here\n"


def test_a_suspended_machine_keeps_what_runs_in_it(cloud: Google, machine: dict[str, Any]) -> None:
    session = login(machine["url"], machine["password"])
    assert session
    before = cloud.must("ssh", NAME, "--", "cat", "/proc/sys/kernel/random/boot_id", timeout_s=120).stdout
    cloud.must("stop", NAME, "--suspend")
    assert cloud.server.instance(NAME)["status"] == "SUSPENDED"
    assert not answers(machine["url"], timeout_s=1)
    cloud.must("start", NAME)
    assert cloud.must("ssh", NAME, "--", "cat", "/proc/sys/kernel/random/boot_id", timeout_s=120).stdout == before
    assert session.get("/api/kernelspecs").status == http.client.OK


def test_a_stopped_machine_starts_again_with_its_files_and_its_password(cloud: Google, machine: dict[str, Any]) -> None:
    told = cloud.must("stop", NAME).stderr
    assert "disk" in told
    assert cloud.server.instance(NAME)["status"] == "TERMINATED"
    cloud.must("start", NAME, timeout_s=900)
    assert login(machine["url"], machine["password"]) is not None


def test_with_https_the_notebook_answers_with_the_pinned_certificate(cloud: Google, image: dict[str, Any]) -> None:
    assert image["image"]
    launched = cloud.must(
        "launch", "--recipe", "notebook", "--name", "open", "--https", "--port", "8443", "--json", timeout_s=900
    ).result
    try:
        assert re.fullmatch(r"https://127\.\d+\.\d+\.\d+:8443/", launched["url"])
        assert Session(launched["url"], 60, launched["certificate"]).get("/login").status == http.client.OK
        with pytest.raises(CloudError, match="its certificate is not the one that the machine reported"):
            Session(launched["url"], 60, "00" * 32).get("/login")
    finally:
        cloud.must("delete", "open", "--yes")


LARGE = """
name = "large"
[builder]
memory_mb = 1024
disk_gb = 4
[machine]
memory_mb = 1024
[[steps]]
name = "files"
copy = [{{ from = "large.bin", to = "/opt/large/" }}]
[[steps]]
name = "more-files"
copy = [{{ from = "small.txt", to = "/opt/large/" }}]
[[tests]]
name = "content"
run = "sha256sum --check <<<'{sha256}  /opt/large/large.bin' && grep --quiet small /opt/large/small.txt"
"""


def test_a_file_of_20_mib_is_sent_over_ssh_while_a_rule_is_there_and_leaves_no_trace(cloud: Google, tmp_path: Path) -> None:
    content = os.urandom(20 * 2**20)
    (tmp_path / "large.bin").write_bytes(content)
    (tmp_path / "small.txt").write_text("small\n")
    (tmp_path / "large.toml").write_text(LARGE.format(sha256=hashlib.sha256(content).hexdigest()))
    began, before = len(cloud.server.calls), cloud.left()
    done = cloud.must("bake", "--recipe", str(tmp_path / "large.toml"), "--json", timeout_s=3000)
    assert "sending 21.0 MB to the builder" in done.stdout
    rules = ("compute.firewalls.insert", "compute.firewalls.delete")
    made = [call.method.rpartition(".")[2] for call in cloud.server.calls[began:] if call.method in rules and call.status == 200]
    assert made == ["insert", "delete"] * 2  # for the builder, and for the machine that tests the image
    assert cloud.left() == before
    files = DiskContents(cloud.image_disk(done.result["image"].replace(".", "-")), tmp_path)
    assert find_leaks(files) == []
    assert files.list()["/opt/large/large.bin"] == len(content)
    assert [path for path in files.list() if "/received" in path] == []


def test_deleting_leaves_nothing(cloud: Google, machine: dict[str, Any]) -> None:
    assert machine["name"]
    cloud.must("delete", NAME, "--yes")
    assert cloud.left() == []
    assert not answers(machine["url"], timeout_s=1)
    assert not list((cloud.home / "ssh").rglob(f"{NAME}*"))
