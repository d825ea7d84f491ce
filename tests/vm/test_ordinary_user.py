"""All that a user does, by a user without root whose home folder is closed (0700) to everybody else.

One user, one checkout and one machine for the whole file. It costs two minutes on two cores without KVM: ten seconds for `.venv`,
forty for a base of its own, forty for the bake of `minimal`, twenty for the machine; twice that on a busy computer. The bake runs
with umask 077, all other commands with 002.
"""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clouds.local.base.bases import BUILD_S
from clouds.locks import locked
from tests.vm.ordinary import OrdinaryUser, copy_checkout, ordinary_user

pytestmark = pytest.mark.vm

STORE = 'the store/-it\'s "q"'
SECRET = "s3cret-of-the-mirror"
BUILD = """
import sys
from pathlib import Path
from clouds.driver import Base
from clouds.local.base.bootstrap import bootstrap
from clouds.local.base.definition import define
from clouds.mirrors import Mirrors
from clouds.local.base.host_environment import HostSettings
given = eval(sys.stdin.read())
settings = HostSettings(mirrors=Mirrors(*given["mirrors"]), apt=given["apt"])
scratch = Path(sys.argv[1])
scratch.mkdir()
bootstrap(define(Base("trixie", "amd64")), scratch, Path("/var/tmp"), settings, print)
"""


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    with ordinary_user() as made:
        assert made.folder.stat().st_mode & 0o777 == 0o700
        yield replace(made, extra={"BAKEHOUSE_HOME": str(made.folder / STORE)})


@pytest.fixture(scope="module")
def clone(user: OrdinaryUser) -> Path:
    """Give a copy of the project with its environment, in the home folder."""
    folder = copy_checkout(user, "my clone")
    user.must(folder / "inv", "--list", timeout_s=600)
    return folder


@dataclass(frozen=True)
class Commands:
    """`./inv` as that user."""

    user: OrdinaryUser
    clone: Path

    def must(self, *words: str | Path, timeout_s: float = 600, umask: int = 0o002) -> str:
        return self.user.must(self.clone / "inv", *words, timeout_s=timeout_s, umask=umask)

    def result(self, *words: str, timeout_s: float = 600, umask: int = 0o002) -> Any:
        return json.loads(self.must(*words, "--json", timeout_s=timeout_s, umask=umask).splitlines()[-1])


@pytest.fixture(scope="module")
def inv(user: OrdinaryUser, clone: Path) -> Commands:
    return Commands(user, clone)


@pytest.fixture(scope="module")
def baked(inv: Commands, user: OrdinaryUser, vm_home: Path) -> dict[str, Any]:
    """Give the result of a bake, which builds the base first; all other tests may use that base, too."""
    result: dict[str, Any] = inv.result("bake", "--recipe", "minimal", timeout_s=3000, umask=0o077)
    share_base(user.folder / STORE / "local/bases", vm_home / "local/bases")
    return result


def share_base(own: Path, shared: Path) -> None:
    """Copy a base to the folder of all tests, where it saves them the build of the same one."""
    with locked(shared / ".lock", what="another test to build the base", timeout_s=BUILD_S):
        for base in own.glob("base-*"):
            if not (shared / base.name).exists():
                shutil.copytree(base, partial := shared / f".shared-{base.name}")
                partial.rename(shared / base.name)


