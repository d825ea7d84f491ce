"""What mmdebstrap is given: nothing that it would have to read below a closed folder, and no credentials in its words."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import Base
from clouds.errors import CloudError, UsageError
from clouds.local.base import bootstrap
from clouds.local.base.definition import TEMPLATES, Definition
from clouds.local.base.host_environment import HostSettings
from clouds.mirrors import Mirrors

SECRET = "s3cr:t"
ENCODED = "s3cr%3At"
AS_CALLER = re.compile(r"--(setup|customize)-hook=(tar-in|copy-out|download) ")
"""The hooks whose paths outside the tree are opened by the caller; see mmdebstrap(1), SPECIAL HOOKS."""


@pytest.fixture(params=["plain", 'a b/-it\'s "q"'])
def scratch(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / str(request.param)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def definition(tmp_path: Path) -> Definition:
    checkout = tmp_path / "my checkout" / "base"
    checkout.parent.mkdir()
    subprocess.run(["cp", "-r", TEMPLATES, checkout], check=True)
    uv = tmp_path / "my checkout" / "uv"
    uv.write_bytes(b"uv")
    return Definition(Base("trixie", "amd64"), uv, checkout)


@pytest.fixture(params=[0o077, 0o002, 0o022], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def settings(folder: Path) -> HostSettings:
    """Return settings with credentials, and with certificates in a folder."""
    certificate = folder / "ca.crt"
    certificate.write_text("CERTIFICATE")
    return HostSettings(
        mirrors=Mirrors(f"http://me:{ENCODED}@m.example/debian", "http://m.example/debian-security"),
        apt={"Acquire::http::Proxy": f"http://me:{ENCODED}@p.example:3128", "Acquire::https::m.example::CAInfo": str(certificate)},
        bundle=certificate,
    )


def members(path: Path) -> dict[str, tuple[tarfile.TarInfo, str]]:
    with tarfile.open(path) as tar:
        return {entry.name: (entry, tar.extractfile(entry).read().decode()) for entry in tar if entry.isfile()}  # type: ignore[union-attr]


def test_only_what_runs_as_the_caller_is_given_a_path_of_ours(definition: Definition, scratch: Path, tmp_path: Path) -> None:
    words = bootstrap.command(definition, scratch)
    target = words[-2]
    assert Path(target).parent == scratch
    rest = [word for word in words if not AS_CALLER.match(word) and word != target]
    assert not [word for word in rest if str(tmp_path) in word or str(definition.templates) in word]
    assert not [word for word in rest if re.match("--(apt|dpkg)opt", word)]


def test_path_in_a_hook_is_one_word_of_the_shell(definition: Definition, scratch: Path) -> None:
    hooks = [shlex.split(word.partition("=")[2]) for word in bootstrap.command(definition, scratch) if AS_CALLER.match(word)]
    ours = [hook[1] if hook[0] == "tar-in" else hook[2] for hook in hooks]
    assert [len(hook) for hook in hooks] == [3] * 4
    assert all(Path(path).is_relative_to(scratch) for path in ours)


def test_credentials_are_in_a_private_file_alone(definition: Definition, scratch: Path, umask: None, tmp_path: Path) -> None:
    found = settings(tmp_path)
    bootstrap.pack_setup(definition, found, scratch / bootstrap.SETUP)
    packed = members(scratch / bootstrap.SETUP)
    holders = {entry.mode for entry, text in packed.values() if ENCODED in text}
    assert holders == {0o400}
    assert ((scratch / bootstrap.SETUP).stat().st_mode & 0o777) == 0o600
    assert not [word for word in bootstrap.command(definition, scratch) if ENCODED in word]


def test_apt_and_dpkg_get_our_options_whatever_our_umask_is(definition: Definition, umask: None, tmp_path: Path) -> None:
    bootstrap.pack_setup(definition, HostSettings(), tmp_path / "tar")
    packed = members(tmp_path / "tar")
    for name in ("etc/apt/apt.conf.d/50bakehouse", "etc/dpkg/dpkg.cfg.d/bakehouse"):
        entry, text = packed[name]
        assert text == (definition.templates / "root" / name).read_text()
        assert (entry.mode, entry.uid) == (0o644, 0)


def test_files_of_a_closed_checkout_are_open_in_the_tree(definition: Definition, umask: None, tmp_path: Path) -> None:
    bootstrap.pack_tree(definition, tmp_path / "before")
    subprocess.run(["chmod", "-R", "go=", definition.templates], check=True)
    bootstrap.pack_tree(definition, tmp_path / "after")
    modes = [{name: entry.mode for name, (entry, _) in members(tmp_path / tar).items()} for tar in ("before", "after")]
    assert modes[0] == modes[1]
    assert set(modes[0].values()) == {0o644, 0o755}


def test_packages_of_a_recipe_are_installed_with_the_base_and_listed_in_it(definition: Definition, tmp_path: Path) -> None:
    more = replace(definition, base=replace(definition.base, packages=("g++", "git")))
    [included] = [word for word in bootstrap.command(more, tmp_path) if word.startswith("--include=")]
    assert included.endswith(",nginx,g++,git")
    bootstrap.pack_tree(more, tmp_path / "tar")
    entry, text = members(tmp_path / "tar")["usr/lib/bakehouse/in-base"]
    assert text.splitlines()[1:] == ["g++", "git"]
    assert (entry.mode, entry.uid) == (0o644, 0)
    bootstrap.pack_tree(definition, tmp_path / "plain")
    assert "usr/lib/bakehouse/in-base" not in members(tmp_path / "plain")


def test_certificates_come_with_the_tree_and_are_named_by_their_place_there(definition: Definition, tmp_path: Path) -> None:
    bootstrap.pack_setup(definition, settings(tmp_path), tmp_path / "tar")
    root = tmp_path / "a root"
    for name, (_, text) in members(tmp_path / "tar").items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    hooks = [word.partition("=")[2] for word in bootstrap.command(definition, tmp_path) if word.startswith("--setup-hook=while")]
    subprocess.run(["sh", "-c", hooks[0], "exec", root], check=True)
    lines = "".join(path.read_text() for path in (root / "etc/apt/apt.conf.d").iterdir())
    named = dict(re.findall(r'^(\S+::CAInfo) "(.+)";$', lines, re.MULTILINE))
    assert set(named) == {"Acquire::https::m.example::CAInfo", "Acquire::https::CAInfo"}
    assert all(Path(path).is_relative_to(root) and Path(path).read_text() == "CERTIFICATE" for path in named.values())
    assert str(tmp_path / "ca.crt") not in lines


def test_certificate_that_cannot_be_read_is_left_to_apt(definition: Definition, tmp_path: Path) -> None:
    found = HostSettings(apt={"Acquire::https::CAInfo": "/nonexistent/ca.crt"})
    bootstrap.pack_setup(definition, found, tmp_path / "tar")
    assert any("/nonexistent/ca.crt" in text for _, text in members(tmp_path / "tar").values())


def test_all_that_the_setup_puts_into_the_tree_is_removed_or_ours(definition: Definition, tmp_path: Path) -> None:
    bootstrap.pack_setup(definition, settings(tmp_path), tmp_path / "tar")
    removed = " ".join(word for word in bootstrap.command(definition, tmp_path) if "-hook=rm " in word)
    ours = {str(path.relative_to(definition.templates / "root")) for path in (definition.templates / "root").rglob("*")}
    left = [name for name in members(tmp_path / "tar") if name not in ours and f'"$1/{name}"' not in removed]
    assert all(f'"$1/{Path(name).parent}"' in removed for name in left)


@pytest.mark.parametrize("password", [SECRET, ENCODED])
def test_password_in_the_words_of_apt_is_hidden(tmp_path: Path, password: str) -> None:
    text = f"Err:1 http://me:{password}@m.example/debian trixie InRelease"
    assert bootstrap.without_passwords(text, settings(tmp_path)) == "Err:1 http://me:***@m.example/debian trixie InRelease"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "I: running\nErr:1 http://m/x InRelease\n  refused\nE: Failed to fetch http://me:pw@m/x  refused\nE: Some failed\n",
            "Failed to fetch http://me:***@m/x refused",
        ),
        (
            "I: run\ncustomize: 9: ls: not found\nE: setup failed: E: rest\n",
            "customize: 9: ls: not found; E: setup",
        ),
        ("I: running\nE: Unable to locate package x\nE: setup failed\n", "E: Unable to locate package x; E: setup failed"),
        ("killed\n", "killed"),
    ],
)
def test_error_has_the_words_of_what_failed(
    definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    monkeypatch.setattr(bootstrap, "command", lambda _definition, _scratch: ["sh", "-c", 'printf %s "$0" >&2; exit 1', said])
    found = HostSettings(mirrors=Mirrors("http://me:pw@m/debian"))
    with pytest.raises(CloudError, match=f"^mmdebstrap: {re.escape(told)}") as raised:
        bootstrap.bootstrap(definition, tmp_path, tmp_path, found, lambda _line: None)
    assert "pw" not in str(raised.value)


def test_path_that_apt_cannot_use_is_refused_before_anything_is_built(
    definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "is_root", lambda: True)
    with pytest.raises(UsageError, match="double quote") as raised:
        bootstrap.bootstrap(definition, tmp_path / 'a "q"', None, HostSettings(), print)
    assert "BAKEHOUSE_HOME" in raised.value.next_step


@pytest.mark.parametrize("name", ["PERL5LIB", "TAR_OPTIONS", "SSL_CERT_FILE"])
def test_variable_that_may_name_a_file_of_a_closed_home_is_not_handed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/home/me/x")
    monkeypatch.setenv("https_proxy", "http://p.example:3128")
    variables = bootstrap.variables(Path("/var/tmp"))
    assert name not in variables
    assert variables["https_proxy"] == "http://p.example:3128"


@pytest.mark.parametrize("folder", [None, Path("/srv/space")])
def test_tree_is_built_where_the_variable_tells_mmdebstrap(folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/home/me")
    assert bootstrap.variables(folder).get("TMPDIR") == (str(folder) if folder else None)


def put_mmdebstrap(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of this name first on PATH."""
    program = folder / "bin/mmdebstrap"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncd '{folder}'\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def interrupt(said: str) -> None:
    raise KeyboardInterrupt


