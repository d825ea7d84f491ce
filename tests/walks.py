"""The walks of the tutorials: the commands of docs/machines.md, run as they stand there, on a scripted cloud with notebooks."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from invoke.parser import Parser

import clouds
import tasks
from bakery import order
from bakery.recipe.recipe import Recipe
from bakery.script.conda import Lock, Package
from bakery.script.resolve import Resolution
from clouds.driver import BootSpec, Cloud, Endpoint, Gpu
from launcher import check_machine
from launcher.access import tunnel
from tests import fake_services, fake_ssh
from tests.cli.verbs import run
from tests.fake_sftp import CLOSED_PORT

MACHINES: Mapping[str, Mapping[str, object]] = {
    "boosting": {"port": 8888, "disk_gb": 10},
    "research": {"spot": True, "address": "research", "disk_gb": 200},
    "anywhere": {"port": 9999, "spot": True, "disk_gb": 10},
    "deep-learning": {"gpu": Gpu("t4"), "disk_gb": 40},
}
"""The machine of each walk, as `asked` returns it."""
_PAGE = Path(__file__).parents[1] / "docs/machines.md"
_LOCK = Lock((Package("https://example.org/noarch/h2o-py-3-0.conda", "0" * 64),))


@dataclass(frozen=True)
class Notebooks:
    """The notebooks of scripted machines, and what each machine was booted with; the fake ssh reads the ports in `folder`."""

    folder: Path
    booted: dict[str, BootSpec] = field(default_factory=dict)
    answers: dict[str, Endpoint] = field(default_factory=dict)

    def open(self, spec: BootSpec) -> None:
        """Let the notebook of a machine answer."""
        is_tls = bool(spec.wishes.https_port)
        self.booted[spec.name] = spec
        self.answers[spec.name] = fake_services.notebook(lambda: spec.facts["PASSWORD_HASH"], tls=is_tls)
        (self.folder / spec.name).write_text(str(self.answers[spec.name].port))

    def at(self, machine: str, port: int, found: Endpoint) -> Endpoint:
        """Return where a port of a machine answers that is reached without a tunnel; `found`: that of the SSH server."""
        is_open = found.port != CLOSED_PORT and port == self.booted[machine].wishes.https_port
        return self.answers[machine] if is_open else found


@contextmanager
def prepared(cloud: Cloud, notebooks: Notebooks, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the verbs use a cloud, an ssh that stays on this computer, and versions of packages that no index was asked for."""
    bin_, tests = notebooks.folder.parent / "ssh", notebooks.folder.parent / "tests"
    notebooks.folder.mkdir()
    fake_ssh.install(bin_, notebooks.folder)
    tests.mkdir()
    (tests / ".order").write_text("works\n")
    (tests / "works").write_text("#!/bin/sh\n")
    (tests / "works").chmod(0o755)
    (notebooks.folder.parent / "gitconfig").write_text("[user]\n\tname = A Tester\n\temail = tester@localhost\n")
    patch.setenv("GIT_CONFIG_GLOBAL", str(notebooks.folder.parent / "gitconfig"))  # for launch --git-config
    patch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    patch.setattr(clouds, "connect", lambda _name=None, _given=None: cloud)
    patch.setattr(order, "resolve", lambda recipe, _folder, **_options: _resolution(recipe))
    patch.setattr(check_machine, "FOLDER", str(tests))
    try:
        yield
    finally:
        for machine in notebooks.booted:
            tunnel.forget(cloud, machine)


def _resolution(recipe: Recipe) -> Resolution:
    return Resolution({step.name: ("numpy==2.4.0",) for step in recipe.steps if step.python}, conda=_LOCK)


def walk(recipe: str, cloud: str) -> list[str]:
    """Run the commands of a walk, on this cloud in place of the page's; return their verbs."""
    commands = [line for line in re.findall(r"^    \./inv (.*)$", _PAGE.read_text(), re.MULTILINE) if "--cloud" in line]
    mine = commands[next(at for at, line in enumerate(commands) if line.startswith(f"bake --recipe {recipe} ")) :][:3]
    parser = Parser(contexts=tasks.ns.to_contexts())
    parsed = [task for line in mine for task in parser.parse_argv(shlex.split(re.sub("--cloud [a-z]+", f"--cloud {cloud}", line)))]
    for task in parsed:
        code, _, stderr = run(str(task.name), **task.as_kwargs)
        assert code == 0, f"{task.name}: {stderr}"
    return [str(task.name) for task in parsed]


def asked(spec: BootSpec) -> dict[str, object]:
    """Return what distinguishes the machine of a walk: flags that are set, and the size of its disk."""
    wishes = {"port": spec.wishes.https_port, "spot": spec.wishes.spot, "address": spec.wishes.static_ip, "gpu": spec.wishes.gpu}
    return {key: value for key, value in wishes.items() if value} | {"disk_gb": spec.disk_gb}
