"""Two commands that install packages, or build the base, at once: the second waits, says so, and finds the work done."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clouds.driver import Base
from clouds.local.base.bases import Bases
from clouds.local.base.build import Built
from clouds.local.base.definition import Definition
from clouds.local.host import installing, programs


def wait_for(event: threading.Event) -> None:
    assert event.wait(30)


def test_second_command_that_installs_packages_waits_and_installs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, waits, calls, said = threading.Event(), threading.Event(), threading.Event(), list[str](), list[str]()

    def apt_get(argv: list[str], packages: list[str]) -> None:
        calls.append(" ".join(argv))
        if "install" in argv:
            begun.set()
            wait_for(go)
            (tmp_path / "tool").touch()

    def second_says(line: str) -> None:
        said.append(line)
        waits.set()

    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", str(tmp_path))
    monkeypatch.setattr(programs, "TOOLS", {str(tmp_path / "tool"): "tool-package"})
    monkeypatch.setattr(programs, "is_root", lambda: True)
    monkeypatch.setattr(programs, "_apt_get", apt_get)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(installing.ensure_tools, tmp_path / "local", lambda _line: None)
        wait_for(begun)
        second = pool.submit(installing.ensure_tools, tmp_path / "local", second_says)
        wait_for(waits)
        go.set()
        first.result(timeout=30)
        second.result(timeout=30)
    assert said == ["waiting for another command to install packages"]
    assert sum("install" in call for call in calls) == 1


def test_second_command_that_needs_the_base_waits_for_the_first_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, waits, builds, said = threading.Event(), threading.Event(), threading.Event(), list[str](), list[str]()

    def build(definition: Definition, scratch: Path, tell: object) -> Built:
        builds.append(definition.digest)
        begun.set()
        wait_for(go)
        (scratch / "disk.qcow2").touch()
        return Built("packages 1.0")

    def second_says(line: str) -> None:
        said.append(line)
        waits.set()

    monkeypatch.setattr("clouds.local.base.build.build", build)
    wanted = Base("trixie", "amd64")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(Bases(tmp_path).resolve, wanted, refresh=False, tell=lambda _line: None)
        wait_for(begun)
        second = pool.submit(Bases(tmp_path).resolve, wanted, refresh=False, tell=second_says)
        wait_for(waits)
        go.set()
        assert first.result(timeout=30) == second.result(timeout=30)
    assert said == ["waiting for another command to build a base"]
    assert len(builds) == 1
