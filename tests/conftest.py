"""What all tests share: a store of their own, and a guard that keeps fast tests from QEMU and from the network."""

from __future__ import annotations

import gc
import ipaddress
import itertools
import os
import re
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from launcher.access import tunnel
from tests import fake_ssh
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MemoryCloud
from tests.fake_remote import RemoteCloud, forwards
from tests.fake_world import World

pytest_plugins = ("tests.matrix", "tests.needed", "tests.progress", "tests.workers")
SLOW_MARKERS = ("vm", "install")
_REFUSED_PROGRAMS = ("qemu-system-", "mmdebstrap", "apt-get")
_guarded = False
_folders = itertools.count()


def _refuse(event: str, args: tuple[object, ...]) -> None:
    """Fail a fast test that starts a machine or leaves this computer (an audit hook: it sees every caller)."""
    if not _guarded:
        return
    if event in ("subprocess.Popen", "os.posix_spawn", "os.exec"):
        program = Path(str(args[0])).name
        if program.startswith(_REFUSED_PROGRAMS):
            pytest.fail(f"a fast test must not run {program}; mark it with pytest.mark.vm")
    elif event == "socket.connect":
        connected, address = args
        if isinstance(connected, socket.socket) and isinstance(address, tuple) and not _is_loopback(str(address[0])):
            pytest.fail(f"a fast test must not connect to {address[0]}; mark it with pytest.mark.vm")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


sys.addaudithook(_refuse)
EVERY_EXAMPLE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test fails on the clock
settings.register_profile("every example", EVERY_EXAMPLE)
settings.register_profile("sample", EVERY_EXAMPLE, max_examples=EVERY_EXAMPLE.max_examples // 3)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs us in the background has it ignored
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # connections of a matrix wait for the garbage collector: over a thousand
if _soft != resource.RLIM_INFINITY:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, 8192 if _hard == resource.RLIM_INFINITY else min(_hard, 8192)), _hard))


def pytest_configure(config: pytest.Config) -> None:
    """Try fewer examples of each property without `--all`."""
    settings.load_profile("every example" if config.option.all else "sample")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Keep what is collected out of garbage collection: thousands of tests that stay, and would be looked at again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold fast tests to this computer's memory, files and loopback."""
    global _guarded
    _guarded = not any(request.node.get_closest_marker(name) for name in SLOW_MARKERS)
    yield
    _guarded = False


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give each test an empty folder, as pytest does, which looks for a free number among those of thousands of tests each time."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    folder = tmp_path_factory.getbasetemp() / f"{name}-{next(_folders)}"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(autouse=True)
def own_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep fast tests out of the user's store, and all tests out of the user's settings."""
    for name in ("BAKEHOUSE_CONFIG", "BAKEHOUSE_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    if not any(request.node.get_closest_marker(name) for name in SLOW_MARKERS):
        monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True, scope="session")
def no_aws_settings() -> Iterator[None]:
    """Keep all tests out of the user's AWS settings and accounts: profiles, keys, endpoints, the metadata service."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give an empty cloud."""
    return World(tmp_path / "world")


@pytest.fixture
def fake(world: World) -> FakeCloud:
    """Give a client of an empty cloud."""
    return FakeCloud(world)


@pytest.fixture
def remote(world: World) -> RemoteCloud:
    """Give a client of a cloud that is reached through SSH."""
    return RemoteCloud(world)


@pytest.fixture
def keeping(world: World) -> MemoryCloud:
    """Give a client of a cloud whose images carry the memory of a machine."""
    return MemoryCloud(world)


@pytest.fixture
def far_ssh(remote: RemoteCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put an ssh that stays on this computer before all others, return its folder; no tunnel of it is left."""
    folder = fake_ssh.install(tmp_path / "bin", forwards(remote.world))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield folder
    for record in (tmp_path / "home/ssh/tunnels").rglob("*.json"):
        tunnel.forget(remote, record.stem)


@pytest.fixture(scope="session")
def vm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the store of the tests with real machines, one for each process that runs tests; they share the bases.

    BAKEHOUSE_TEST_HOME keeps the bases from run to run, which saves making them anew.
    """
    folder = tmp_path_factory.mktemp("store")
    folder.chmod(0o700)
    all_processes = tmp_path_factory.getbasetemp().parent
    bases = Path(os.environ.get("BAKEHOUSE_TEST_HOME", all_processes)).absolute() / "bases"
    bases.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "local").mkdir(mode=0o700)
    (folder / "local" / "bases").symlink_to(bases)
    return folder