def test_settings_of_apt_reach_the_build_and_nobody_else(user: OrdinaryUser, clone: Path) -> None:
    """The build fails, for the servers answer 404; that takes seconds."""
    certificate, key = make_certificate(user)
    with answering() as proxy, answering(key) as mirror:
        given = {
            "mirrors": (
                "http://deb.example/debian",
                f"https://me:{SECRET}@localhost:{mirror.port}/debian-security",
            ),
            "apt": {
                "Acquire::http::Proxy": f"http://me:{SECRET}@127.0.0.1:{proxy.port}",
                "Acquire::https::Proxy::localhost": "DIRECT",
                "Acquire::https::localhost::CAInfo": str(certificate),
            },
        }
        script = user.write("build.py", BUILD)
        command = ["env", f"PYTHONPATH={clone}", clone / ".venv/bin/python", script, user.folder / "a scratch"]
        done = user.run(*command, timeout_s=300, umask=0o077, stdin=repr(given))
    assert done.returncode == 1
    assert "CloudError: mmdebstrap" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    credentials = base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert ("http://deb.example/debian/dists/trixie/InRelease", f"Basic {credentials}") in proxy.asked
    assert ("/debian-security/dists/trixie-security/InRelease", f"Basic {credentials}") in mirror.asked
    assert proxy.seen_by_all == mirror.seen_by_all == []


def test_bake_builds_a_base_and_an_image(baked: dict[str, Any], user: OrdinaryUser) -> None:
    assert baked["image"].startswith("minimal-")
    bases = [path.name for path in (user.folder / STORE / "local/bases").glob("base-*")]
    assert len(bases) == 1


def test_machine_is_launched_used_stopped_started_and_deleted(inv: Commands, user: OrdinaryUser, baked: dict[str, Any]) -> None:
    launched = inv.result("launch", "--recipe", "minimal", "--name", "lab")
    assert launched["image"] == baked["image"]
    assert inv.must("ssh", "lab", "--", "id", "--user", "--name") == "notebook\n"
    there, back = user.write("there.txt", "there and back\n"), user.folder / "back.txt"
    inv.must("copy", there, "lab:there.txt")
    inv.must("copy", "lab:there.txt", back)
    assert user.must("cat", back, timeout_s=30) == "there and back\n"
    inv.must("stop", "lab")
    inv.must("start", "lab")
    assert inv.must("ssh", "lab", "--", "cat", "there.txt") == "there and back\n"
    inv.must("delete", "lab", "--yes")


def test_nothing_is_left_of_machines_and_builds(inv: Commands, user: OrdinaryUser, baked: dict[str, Any]) -> None:
    inv.must("gc", "--yes")
    assert baked
    assert user.processes() == []
    store = user.folder / STORE
    patterns = ("local/machines/*", "local/**/.partial-*", "bakes/*/.partial-*", "local/bases/*/input.*")
    assert [str(path) for pattern in patterns for path in store.glob(pattern)] == []
    assert user.trees() == []


# The servers


@dataclass
class Asked:
    """A server on loopback: its port, what it was asked for with which credentials, and who else could read those."""

    port: int = 0
    asked: set[tuple[str, str]] = field(default_factory=set)
    seen_by_all: list[str] = field(default_factory=list)


@contextmanager
def answering(key: Path | None = None) -> Iterator[Asked]:
    """Answer 404 to every request; with TLS when a file of key and certificate is given."""
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.asked.add((self.path, self.headers.get("Proxy-Authorization") or self.headers.get("Authorization") or ""))
            asked.seen_by_all += exposed()
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if key:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        asked.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join(timeout=30)


def exposed() -> list[str]:
    """Return where everybody on this computer can read the secret right now: arguments of processes, files of apt."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if SECRET.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            continue
    for path in Path("/var/tmp").glob("mmdebstrap.*/etc/apt/**/*"):
        try:
            if path.is_file() and path.stat().st_mode & 0o044 and SECRET in path.read_text():
                found.append(str(path))
        except OSError:
            continue
    return found


def make_certificate(user: OrdinaryUser) -> tuple[Path, Path]:
    """Return the user's own file (0600) of a CA certificate for localhost, and a copy of it with its key for the server."""
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2", "-subj", "/CN=localhost"]
    command = ["openssl", "req", *words, "-addext", "subjectAltName=DNS:localhost", "-keyout", "/dev/stdout"]
    both = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    certificate = both[both.index("-----BEGIN CERTIFICATE") :]
    return user.write("ca.crt", certificate), user.write("server.pem", both)
