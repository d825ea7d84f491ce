"""How Jupyter knows its visitors: the part of its configuration that is code, run with stand-ins for Jupyter's own classes."""

from __future__ import annotations

import random
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bakery.recipe.recipe import load
from bakery.script.render import render
from bakery.script.resolve import Resolution
from tests.bash_guest import SYSTEM_PATH
from tests.machine_code import load_code


class StandIn:
    """What Jupyter's own class would say of a visitor who is let in."""

    def get_user(self, _handler: object) -> str:
        return "somebody"


class Config(SimpleNamespace):
    """A configuration in which every section is there."""

    def __getattr__(self, name: str) -> Config:
        section = Config()
        setattr(self, name, section)
        return section


class Server:
    """A running Jupyter: its configuration, its settings, and who it says that a visitor is."""

    def __init__(self, folder: Path) -> None:
        self.config, self.settings = Config(), dict[str, bytes]()
        script = render(load("jupyter"), Resolution({"packages": ()})).text
        text = script.partition("cat >/usr/lib/bakehouse/jupyter_front.py <<'FILE'\n")[2].partition("\nFILE\n")[0]
        self.code = load_code("config.py", SYSTEM_PATH.sub(str(folder), text), get_config=lambda: self.config)
        self.secret: Path = self.code.COOKIE_SECRET
        self.secret.parent.mkdir(parents=True)
        self._identity = self.code.MachinePassword()

    def visitor(self) -> str | None:
        """Ask who a visitor is."""
        return self._identity.get_user(SimpleNamespace(application=SimpleNamespace(settings=self.settings)))

    def take_secret(self, secret: bytes) -> None:
        """Give the machine a secret, as its identity does."""
        part = self.secret.with_suffix(".part")
        part.write_bytes(secret)
        part.replace(self.secret)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    auth = SimpleNamespace(passwd_check=None)
    monkeypatch.setitem(sys.modules, "jupyter_server.auth", auth)
    monkeypatch.setitem(sys.modules, "jupyter_server.auth.identity", SimpleNamespace(PasswordIdentityProvider=StandIn))
    return Server(tmp_path)


def test_while_a_machine_is_nobodys_a_visitor_is_nobody(server: Server) -> None:
    assert server.visitor() is None
    assert server.settings == {}


def test_a_machine_s_own_secret_is_used_from_the_first_visit_on(server: Server) -> None:
    for secret in (b"one", b"another"):
        server.take_secret(secret)
        assert server.visitor() == "somebody"
        assert server.settings == {"cookie_secret": secret}


def test_jupyter_makes_no_secret_of_its_own(server: Server) -> None:
    assert server.config.ServerApp.cookie_secret  # else it would make one, and tornado would raise for an empty one
    assert server.config.ServerApp.cookie_secret.startswith(b"none")
    assert "cookie_secret_file" not in vars(server.config.ServerApp)


def test_with_another_secret_comes_other_randomness(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[tuple[int, float]] = []
    monkeypatch.setattr(ssl, "RAND_add", lambda seed, entropy: added.append((len(seed), entropy)))
    seen = []
    for secret in (b"one", b"two"):
        random.seed(1)  # as it was frozen
        server.take_secret(secret)
        server.visitor()
        server.visitor()
        seen.append(random.random())
    assert seen[0] != seen[1]
    assert added == [(64, 64), (64, 64)]
