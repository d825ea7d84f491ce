"""A bake and a launch on Google Cloud, as its user runs them: the strict server, with real machines behind it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clouds import names
from clouds.errors import CloudError
from clouds.gcp.naming import machine_of_rule
from clouds.local.disk.contents import DiskContents
from launcher.access import rsub
from launcher.access.notebook import Session, answers, login
from tests.bakery.script.test_requirements_files import lib
from tests.bakery.script.test_resolve import publish
from tests.vm import bake_and_launch as shared
from tests.vm.bake_and_launch import MACHINE
from tests.vm.bakehouse import RECIPES, Finished
from tests.vm.google import Google, google

pytestmark = pytest.mark.vm

baked, image, machine = shared.baked, shared.image, shared.machine

LARGE_BYTES = 20 * 2**20
RULE_CHANGES = ("compute.firewalls.insert", "compute.firewalls.delete")
KEY = "/etc/ssl/private/ssl-cert-snakeoil.key"
"""The key of the package ssl-cert, as its postinst makes it; apt would need a minute for it in an emulated machine."""
LARGE = """
[[steps]]
name = "keys"
run = '''
printf '#!/bin/sh\\numask 077\\nopenssl genpkey -algorithm ed25519 -out %s\\n' {key} >/usr/sbin/make-ssl-cert
chmod 0755 /usr/sbin/make-ssl-cert
make-ssl-cert generate-default-snakeoil
'''
[[steps]]
name = "files"
copy = [{{ from = "large.bin", to = "/opt/large/" }}]
[[steps]]
name = "more-files"
copy = [{{ from = "small.txt", to = "/opt/large/" }}]
[[tests]]
name = "own-packages"
run = '''python -c "import lib, melon; assert lib.__file__ == '/opt/notebook/src/lib/lib.py'"'''
[[tests]]
name = "content"
run = "sha256sum --check <<<'{sha256}  /opt/large/large.bin' && grep --quiet small /opt/large/small.txt"
"""


@pytest.fixture(scope="module")
def cloud(vm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    """Give Google Cloud with real machines."""
    with google(vm_home, tmp_path_factory.mktemp("google")) as made:
        yield made


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give `notebook` with `rsub`, what a package that makes a key leaves, packages beside the recipe, and a file of 20 MiB.

    That is more than the metadata of a machine can hold.
    """
    folder, content = tmp_path_factory.mktemp("recipe"), os.urandom(LARGE_BYTES)
    (folder / "large.bin").write_bytes(content)
    (folder / "small.txt").write_text("small\n")
    large = LARGE.format(sha256=hashlib.sha256(content).hexdigest(), key=KEY)
    path = folder / "notebook.toml"
    wheel = publish(folder, "melon", "1.0")
    lib(folder / "lib", needs="")
    (folder / "jupyter.json").write_text(json.dumps({"MultiKernelManager": {"default_kernel_name": "own"}}))
    (folder / "requirements.txt").write_text(f"./melon/{wheel.name}\n-e ./lib\n")
    text = (RECIPES / "notebook.toml").read_text()
    for key, more in (
        ("[steps.python]\n", '[steps.python]\nrequirements = "requirements.txt"\n'),
        ("notebook = {}", 'notebook = { rsub = true, settings = "jupyter.json" }'),
    ):
        assert key in text
        text = text.replace(key, more)
    path.write_text(text + large)
    return str(path)


# The image


test_the_public_image_has_the_agent_of_its_cloud_alone = shared.the_public_image_has_the_agent_of_its_cloud_alone
test_a_bake_leaves_an_image_and_nothing_else = shared.a_bake_leaves_an_image_and_nothing_else
test_the_image_holds_no_secret = shared.the_image_holds_no_secret


def test_the_image_is_in_the_family_of_its_recipe(cloud: Google, image: dict[str, Any]) -> None:
    found = cloud.image(image["image"])
    assert (found["status"], found["family"], found["labels"]["state"]) == ("READY", "bakehouse-notebook", "stable")


