"""Which variables the programs of a machine have, with the machine's own scripts run here."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from launcher.access.environment import as_environment_d
from tests.bakery.test_jupyter_config import Config, StandIn
from tests.bash_guest import SYSTEM_PATH
from tests.machine_code import TEMPLATES, load_code

GENERATOR = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
HARD = {
    "PLAIN": "value",
    "EMPTY": "",
    "SPACES": "  a  b ",
    "QUOTES": """it's "quoted" """,
    "SHELL_WORDS": "$(touch ran) `touch ran` $HOME ${HOME} $$ $[1+1] \\$(touch ran) \\\\$(touch ran) \\",
    "HASH": "# no comment",
    "EQUALS": "a=b=c",
    "JSON": '{"key": "va\\"lue\\n", "x": [1, 2]}',
    "UNICODE": "ü€ 😀",
    "SEPARATORS": "a\u2028b\x0bc\x0cd\x85e\rf",
    # Names that our own scripts might use for themselves.
    **{name: f"the user's {name}" for name in ("file", "line", "key", "value", "quote", "rest", "text", "name", "plain", "folder")},
    "last": "$name ${text}",
}


class Machine:
    """A folder with the files of a machine that set variables, and its scripts."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, root / "home/notebook"
        self.home.mkdir(parents=True)
        for path, template in {
            "usr/lib/bakehouse/variables": "variables.sh.j2",
            "usr/lib/bakehouse/environment": "login-environment.sh.j2",
            "usr/lib/bakehouse/session": "session.sh.j2",
            "etc/profile.d/bakehouse.sh": "profile.sh.j2",
        }.items():
            text = (TEMPLATES / "machine" / template).read_text()
            text = SYSTEM_PATH.sub(str(root), text).replace(f"{root}/usr/bin/env", "/usr/bin/env")
            self.write(path, text)
        (root / "usr/lib/bakehouse/environment").chmod(0o755)
        self.write("home/notebook/.profile", f". {root}/etc/profile.d/bakehouse.sh\n[ ! -e ~/.more ] || . ~/.more\n")
        self.write("home/notebook/.bashrc", f". {root}/usr/lib/bakehouse/session\n")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def variables(self, *command: str, **environ: str) -> dict[str, str]:
        """Run a command in the user's home, without variables but those given; return the variables that it prints."""
        done = subprocess.run(
            command,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", **environ},
            cwd=self.home,
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.stderr == b""
        return dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)

    def terminal(self) -> dict[str, str]:
        return self.variables("bash", "--login", "-c", "env --null")

    def kernel(self) -> dict[str, str]:
        return self.variables(str(self.root / "usr/lib/bakehouse/environment"))

    def ssh_command(self) -> dict[str, str]:
        """Run bash as sshd does for a command: without a terminal, and with the variables of a connection."""
        return self.variables("bash", "-c", "env --null", SSH_CONNECTION="::1 1 ::1 22", SSH_CLIENT="::1 1 22")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("way", ["terminal", "kernel", "ssh_command"])
def test_every_place_reaches_every_program(machine: Machine, way: str) -> None:
    first = f"{machine.root}/opt/notebook/bin"
    machine.write("etc/environment", f'PATH="{first}:/usr/bin:/bin"\nSYSTEM="a $b"\n# COMMENT=1\nexport OTHER=\'o\'\n')
    machine.write("etc/environment.d/10-all.conf", "ALL=all\nBOTH=system\n")
    machine.write("home/notebook/.config/environment.d/10-mine.conf", "MINE=${ALL}-$ALL-mine\nBOTH=user\nPATH=$HOME/bin:$PATH\n")
    machine.write(
        "home/notebook/.more",
        "export PROFILE=profile\necho noise; echo noise >&2\n" if way != "terminal" else "export PROFILE=profile\n",
    )
    found = getattr(machine, way)()
    assert {name: found.get(name) for name in ("SYSTEM", "OTHER", "ALL", "MINE", "BOTH", "PROFILE")} == {
        "SYSTEM": "a $b",
        "OTHER": "o",
        "ALL": "all",
        "MINE": "all-all-mine",
        "BOTH": "user",
        "PROFILE": "profile",
    }
    assert "COMMENT" not in found
    assert found["PATH"].split(":")[:2] == [f"{machine.home}/bin", first]


@pytest.mark.parametrize("way", ["terminal", "kernel", "ssh_command"])
def test_values_of_an_env_file_arrive_as_they_are(machine: Machine, way: str) -> None:
    machine.write("home/notebook/.config/environment.d/90-launch.conf", as_environment_d(HARD))
    found = getattr(machine, way)()
    assert {name: found.get(name) for name in HARD} == HARD
    assert not (machine.home / "ran").exists()


