"""`./inv`, the shell script: when it makes .venv, with what, and what it hands over. Stand-ins play Python, uv and apt-get."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from clouds.local.host.programs import TOOLS as NEEDED

pytestmark = pytest.mark.program

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "cat", "cmp", "cp", "dirname", "env", "grep", "id", "mkdir", "readlink", "rm", "sleep", "true")

UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
case $1 in
    venv)
        for venv in "$@"; do :; done
        mkdir -p "$venv/bin" "$venv/lib/python3.11/site-packages/invoke"
        echo >"$venv/pyvenv.cfg"
        cat >"$venv/lib/python3.11/site-packages/invoke/__main__.py" </dev/null
        cp "$STANDIN" "$venv/bin/python" ;;
    pip) exit "${INSTALL_STATUS:-0}" ;;
esac
"""
PYTHON_OF_VENV = """#!/bin/sh
[ "$2" != ensurepip ] || exit 1
for word in "$@"; do printf '<%s>' "$word"; done
"""
APT = """#!/bin/sh
echo "apt-get $*" >>"$CALLS"
case "$*" in *install*) cp "$REAL_PYTHON_SHIM" "$BIN/python3" ;; esac
"""


@dataclass(frozen=True)
class Project:
    """A folder with `inv` and locks in it, and a PATH that holds stand-ins and a few tools only."""

    folder: Path
    bin: Path
    calls: Path

    def environ(self) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "BIN": str(self.bin),
            "CALLS": str(self.calls),
            "STANDIN": str(self.bin / "standin"),
            "REAL_PYTHON_SHIM": str(self.bin / "shim"),
            "HOME": "/nonexistent",
        }

    def run(self, *words: str, inv: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [inv or self.folder / "inv", *words], env=self.environ() | environ, capture_output=True, text=True, cwd="/", timeout=30
        )

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    def called(self) -> list[str]:
        """Return the calls of stand-ins since the last time."""
        found = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return found

    def put(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder, path = tmp_path / "a project", tmp_path / "bin"
    folder.mkdir()
    path.mkdir()
    shutil.copy(ROOT / "inv", folder)
    (folder / "clouds/local/host").mkdir(parents=True)
    shutil.copy(ROOT / "clouds/local/host/tools", folder / "clouds/local/host")
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (folder / lock).write_text(f"# {lock}\n")
    for tool in TOOLS:
        (path / tool).symlink_to(str(shutil.which(tool)))
    made = Project(folder, path, tmp_path / "calls")
    made.put("uv", UV)
    made.put("standin", PYTHON_OF_VENV)
    made.put("shim", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shutil.copy(path / "shim", path / "python3")
    return made


def test_it_makes_the_environment_and_hands_all_words_to_invoke(project: Project) -> None:
    done = project.run("ssh", "a b", "--", "ls")
    handed = f"<-P><-m><invoke><--write-pyc><--search-root><{project.folder}><ssh><a b><--><ls>"
    assert (done.returncode, done.stdout) == (0, handed)
    assert [call.split()[1] for call in project.called()] == ["venv", "pip"]


def test_settings_for_the_user_s_own_projects_do_not_reach_the_installation(project: Project) -> None:
    own = dict.fromkeys(("UV_PROJECT", "UV_WORKING_DIR", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_TARGET", "PIP_USER"), "/nonexistent")
    project.put("uv", UV.replace("case $1", 'env | grep -E "^(UV|PIP)_" >>"$CALLS"\ncase $1', 1))
    project.put("standin", PYTHON_OF_VENV + 'printf "%s" "${UV_CONSTRAINT:-}"\n')
    done = project.run("recipes", UV_DEFAULT_INDEX="http://index.example/", **own)
    assert {call for call in project.called() if "=" in call.split()[0]} == {"UV_DEFAULT_INDEX=http://index.example/"}
    assert done.stdout.endswith("<recipes>/nonexistent")  # recipes are resolved with them


def poison(folder: Path) -> dict[str, str]:
    """Put modules that break every import into a folder; return the variables with which Python would find them, or not start."""
    folder.mkdir()
    for name in ("pydantic", "pydantic_core", "packaging", "invoke", "rich", "filelock", "enum", "typing", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit('this module belongs to another program')\n")
    (folder / "start.py").write_text("raise SystemExit('start')\n")
    return {"PYTHONPATH": str(folder), "PYTHONSTARTUP": str(folder / "start.py"), "PYTHONUSERBASE": str(folder)}


def test_variables_for_other_python_programs_do_not_reach_its_own(project: Project, tmp_path: Path) -> None:
    """The real Invoke, tasks and libraries, with a PYTHONPATH that breaks each, and without a usable PYTHONHOME."""
    shutil.rmtree(project.folder / "clouds")
    for name in ("tasks.py", "bakery", "launcher", "clouds", "templates", "images", "VERSION"):
        (project.folder / name).symlink_to(ROOT / name)
    (project.venv / "bin").mkdir(parents=True)
    (project.venv / "lib/python3.11/site-packages/invoke").mkdir(parents=True)
    (project.venv / "lib/python3.11/site-packages/invoke/__main__.py").touch()
    (project.venv / "pyvenv.cfg").touch()
    (project.venv / "bin/python").symlink_to(project.bin / "shim")
    shutil.copy(project.folder / "requirements.lock", project.venv / "requirements.stamp")
    worse = {"PYTHONHOME": "/nonexistent", "PYTHONWARNINGS": "error", "PYTHONHASHSEED": "none", "PYTHONINSPECT": "1"}
    worse |= {"PYTHONTRACEMALLOC": "x", "PYTHONINTMAXSTRDIGITS": "1", "PYTHONDEVMODE": "1"}
    done = project.run("recipes", "--help", **poison(tmp_path / "others"), **worse)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


def test_launcher_alone_uses_its_own_modules_too(tmp_path: Path) -> None:
    folder = tmp_path / "others"
    environ = os.environ | poison(folder) | {"BAKEHOUSE_HOME": str(tmp_path / "store")}
    for name in ("enum", "typing", "sitecustomize"):  # Python itself imports these before any program of ours
        (folder / f"{name}.py").unlink()
    for path, cwd in ((str(folder), ROOT), (f"{folder}:{ROOT}", Path("/"))):
        done = subprocess.run(
            [sys.executable, "-m", "launcher", "images", "--cloud", "nosuch"],
            env=environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=60,
        )
        assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: unknown cloud 'nosuch'")


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version_is_that_of_bakehouse_and_needs_no_environment(project: Project, flag: str) -> None:
    (project.folder / "VERSION").write_text("1.2.3\n")
    done = project.run(flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Bakehouse 1.2.3\n", "")
    assert not project.venv.exists()


@pytest.mark.parametrize("words", [("machines", "-T", "abc"), ("-c", "nosuch", "machines")], ids=" ".join)
def test_short_flags_are_refused_before_invoke_reads_them(project: Project, words: tuple[str, ...]) -> None:
    done = project.run(*words)
    flag = next(word for word in words if word.startswith("-"))
    assert (done.returncode, done.stdout) == (2, "")
    advice = "Write flags in full, such as --cloud, and -- before a command for ssh. See: ./inv --list"
    assert done.stderr == f"error: unknown flag {flag}\nnext: {advice}\n"


def test_words_of_a_command_are_its_own(project: Project) -> None:
    assert project.run("ssh", "lab", "--", "ls", "-T").returncode == 0


def test_without_words_it_lists_the_tasks(project: Project) -> None:
    assert project.run().stdout.endswith("<--list>")


def test_the_second_time_nothing_is_made_and_nothing_is_said(project: Project) -> None:
    project.run()
    project.called()
    done = project.run("recipes")
    assert done.stdout.endswith("<recipes>")
    assert (done.stderr, project.called()) == ("", [])


def test_second_command_waits_for_the_first_to_install_and_says_so(project: Project) -> None:
    with (project.folder / "requirements.lock").open() as lock, ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [project.folder / "inv", "bake"], env=project.environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as second:
            assert second.stderr
            try:
                said = pool.submit(second.stderr.readline).result(timeout=30)
                assert said == "inv: waiting for another ./inv to install into .venv\n"
                assert not project.venv.exists()
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
            assert second.wait(timeout=30) == 0
    assert project.venv.exists()


def test_packages_are_installed_by_hash_from_the_lock(project: Project) -> None:
    project.run()
    assert project.called()[1].endswith("--compile-bytecode --require-hashes -r requirements.lock")


@pytest.mark.parametrize("verb", ["test", "check"])
def test_the_verbs_that_test_install_the_second_lock_once(project: Project, verb: str) -> None:
    project.run("recipes")
    project.called()
    project.run(verb)
    project.run(verb)
    assert [call.split()[-1] for call in project.called()] == ["requirements-dev.lock"]


def test_a_word_behind_the_dashes_is_no_verb(project: Project) -> None:
    project.run("ssh", "m", "--", "test", "-f", "x")
    assert not (project.venv / "requirements-dev.stamp").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("launch", "--name", "test"),
        ("delete", "test"),
        ("copy", "check", "lab:test"),
        ("bake", "--recipe=test", "--from", "check"),
        ("", "test"),
    ],
)
def test_a_name_or_value_that_reads_like_a_task_is_none(project: Project, words: tuple[str, ...]) -> None:
    assert project.run(*words).returncode == 0
    assert not (project.venv / "requirements-dev.stamp").exists()


@pytest.mark.parametrize("words", [("--echo", "test"), ("test", "--fast"), ("--search-root=.", "test")])
def test_a_task_that_tests_is_found_behind_options(project: Project, words: tuple[str, ...]) -> None:
    project.run(*words)
    assert (project.venv / "requirements-dev.stamp").exists()


def test_a_changed_lock_makes_the_environment_anew(project: Project) -> None:
    project.run()
    (project.venv / "old").touch()
    (project.folder / "requirements.lock").write_text("# changed\n")
    project.run()
    assert not (project.venv / "old").exists()
    assert (project.venv / "requirements.stamp").read_text() == "# changed\n"


@pytest.mark.parametrize(
    "broken",
    ["bin/python", "pyvenv.cfg", "requirements.stamp", "lib/python3.11/site-packages/invoke/__main__.py"],
)
def test_a_broken_environment_is_repaired(project: Project, broken: str) -> None:
    project.run()
    (project.venv / broken).unlink()
    done = project.run("recipes")
    assert done.stdout.endswith("<recipes>")
    assert (project.venv / broken).exists()


def test_an_environment_whose_base_python_is_gone_is_repaired(project: Project) -> None:
    project.run()
    (project.venv / "bin/python").unlink()
    (project.venv / "bin/python").symlink_to("/usr/bin/python3.that-is-gone")
    assert project.run("recipes").stdout.endswith("<recipes>")


def test_a_failed_installation_is_told_and_tried_again_the_next_time(project: Project) -> None:
    failed = project.run(INSTALL_STATUS="1")
    assert failed.returncode == 1
    assert "could not install requirements.lock" in failed.stderr
    assert failed.stdout == ""
    assert project.run("recipes").stdout.endswith("<recipes>")


def test_it_is_found_through_a_link(project: Project, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(project.folder / "inv")
    assert f"<--search-root><{project.folder}>" in project.run(inv=link).stdout


def test_two_at_once_make_one_environment(project: Project) -> None:
    project.put("uv", UV.replace("case $1", "sleep 0.3\ncase $1"))
    environ = {"PATH": str(project.bin), "CALLS": str(project.calls), "STANDIN": str(project.bin / "standin")}
    both = [subprocess.Popen([project.folder / "inv"], env=environ, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert all(one.communicate(timeout=30)[0].startswith("<-P>") for one in both)
    assert [call.split()[1] for call in project.called()] == ["venv", "pip"]


def test_caches_go_into_bakehouse_home_when_it_is_set(project: Project, tmp_path: Path) -> None:
    project.put("uv", UV.replace('echo "uv $*"', 'echo "$UV_CACHE_DIR $PIP_CACHE_DIR"'))
    project.run(BAKEHOUSE_HOME=str(tmp_path / "store"))
    assert project.called()[0] == f"{tmp_path}/store/cache/uv {tmp_path}/store/cache/pip"


@pytest.fixture
def anybody(project: Project) -> Iterator[Project]:
    """Give a project to another user: it is read-only for the one who runs `inv`, even if the tests run as root."""
    with TemporaryDirectory() as folder:
        for path in (project.folder, project.bin):
            shutil.copytree(path, Path(folder, path.name), symlinks=True)
        Path(folder).chmod(0o755)
        moved = Project(Path(folder, project.folder.name), Path(folder, project.bin.name), Path(folder, "calls"))
        yield moved
        for path in (moved.folder, moved.venv):
            path.chmod(0o755)


def run_as_ordinary_user(project: Project, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `inv` as a user who is not root."""
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    environment = project.environ() | {"PATH": f"{project.bin}:/usr/bin:/bin"} | environ
    return subprocess.run([project.folder / "inv"], env=environment, capture_output=True, text=True, cwd="/", timeout=30, **user)  # type: ignore[call-overload,no-any-return]


def test_venv_of_another_user_is_left_alone(anybody: Project) -> None:
    (anybody.venv / "bin").mkdir(parents=True)
    (anybody.venv / "bin/python").touch()
    for path in (anybody.venv, anybody.folder):
        path.chmod(0o555)
    done = run_as_ordinary_user(anybody)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "inv: error: .venv belongs to another user",
        "inv: next: clone Bakehouse into a folder of your own, and run ./inv there",
    ]
    assert (anybody.venv / "bin/python").exists()


def test_folder_of_another_user_without_a_venv_is_told(anybody: Project) -> None:
    anybody.venv.mkdir()
    anybody.venv.rmdir()
    anybody.folder.chmod(0o555)
    done = run_as_ordinary_user(anybody)
    anybody.folder.chmod(0o755)
    anybody.venv.mkdir()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"inv: error: {anybody.folder}: not writable")


@pytest.mark.parametrize(("named", "told"), [("file", "{} is not a folder"), ("file/x", "cannot create {}/cache")])
def test_bakehouse_home_that_cannot_be_made_is_told(project: Project, tmp_path: Path, named: str, told: str) -> None:
    (tmp_path / "file").touch()
    done = project.run(BAKEHOUSE_HOME=str(tmp_path / named))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"inv: error: BAKEHOUSE_HOME: {told.format(tmp_path / named)}",
        "inv: next: set BAKEHOUSE_HOME to a folder that you can write to",
    ]


def test_without_python_it_is_installed_with_apt_get_and_said_so(project: Project) -> None:
    (project.bin / "python3").unlink()
    project.put("apt-get", APT)
    project.put("sudo", '#!/bin/sh\nexec "$@"\n')
    done = project.run("recipes")
    assert done.stdout.endswith("<recipes>")
    assert "apt-get install python3 python3-venv" in done.stderr
    assert [call.split()[0] for call in project.called()] == ["apt-get", "apt-get", "uv", "uv"]


def test_without_python_and_apt_get_it_says_what_to_install(project: Project) -> None:
    (project.bin / "python3").unlink()
    done = project.run()
    assert (done.returncode, done.stdout) == (1, "")
    error, step = done.stderr.splitlines()
    assert error == "inv: error: Python 3.11 or newer with its venv module not found"
    assert step.startswith("inv: next: install it with your system's packages")


ORDINARY_USER = "#!/bin/sh\necho 1000\n"


@pytest.mark.parametrize("sudo", ["", "#!/bin/sh\nexit 1\n"], ids=["no sudo", "not in sudoers"])
def test_without_root_and_python_all_packages_that_are_missing_are_named_at_once(project: Project, sudo: str) -> None:
    (project.bin / "python3").unlink()
    (project.bin / "id").unlink()
    project.put("id", ORDINARY_USER)
    project.put("apt-get", APT)
    if sudo:
        project.put("sudo", sudo)
    done = project.run("bake", PATH=f"{project.bin}")
    command = done.stderr.splitlines()[-1].partition("apt-get install --no-install-recommends ")[2].partition(";")[0].split()
    assert done.returncode == 1
    assert command[:2] == ["python3", "python3-venv"]
    assert set(command[2:]) == {package for tool, package in NEEDED.items() if not _is_on_this_computer(tool)}
    assert len(set(command)) == len(command)
    assert project.called() == []
    assert not project.venv.exists()


def test_without_root_a_python_without_venv_is_named_by_its_own_package(project: Project) -> None:
    for name in ("uv", "id"):
        (project.bin / name).unlink()
    project.put("id", ORDINARY_USER)
    project.put("apt-get", APT)
    project.put("python3", '#!/bin/sh\necho "$BIN/python3.11"\n')
    project.put("python3.11", "#!/bin/sh\nexit 1\n")  # it has no ensurepip
    done = project.run("bake")
    assert (done.returncode, project.called()) == (1, [])
    assert "python3.11-venv" in done.stderr
    assert "python3 " not in done.stderr.splitlines()[-1]


def _is_on_this_computer(tool: str) -> bool:
    """Say whether `inv` with the PATH of the tests finds a tool, which it looks for in the folders for administrators too."""
    return (
        Path(tool).exists()
        if tool.startswith("/")
        else any((Path(folder) / tool).exists() for folder in ("/usr/local/sbin", "/usr/sbin", "/sbin"))
    )


def test_a_python_that_is_too_old_is_passed_over(project: Project) -> None:
    shutil.copy(project.bin / "shim", project.bin / "python3.12")
    project.put("python3", "#!/bin/sh\nexit 0\n")  # what 3.10 prints when it is asked
    assert project.run("recipes").stdout.endswith("<recipes>")


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_no_index_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert " /" not in text


def test_the_locks_hold_what_the_requirements_ask_for() -> None:
    for name in ("requirements", "requirements-dev"):
        asked = [
            line.partition("[")[0].replace(".", "-")
            for line in (ROOT / f"{name}.in").read_text().split("\n")
            if line and line[0] != "#"
        ]
        pinned = {line.split("==")[0] for line in (ROOT / f"{name}.lock").read_text().split("\n") if "==" in line}
        assert set(asked) <= pinned


@pytest.mark.install
@pytest.mark.timeout(300)
@pytest.mark.matrix(sample=1, edges=[])
@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
def test_a_real_environment_is_filled_and_lists_the_tasks(tmp_path: Path, with_uv: bool) -> None:
    folder = tmp_path / "a clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    environ = {**os.environ, "HOME": "/nonexistent", "BAKEHOUSE_HOME": str(tmp_path / "store")}
    if not with_uv:
        environ["PATH"] = _path_without("uv", environ["PATH"])
    done = subprocess.run([folder / "inv", "--list"], env=environ, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    assert "bake" in done.stdout
    assert (folder / ".venv/requirements.stamp").exists()


def _path_without(program: str, path: str) -> str:
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if not (Path(folder) / program).exists())