def test_a_file_of_20_mib_is_sent_over_ssh_while_a_rule_is_there_and_leaves_no_trace(
    cloud: Google, baked: Finished, tmp_path: Path
) -> None:
    assert re.search(r"sending 21\.\d MB to the builder", baked.stdout)
    builder = re.findall(r"(bake-\w+): baking", baked.stdout)[0]
    tester = names.test_machine_name(builder)
    served = [
        (call.method, call.body.get("name") or call.path.rpartition("/")[2]) for call in cloud.server.calls if call.status == 200
    ]
    made = [(method.rpartition(".")[2], machine_of_rule(name)) for method, name in served if method in RULE_CHANGES]
    boots = served.count(("compute.instances.insert", tester))  # two after a crash of its kernel, which emulation may bring
    assert made == [("insert", builder), ("delete", builder)] + [("insert", tester), ("delete", tester)] * boots
    assert cloud.left() == []
    files = DiskContents(cloud.disk(baked.result["image"]), tmp_path).list()
    assert files["/opt/large/large.bin"] == LARGE_BYTES
    assert KEY not in files
    assert "/var/lib/bakehouse/host-keys" in files
    assert [path for path in files if "/received" in path] == []


test_an_unchanged_recipe_is_not_baked_again = shared.an_unchanged_recipe_is_not_baked_again


# The machine


test_a_launch_tells_programs_all_they_need = shared.a_launch_tells_programs_all_they_need
test_a_cell_runs_through_the_tunnel = shared.a_cell_runs_through_the_tunnel


def test_its_jupyter_has_the_settings_of_the_recipe(machine: dict[str, Any]) -> None:
    session = login(machine["url"], machine["password"])
    assert session
    assert json.loads(session.get("/api/kernelspecs").body)["default"] == "own"


test_no_other_port_of_the_machine_answers = shared.no_other_port_of_the_machine_answers
test_the_password_is_kept_nowhere = shared.the_password_is_kept_nowhere
test_a_command_runs_over_ssh_and_a_file_is_copied = shared.a_command_runs_over_ssh_and_a_file_is_copied


def test_files_are_edited_on_this_computer_with_rsub(cloud: Google, machine: dict[str, Any]) -> None:
    found = cloud.must("ssh", machine["name"], "--", "command -v rmate rsub; sudo rsub --version", timeout_s=120).stdout
    assert found.splitlines() == ["/opt/notebook/bin/rmate", "/usr/local/bin/rsub", "rmate-python version 2016-11-03 (1.0.3)"]
    settings = subprocess.run(["ssh", "-G", "-F", cloud.home / "ssh/config", MACHINE], capture_output=True, text=True, check=True)
    assert f"remoteforward [127.0.0.1]:{rsub.PORT} [127.0.0.1]:{rsub.PORT}" in settings.stdout.splitlines()


def test_a_suspended_machine_keeps_what_runs_in_it(cloud: Google, machine: dict[str, Any]) -> None:
    session = login(machine["url"], machine["password"])
    assert session
    before = cloud.must("ssh", MACHINE, "--", "cat", "/proc/sys/kernel/random/boot_id", timeout_s=120).stdout
    cloud.must("stop", MACHINE, "--suspend")
    assert cloud.state(MACHINE) == "SUSPENDED"
    assert not answers(machine["url"], timeout_s=1)
    cloud.must("start", MACHINE)
    assert cloud.must("ssh", MACHINE, "--", "cat", "/proc/sys/kernel/random/boot_id", timeout_s=120).stdout == before
    assert session.get("/api/kernelspecs").status == http.client.OK


test_a_stopped_machine_starts_again_with_its_files_and_its_password = (
    shared.a_stopped_machine_starts_again_with_its_files_and_its_password
)


@pytest.mark.long
def test_with_https_the_notebook_answers_with_the_pinned_certificate(cloud: Google, image: dict[str, Any]) -> None:
    wanted = ("--recipe", image["recipe"], "--name", "open", "--https", "--port", "8443")
    launched = cloud.must("launch", *wanted, "--json", timeout_s=900).result
    try:
        assert re.fullmatch(r"https://127\.\d+\.\d+\.\d+:8443/", launched["url"])
        assert Session(launched["url"], 60, launched["certificate"]).get("/login").status == http.client.OK
        with pytest.raises(CloudError, match="its certificate is not the one that the machine reported"):
            Session(launched["url"], 60, "00" * 32).get("/login")
        digests = [cloud.must("ssh", name, "--", "sudo", "sha256sum", KEY, timeout_s=120).stdout for name in (MACHINE, "open")]
        assert digests[0] != digests[1]  # each has made its own
    finally:
        cloud.must("delete", "open", "--yes")


test_deleting_leaves_nothing = shared.deleting_leaves_nothing
test_gc_finds_nothing = shared.gc_finds_nothing