def test_interrupted_build_has_ended_when_its_folder_is_removed(
    definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaning = "trap 'trap : TERM; sleep 0.3; touch ended; exit 1' TERM"
    put_mmdebstrap(tmp_path, f"{cleaning}\necho 'I: installing packages...' >&2\nwhile sleep 0.1; do :; done", monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.bootstrap(definition, tmp_path, tmp_path, HostSettings(), interrupt)
    assert (tmp_path / "ended").exists()


def test_process_that_ignores_an_interrupt_is_killed(
    definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "(trap '' TERM; exec sh -c 'echo $$ >pid; echo I: installing packages... >&2; exec sleep 3600') & wait"
    put_mmdebstrap(tmp_path, script, monkeypatch)
    monkeypatch.setattr(bootstrap, "ENDS_S", 0.5)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.bootstrap(definition, tmp_path, tmp_path, HostSettings(), interrupt)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip(), "exe").exists()  # a zombie has no program


@pytest.mark.skipif(os.geteuid() != 0, reason="without root, mmdebstrap mounts in a namespace of its own")
def test_mounts_of_an_interrupted_build_do_not_stay(
    definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'mkdir tree\nmount -t tmpfs tmpfs tree\necho "I: $(stat --file-system --format=%T tree)..." >&2\nexec sleep 60'
    put_mmdebstrap(tmp_path, script, monkeypatch)
    seen: list[str] = []

    def look(said: str) -> None:
        seen.extend([said, Path("/proc/self/mountinfo").read_text(encoding="utf-8")])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap.bootstrap(definition, tmp_path, None, HostSettings(), look)
    assert seen[0] == "tmpfs"
    assert str(tmp_path) not in seen[1] + Path("/proc/self/mountinfo").read_text(encoding="utf-8")