@pytest.mark.parametrize("way", ["terminal", "kernel", "ssh_command"])
def test_variable_that_bash_keeps_to_itself_is_passed_over_without_a_word(machine: Machine, way: str) -> None:
    variables = {"UID": "0", "SHELLOPTS": "xtrace", "BASHOPTS": "x", "PPID": "1", "AFTER": "set"}
    machine.write("home/notebook/.config/environment.d/90-launch.conf", as_environment_d(variables))
    assert getattr(machine, way)()["AFTER"] == "set"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=x # a comment", "x"),
        ('A="x y"  ', "x y"),
        ('A="x#y"', "x"),
        ("A='x", "x"),
        ("A=\"x'", "x"),
        ('A=x"', 'x"'),
        ("\texport  A=x=y\r", "x=y"),
        ("A = x", None),
        ("A+=x", None),
    ],
)
def test_etc_environment_is_read_as_pam_reads_it_for_ssh(machine: Machine, line: str, value: str | None) -> None:
    """Source: _parse_env_file in Linux-PAM's modules/pam_env/pam_env.c; a blank before a comment is dropped here."""
    machine.write("etc/environment", f"{line}\n")
    assert machine.kernel().get("A") == value


@pytest.mark.skipif(not GENERATOR.exists(), reason="systemd's reader of environment.d is not installed")
def test_systemd_reads_the_same_values(machine: Machine) -> None:
    machine.write("home/notebook/.config/environment.d/90-launch.conf", as_environment_d(HARD))
    text = subprocess.run([GENERATOR], env={"HOME": str(machine.home)}, capture_output=True, text=True, check=True).stdout
    found = machine.variables("bash", "-c", f"set -a\n{text}\nenv --null")
    wanted = {name: value for name, value in HARD.items() if name != "SEPARATORS"}  # it prints control characters escaped
    assert {name: found.get(name, "") for name in wanted} == wanted  # it leaves empty ones out


def test_start_files_that_end_or_replace_the_shell_do_no_harm_to_kernels_and_commands(machine: Machine) -> None:
    for text in ("exit 3\n", "exec true\n", "if then\n", "set -e; false\n"):
        machine.write("home/notebook/.more", text)
        machine.kernel()
        assert machine.ssh_command()["HOME"] == str(machine.home)


@pytest.mark.parametrize("way", [("bash", "--login", "-c", "env --null"), ("bash", "-c", "env --null")])
def test_locale_that_ssh_brings_is_used_only_if_this_machine_has_it(machine: Machine, way: tuple[str, ...]) -> None:
    machine.write("etc/environment", 'LANG="C.UTF-8"\n')
    connection = {"SSH_CONNECTION": "::1 1 ::1 22", "SSH_CLIENT": "::1 1 22"}
    found = machine.variables(*way, LANG="xx_YY.UTF-8", LC_PAPER="xx_YY.UTF-8", **connection)
    assert (found["LANG"], found.get("LC_PAPER")) == ("C.UTF-8", None)
    found = machine.variables(*way, LANG="C.UTF-8", LC_PAPER="POSIX", **connection)
    assert (found["LANG"], found["LC_PAPER"]) == ("C.UTF-8", "POSIX")


def test_nested_shells_and_scripts_of_an_ssh_command_read_nothing_again(machine: Machine) -> None:
    machine.write("home/notebook/.more", "export COUNT=$((COUNT + 1))\n")
    found = machine.variables("bash", "-c", "bash -c 'env --null'; true", SSH_CONNECTION="::1 1 ::1 22", SSH_CLIENT="::1 1 22")
    assert found["COUNT"] == "1"


class Kernels:
    """What Jupyter's own class would do: it notes how a kernel is started."""

    def __init__(self) -> None:
        self.log = SimpleNamespace(warning=lambda text: self.warned.append(text))
        self.started: list[dict[str, Any]] = []
        self.warned: list[str] = []

    async def start_kernel(self, **kwargs: Any) -> str:
        self.started.append(kwargs)
        return "id"


def test_a_kernel_has_the_variables_of_a_login_shell(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in {
        "jupyter_server.auth": SimpleNamespace(passwd_check=None),
        "jupyter_server.auth.identity": SimpleNamespace(PasswordIdentityProvider=StandIn),
        "jupyter_server.services.kernels.kernelmanager": SimpleNamespace(AsyncMappingKernelManager=Kernels),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("HOME", str(machine.home))
    text = (TEMPLATES / "machine/jupyter_server_config.py.j2").read_text().partition("c.ServerApp.root_dir")[0]
    kernels = load_code("config.py", SYSTEM_PATH.sub(str(machine.root), text), get_config=Config).MachineKernels()
    machine.write("home/notebook/.more", "export PROFILE=profile\n")
    assert asyncio.run(kernels.start_kernel(kernel_name="python3", env={"JPY_SESSION_NAME": "x"})) == "id"
    assert kernels.started[0]["env"]["PROFILE"] == "profile"
    assert kernels.started[0]["env"]["JPY_SESSION_NAME"] == "x"
    machine.write("home/notebook/.more", "exit 1\n")
    asyncio.run(kernels.start_kernel(kernel_name="python3"))
    assert kernels.started[1]["env"].items() <= os.environ.items()
    assert len(kernels.warned) == 1
