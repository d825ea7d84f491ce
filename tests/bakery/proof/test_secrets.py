"""What the seal finds in contents: measured on files with secrets and on files that only look so."""

from __future__ import annotations

import json
import re
from hashlib import md5
from pathlib import Path

import pytest

from bakery.proof import scanner
from bakery.proof.finding import Finding, not_allowed
from bakery.proof.scanner import scan
from bakery.recipe.recipe import Allow
from clouds.errors import CloudError, MissingToolError
from tests.bakery.proof.test_seal import leaks
from tests.innocent_files import innocent_files
from tests.planted_secrets import planted_secrets

pytestmark = pytest.mark.program

RECALL_MIN = 0.95
KEY = planted_secrets()["TLS key"][1]


@pytest.fixture(scope="module")
def found() -> list[Finding]:
    """Give what is found on a disk with all the secrets."""
    return leaks(dict(planted_secrets().values()))


def test_secrets_as_people_leave_them_are_found(found: list[Finding]) -> None:
    planted = {path: name for name, (path, _content) in planted_secrets().items()}
    missed = sorted(set(planted) - {one.path for one in found})
    assert len(planted) >= 40
    assert len(missed) <= (1 - RECALL_MIN) * len(planted), [planted[path] for path in missed]


def test_innocent_files_of_packages_and_people_are_not() -> None:
    assert list(map(str, leaks(innocent_files()))) == []


def test_each_secret_is_told_once_and_never_printed(found: list[Finding]) -> None:
    """Several rules recognize the same key of OpenAI, and a JWT in a header."""
    for path in ("/home/notebook/.profile", "/usr/local/bin/report"):
        assert len([one for one in found if one.path == path]) == 1
    told = "\n".join([*map(str, found), *map(repr, found)])
    words = {
        word for _path, content in planted_secrets().values() for word in re.findall(r"[A-Za-z0-9+/_-]{12,}", content.decode())
    }
    values = {word for word in words if re.search("[0-9]", word) and not word.startswith(("aws_", "us-"))}
    assert [value for value in values if value in told] == []


def test_the_same_key_in_many_files_is_found_in_each(tmp_path: Path) -> None:
    """Kingfisher tells a secret once unless it is asked not to, and takes `.key` for an archive if it may not open archives."""
    files = {f"/srv/{number}/{name}": KEY for number in range(3) for name in ("server.key", "key.pem", "key")}
    assert {one.path for one in scan(files, tmp_path)} == set(files)


def test_a_path_may_contain_any_characters(tmp_path: Path) -> None:
    odd = [
        '/srv/a b/$(id)/"quoted"/key',
        "/srv/new\nline/key",
        "/srv/..hidden/ key",
        "/srv/\udcff/\udcff",
        "/srv/.gitignore",
        "/srv/.git",
    ]
    found = scan(dict.fromkeys(odd, KEY), tmp_path)
    assert sorted(one.path for one in found) == sorted(odd)
    assert [one for one in found if not str(one).isprintable() or not str(one).encode()] == []
    assert list(tmp_path.iterdir()) == []


_LETTERS = "q7Zr2Wc9Lm4Xt8Vb1Np6Kd3Hs5Gf0JyQ" * 3
OF_NO_FORM = {
    "/srv/app/.env": "OPENAI_API_KEY=sk-{48}",
    "/srv/db/.env": "DB_PASSWORD=Tr0ub4dor&3x",
    "/srv/app/prod.env": "export APP_SECRET='{24}'",
    "/srv/app/.envrc": "export APP_TOKEN={24}",
    "/srv/app/compose.yaml": "      POSTGRES_PASSWORD: {14}",
    "/home/notebook/.dbt/profiles.yml": "      password: hunter22",
    "/home/notebook/.m2/settings.xml": "<password>hunter22</password>",
    "/home/notebook/.config/x/auth.json": '{"password": "hunter22"}',
    "/home/notebook/.jupyter/jupyter_server_config.py": "c.ServerApp.token = '{24}'",
    "/etc/fstab": "//nas/x /mnt cifs username=me,password=hunter22,uid=1000 0 0",
    "/etc/cron.d/backup": "0 3 * * * root PGPASSWORD=hunter22 pg_dump x",
    "/home/notebook/.bashrc": "export HF_TOKEN=hf_{37}",
    "/home/notebook/.config/fish/config.fish": "set -x X 1; export GITHUB_TOKEN=github_pat_{82}",
    "/home/notebook/.config/environment.d/my.conf": "WANDB_API_KEY={40}",
    "/etc/profile.d/my.sh": "export https_proxy=http://me:hunter22@proxy.corp:3128",
    "/etc/apt/sources.list.d/x.sources": "URIs: https://me:secret@deb.corp/debian",
    "/etc/systemd/system/app.service.d/env.conf": "Environment=API_TOKEN={30}",
}
"""Tokens and passwords without a known form; `{N}` stands for N letters and digits."""


