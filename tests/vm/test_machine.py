"""A launched notebook machine, as its owner uses it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from launcher.access.identity import USER, key_file
from launcher.access.notebook import Session, answers, login
from tests.ssh_agent import ssh_agent
from tests.vm.bakehouse import Bakehouse, Finished, holds
from tests.vm.browser import IRIS, run_cell

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.vm

NAME = "lab"
SECRET = "hf_$HOME `id` of-the-env-file"

IN_KERNELS = """
import glob, json, os, queue, sys, time
from jupyter_client import BlockingKernelClient

def processes(kernel):
    return [path for path in glob.glob("/proc/[0-9]*/cmdline") if kernel in (open(path).read() if os.path.exists(path) else "")]

def run(kernel, code):
    client = BlockingKernelClient(connection_file=os.path.expanduser(f"~/.local/share/jupyter/runtime/kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels()
    for left in reversed(range(60)):
        try:
            client.wait_for_ready(timeout=120)
            break
        except RuntimeError:  # no heartbeat: it is only just starting
            if not left:
                raise
            time.sleep(1)
    before, asked = processes(kernel), client.execute(code)
    while True:
        try:
            message = client.get_iopub_msg(timeout=2)
        except queue.Empty:
            if processes(kernel) != before:
                return "died"
            continue
        content = message["content"]
        if message["parent_header"].get("msg_id") == asked and content.get("execution_state") == "idle":
            return ""
        print(content.get("text", content.get("ename", "")), end=" ")

for kernel, code in json.loads(sys.argv[1]):
    print(run(kernel, code), end="|")
"""
"""Run codes in kernels; print for each what it prints, the name of its exception, or `died`, and then `|`."""


TOOLS = """
set -e
for tool in git gcc g++ make rsync wget unzip zip less nano vi tmux htop ip ping gpg locale-gen; do
  command -v "$tool" >/dev/null || echo "no $tool"
done
git --version >/dev/null
ping -c 1 127.0.0.1 >/dev/null
timedatectl show >/dev/null
echo '#include <Python.h>' | gcc -fsyntax-only -x c $(python3-config --includes) -
echo works
locale | sed --quiet 's/^LC_CTYPE="\\(.*\\)"$/\\1/p'
locale 2>&1 >/dev/null | wc --lines | grep --quiet '^0$' && echo 1
"""
"""What uses the tools of the recipe: prints `works`, the locale, and 1 if it is there."""


@pytest.fixture(scope="module")
def machine(bakehouse: Bakehouse, boosting: Finished) -> Iterator[dict[str, Any]]:
    """Give a launched machine."""
    recipe = boosting.result["recipe"]
    (env_file := bakehouse.home / "lab.env").write_text(f"TOKEN='{SECRET}'\n")
    launched: dict[str, Any] = bakehouse.must(
        "launch", "--recipe", recipe, "--name", NAME, "--env-file", str(env_file), "--json"
    ).result
    env_file.unlink()
    yield launched
    bakehouse.must("delete", NAME, "--yes")
    assert bakehouse.left_overs() == []


def inside(bakehouse: Bakehouse, *command: str) -> str:
    """Run a command in the machine."""
    return bakehouse.must("ssh", NAME, "--", *command, timeout_s=120).stdout


@pytest.mark.matrix(sample=0, edges=[])  # --all bakes `jupyter`, too
@pytest.mark.parametrize("other", ["jupyter"])
def test_a_bake_reuses_the_layers_of_another_recipe_with_the_same_first_steps(boosting: Finished, other: str) -> None:
    assert other
    ran = [line["name"] for line in boosting.lines if line.get("event") == "step-started" and line["total"]]
    assert ran[:4] == ["vowpal-wabbit", "vw", "notebook", "seal"]


def test_a_launch_tells_programs_all_they_need(machine: dict[str, Any], boosting: Finished) -> None:
    assert machine.keys() == {"name", "url", "password", "image", "cloud", "seconds", "accelerator"}
    assert (machine["name"], machine["image"], machine["cloud"]) == (NAME, boosting.result["image"], "local")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/?.*", machine["url"])


def test_a_cell_runs_and_its_plot_is_seen(machine: dict[str, Any], page: Page) -> None:
    run_cell(page, machine["url"], machine["password"], IRIS, screenshot="notebook.png")


@pytest.mark.long
def test_the_recipe_s_tests_run_on_the_machine_and_lie_in_the_home(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert machine["name"]
    tests = ["scikit-learn", "xgboost", "vowpal-wabbit", "vw"]
    shown = bakehouse.must("check-machine", NAME, timeout_s=1200).stdout
    assert re.findall(r"passed  (\S+) +\(\d+\.\d s\)\n", shown) == tests
    assert inside(bakehouse, "ls", "test/").split() == sorted(tests)


def test_numpy_sorts(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    """The AVX2 that QEMU 7.2 emulates made it crash."""
    assert machine["name"]
    code = (
        "import numpy; values = numpy.random.default_rng(0).random(9999); print((numpy.diff(values[values.argsort()]) >= 0).all())"
    )
    assert inside(bakehouse, f"/opt/notebook/bin/python -c '{code}'") == "True\n"


def test_the_packages_are_listed_in_the_image_and_here(bakehouse: Bakehouse, boosting: Finished, machine: dict[str, Any]) -> None:
    text = bakehouse.must("packages", boosting.result["image"], "--cdx").stdout
    assert inside(bakehouse, "cat", "/usr/lib/bakehouse/packages.cdx.json") == text
    packages = {
        (one["type"], one["name"]): one for one in json.loads(bakehouse.must("packages", boosting.result["image"], "--json").stdout)
    }
    assert packages["deb", "nginx"]["source"].startswith("nginx@")
    environment = "/opt/notebook/lib/python3.13/site-packages"
    assert {packages["pypi", name]["location"] for name in ("jupyterlab", "xgboost-cpu", "vowpalwabbit")} == {environment}
    assert machine["name"]


def test_the_password_opens_the_notebook_and_a_wrong_one_does_not(machine: dict[str, Any]) -> None:
    assert login(machine["url"], "not the password") is None
    session = login(machine["url"], machine["password"])
    assert session is not None
    assert session.get("/api/kernelspecs").status == http.client.OK


def test_the_password_is_kept_nowhere(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    needle = machine["password"].encode()
    assert [path for path in bakehouse.files() if holds(path, [needle])] == []
    command_lines = subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, check=True).stdout
    assert needle not in command_lines


def test_secrets_on_this_computer_are_their_owner_s_alone(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert machine["name"]
    assert bakehouse.home.stat().st_mode & 0o077 == 0
    for path in bakehouse.home.rglob("ssh/id_ed25519"):
        assert path.stat().st_mode & 0o077 == 0


def test_nothing_listens_beyond_loopback(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    ours = {str(pid) for pid, _ in bakehouse.processes()}
    lines = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    listening = [line.split()[3] for line in lines if ours & set(re.findall(r"pid=(\d+)", line))]
    assert len(listening) == 2
    assert all(address.startswith("127.0.0.1:") for address in listening)
    assert machine["url"].split("/")[2] in listening


def test_jupyter_listens_on_no_port_inside_but_its_front(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert machine["name"]
    reachable = {
        line.split()[3] for line in inside(bakehouse, "ss", "-ltnH").splitlines() if not line.split()[3].startswith("127.")
    }
    assert {address.rpartition(":")[2] for address in reachable} == {"22", "8888"}


def test_folders_and_modes_are_copied_both_ways(bakehouse: Bakehouse, machine: dict[str, Any], tmp_path: Path) -> None:
    assert machine["name"]
    (tmp_path / "to").mkdir()
    script = tmp_path / "to" / "a script.sh"
    script.write_text("echo hello\n")
    script.chmod(0o750)
    bakehouse.must("copy", str(tmp_path / "to"), f"{NAME}:there")
    assert inside(bakehouse, "stat", "--format=%a", "there/a script.sh").strip() == "750"
    bakehouse.must("copy", f"{NAME}:there", str(tmp_path / "back"))
    back = tmp_path / "back" / "a script.sh"
    assert (back.read_text(), back.stat().st_mode & 0o777) == ("echo hello\n", 0o750)


def test_links_stay_links_in_a_copy(bakehouse: Bakehouse, machine: dict[str, Any], tmp_path: Path) -> None:
    assert machine["name"]
    (tmp_path / "project/lib").mkdir(parents=True)
    (tmp_path / "project/lib64").symlink_to("lib")
    (tmp_path / "project/broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "project/pipe")
    assert "pipe (FIFO)" in bakehouse.must("copy", str(tmp_path / "project"), f"{NAME}:").stderr
    assert inside(bakehouse, "readlink", "project/lib64", "project/broken").split() == ["lib", "nowhere"]
    bakehouse.must("copy", f"{NAME}:project", str(tmp_path / "back"))
    assert (tmp_path / "back/lib64").readlink() == Path("lib")


def test_a_launch_clones_a_repository_over_ssh_with_the_agent_of_this_computer(
    bakehouse: Bakehouse, machine: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The git server is the shared machine, as another machine reaches it: through its port on this computer (10.0.2.2)."""
    assert machine["name"]
    inside(bakehouse, "git", "init", "--quiet", "--bare", "work.git")
    [port] = re.findall(r"^    Port (\d+)$", (bakehouse.home / "ssh/config").read_text(), re.MULTILINE)
    [pinned] = bakehouse.home.glob(f"ssh/known_hosts/*/{NAME}")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(pinned.read_text().replace(NAME, f"[10.0.2.2]:{port}", 1))
    monkeypatch.setenv("HOME", str(tmp_path))
    url = f"ssh://{USER}@10.0.2.2:{port}/home/{USER}/work.git"
    try:
        with ssh_agent(tmp_path / "agent", key_file(bakehouse.home), monkeypatch):
            bakehouse.must("launch", "--recipe", "boosting", "--name", "two", "--git", url)
        look = 'git -C work remote get-url origin; ls .ssh; echo "$SSH_AUTH_SOCK"'
        assert bakehouse.must("ssh", "two", "--", look).stdout.split() == [url, "authorized_keys", "known_hosts"]
    finally:
        bakehouse.run("delete", "two", "--yes")


def test_variables_reach_commands_and_kernels_and_secrets_nothing_else(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    script = "echo GREETING=hello | sudo tee -a /etc/environment; echo export FROM_PROFILE=yes >>~/.profile"
    inside(bakehouse, "sh", "-c", script)
    wanted = f"hello yes {SECRET}"
    assert inside(bakehouse, 'echo "$GREETING $FROM_PROFILE $TOKEN"').strip() == wanted
    kernel = new_kernel(machine)
    code = "import os; print(*(os.environ.get(name) for name in ('GREETING', 'FROM_PROFILE', 'TOKEN')))"
    assert [text.strip() for text in in_kernels(bakehouse, (kernel, code))] == [wanted]
    assert inside(bakehouse, "stat", "--format=%a", ".config/environment.d/90-launch.conf").strip() == "600"
    assert [path for path in bakehouse.files() if path.suffix != ".qcow2" and holds(path, [SECRET.encode()])] == []


def test_tools_that_people_expect_are_there_and_work(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert inside(bakehouse, "sh", "-c", TOOLS).split() == ["works", "C.UTF-8", "1"]
    session = login(machine["url"], machine["password"])
    assert session
    kernels = [str(kernel["id"]) for kernel in json.loads(session.get("/api/kernels").body)] or [new_kernel(machine)]
    [printed] = in_kernels(bakehouse, (kernels[0], "import os; print(os.environ['LANG'])\n%pip --version"))
    assert re.match(r"C\.UTF-8\s+pip \S+ from /opt/notebook/", printed.strip())


@pytest.mark.long
def test_a_kernel_that_takes_all_memory_dies_alone(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    kernels = [new_kernel(machine) for _ in range(3)]
    main_pid = ("sudo", "systemctl", "show", "--property=MainPID", "jupyter.service")
    before = inside(bakehouse, *main_pid)
    hog = (kernels[2], "y = []\nwhile True: y.append(b'x' * 50_000_000)")
    printed = in_kernels(
        bakehouse, *((kernel, "x = 41") for kernel in kernels), hog, *((kernel, "print(x + 1)") for kernel in kernels)
    )
    assert [text.strip() for text in printed] == ["", "", "", "died", "42", "42", "NameError"]
    assert inside(bakehouse, *main_pid) == before


@pytest.mark.long
def test_own_jupyter_settings_cannot_cut_it_off_and_its_failures_are_shown(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    own = "~/.jupyter/jupyter_server_config.py"
    inside(bakehouse, "sh", "-c", f"mkdir -p ~/.jupyter; echo 'c.ServerApp.port = 9999; c.ServerApp.base_url = \"/x\"' >{own}")
    inside(bakehouse, "sudo", "systemctl", "restart", "jupyter")
    wait_for(lambda: answers(machine["url"]))
    inside(bakehouse, "sh", "-c", f"echo 'import os; os.write(2, b\"my own mistake\" + bytes([10])); os._exit(3)' >{own}")
    inside(bakehouse, "sudo", "systemctl", "restart", "jupyter")
    wait_for(lambda: "my own mistake" in Session(machine["url"]).get("/lab").body)
    assert Session(machine["url"]).get("/lab").status == http.client.SERVICE_UNAVAILABLE
    assert "my own mistake" in bakehouse.must("log", NAME).stdout
    inside(bakehouse, "rm", "-r", ".jupyter")
    wait_for(lambda: answers(machine["url"]))


def new_kernel(machine: dict[str, Any]) -> str:
    """Start a kernel; return its id."""
    session = login(machine["url"], machine["password"])
    assert session
    started = session.post(f"/api/kernels?_xsrf={session.cookies['_xsrf']}", {})
    return str(json.loads(started.body)["id"])


def in_kernels(bakehouse: Bakehouse, *codes: tuple[str, str]) -> list[str]:
    """Run codes in kernels (their ids), in turn; return what each prints."""
    command = ("/opt/notebook/bin/python", "-c", IN_KERNELS, json.dumps(codes))
    return bakehouse.must("ssh", NAME, "--", *command, timeout_s=600).stdout.split("|")[:-1]


def test_the_machine_tells_what_is_left_of_its_lifetime(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert machine["name"]
    [row] = [line for line in bakehouse.must("machines").stdout.splitlines() if line.startswith(NAME)]
    assert "running" in row
    assert re.search(r"23 h|24 h|23:\d\d", row)


def test_no_machine_shows_its_password(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    listed = bakehouse.must("machines", "--json").stdout
    assert machine["password"] not in listed
    assert "argon2" not in listed


def test_a_login_says_what_the_machine_is_and_how_to_open_its_notebook(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert machine["name"] == NAME
    login_shell = ("ssh", "-tt", "-F", str(bakehouse.home / "ssh/config"), NAME)
    shown = subprocess.run(login_shell, input="exit\n", capture_output=True, text=True, timeout=300, check=False).stdout
    assert re.search(rf"Machine {NAME} of Bakehouse: recipe boosting, version \d.*open its notebook \(./inv open {NAME}\)", shown)


def test_jupyter_survives_the_end_of_an_ssh_session(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    inside(bakehouse, "true")
    assert answers(machine["url"])


def test_a_new_password_holds_at_once_and_ends_old_sessions(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    old = login(machine["url"], machine["password"])
    new = bakehouse.must("password", NAME).stdout.strip()
    assert login(machine["url"], machine["password"]) is None
    assert login(machine["url"], new) is not None
    assert old is not None
    assert old.get("/api/kernelspecs").status != http.client.OK


def test_a_second_machine_of_the_same_name_is_refused(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    assert machine["name"]
    refused = bakehouse.run("launch", "--recipe", "boosting", "--name", NAME)
    assert refused.status == 1
    assert "another --name" in refused.stderr


def test_an_image_in_use_is_not_deleted(bakehouse: Bakehouse, machine: dict[str, Any]) -> None:
    refused = bakehouse.run("delete-image", machine["image"], "--yes")
    assert refused.status == 1
    assert NAME in refused.stderr
    assert answers(machine["url"])


def wait_for(is_so: Any, *, timeout_s: float = 600) -> None:
    """Wait until something is so."""
    from clouds.waiter import until

    until(is_so, what="the machine", timeout_s=timeout_s, poll_s=0.5)