def test_a_token_of_no_known_form_is_found_where_programs_read_it() -> None:
    texts = {path: re.sub(r"\{(\d+)\}", lambda size: _LETTERS[: int(size[1])], text) for path, text in OF_NO_FORM.items()}
    found = leaks({path: text.encode() for path, text in texts.items()})
    assert sorted(one.path for one in found) == sorted(OF_NO_FORM)


def test_lines_are_counted_as_editors_count_them() -> None:
    """A form feed and U+2028 end no line, whichever part of the search has found a secret."""
    text = f"A=\f\u2028\x85\r\nDB_PASSWORD={_LETTERS[:20]}\nURL=postgres://me:{_LETTERS[:12]}\u2028x@db.corp/app\n"
    found = leaks({"/srv/app/.env": text.encode(), "/srv/key": text.encode() + KEY})
    assert [(one.path, one.line) for one in found] == [("/srv/app/.env", 2), ("/srv/app/.env", 3), ("/srv/key", 3), ("/srv/key", 4)]


def test_a_secret_that_is_allowed_hides_no_other_on_its_line() -> None:
    keys = {name: content.decode() for name, (_path, content) in planted_secrets().items()}
    line = " ".join(keys[name].strip() for name in ("Hugging Face", "Vault")).encode()
    [first, other] = leaks({"/srv/app/tokens.txt": line})
    allowed = [Allow(fingerprint=first.fingerprint, reason="for tests")]
    assert not_allowed(leaks({"/srv/app/tokens.txt": line}), allowed) == [other]


def listed(path: str, size_bytes: int) -> bytes:
    """Return the RECORD of a wheel with one file."""
    return f"{path},sha256=x,{size_bytes}\ntests-1.dist-info/RECORD,,\n".encode()


def test_files_that_packages_list_are_published_until_somebody_changes_them() -> None:
    packages = "/opt/notebook/lib/python3.13/site-packages"
    files = {
        "/var/lib/dpkg/info/stunnel4.list": b"/.\n/usr/lib/stunnel4/test.pem\n/etc/stunnel/own.pem\n",
        "/usr/lib/stunnel4/test.pem": KEY,
        "/opt/conda/conda-meta/x-1-0.json": b'{"files": ["lib/x/test.pem"]}',
        "/opt/conda/lib/x/test.pem": KEY,
        f"{packages}/tests-1.dist-info/RECORD": listed("tests/test.key", len(KEY)),
        f"{packages}/tests/test.key": KEY,
    }
    assert leaks(files) == []
    others = {
        "/etc/stunnel/own.pem": KEY,
        "/usr/lib/stunnel4/own.pem": KEY,
        f"{packages}/tests/test.key": KEY + b"\n",
        f"{packages}/own/.env": b"HF_TOKEN=Tr0ub4dor&3x\n",
        f"{packages}/mine/settings.key": KEY,
        f"{packages}/mine-1.dist-info/RECORD": listed("mine/settings.key", len(KEY)),
        f"{packages}/mine-1.dist-info/direct_url.json": b'{"url": "file:///srv/mine", "dir_info": {}}',
        "/srv/node_modules/x/.env": b"DB_PASSWORD=Tr0ub4dor&3x\n",
    }
    lists = {path for path in others if "dist-info" in path}
    assert {one.path for one in leaks({**files, **others})} == set(others) - lists


def test_damaged_lists_of_packages_hide_nothing() -> None:
    files = {
        "/var/lib/dpkg/info/x.list": b"\xff\xfe\n",
        "/opt/conda/conda-meta/x.json": b"[",
        "/opt/x/x.dist-info/RECORD": b'\n"\n..,,\n/srv/key,sha256=x,many\n',
        "/srv/key": KEY,
    }
    assert [one.path for one in leaks(files)] == ["/srv/key"]


def test_a_recipe_allows_by_fingerprint_or_path_and_never_what_identifies_a_machine(tmp_path: Path) -> None:
    [one, other] = scan({"/srv/app/server.key": KEY, "/srv/app/other.key": KEY}, tmp_path)
    assert one.fingerprint != other.fingerprint
    assert not_allowed([one, other], [Allow(fingerprint=one.fingerprint, reason="for tests")]) == [other]
    assert not_allowed([one, other], [Allow(path="/srv/app", reason="for tests")]) == []
    assert not_allowed([one], [Allow(path="/srv/ap", reason="for tests")]) == [one]
    assert not_allowed([one], [Allow(path="/srv/app", fingerprint="0" * 16, reason="for tests")]) == [one]
    identity = leaks({"/etc/machine-id": b"0123456789abcdef0123456789abcdef\n"})
    assert not_allowed(identity, [Allow(path="/etc/machine-id", reason="for tests")]) == identity


def test_configuration_files_of_packages_are_published_until_somebody_changes_them() -> None:
    content = b"[server]\npassword = Tr0ub4dor&3x\n"
    status = f"Package: x\nStatus: install ok installed\nConffiles:\n /etc/x/x.conf {md5(content).hexdigest()}\nDescription: x\n"
    files = {"/var/lib/dpkg/status": status.encode(), "/etc/x/x.conf": content}
    assert leaks(files) == []
    assert [one.path for one in leaks({**files, "/etc/x/x.conf": content + b"\n"})] == ["/etc/x/x.conf"]


def test_a_folder_with_a_toolchain_is_published_but_not_the_home_around_it() -> None:
    tools = {"/home/notebook/lib/googlecloudsdk/gcloud_main.py": b"\n", "/opt/go/src/cmd/go/main.go": b"\n"}
    keys = dict.fromkeys(("/home/notebook/key", "/opt/key", "/opt/go/src/key", "/opt/gone/key"), KEY)
    assert {one.path for one in leaks({**tools, **keys})} == set(keys) - {"/opt/go/src/key"}


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("cat files/*/* >&2; exit 101", "failed with exit status 101"),
        ("cat files/*/*; exit 2", "failed with exit status 2"),
        ("cat files/*/* >&2; kill -KILL $$", "ended by SIGKILL"),
        ("cat files/*/*", "cannot be read"),
        ('echo \'{"finding": {"snippet": "x"}}\'', "cannot be read"),
        ("", "cannot run here"),
    ],
)
def test_a_scanner_that_fails_is_an_error_without_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str, told: str
) -> None:
    program = tmp_path / "kingfisher"
    program.write_text(f"#!/bin/sh\n{ending}\n" if ending else "")
    program.chmod(0o700)
    monkeypatch.setattr(scanner, "get_binary_path", lambda: str(program))
    with pytest.raises(CloudError, match=told) as failed:
        scan({"/srv/key": KEY}, tmp_path)
    assert "PRIVATE KEY" not in f"{failed.value.message} {failed.value.next_step}"
    assert list(tmp_path.iterdir()) == [program]


def test_a_wheel_without_its_program_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scanner, "get_binary_path", _missing)
    with pytest.raises(MissingToolError, match="cannot run here: not found"):
        scan({"/srv/key": KEY}, tmp_path)


def _missing() -> str:
    raise FileNotFoundError("not found")


def test_a_key_is_found_however_it_is_written(tmp_path: Path) -> None:
    key = KEY.decode()
    encrypted = key.replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1)
    written = {
        "/srv/spaced": key.replace("\n", "\n\n"),
        "/srv/indented": "".join(f"    {line}\n" for line in key.splitlines()),
        "/srv/json": json.dumps({"key": key}),
        "/srv/encrypted": encrypted,
        "/srv/encrypted in json": json.dumps({"key": encrypted}),
        "/srv/of windows": key.replace("\n", "\r\n"),
    }
    found = scan({path: text.encode() for path, text in written.items()}, tmp_path)
    assert sorted(one.path for one in found) == sorted(written)
