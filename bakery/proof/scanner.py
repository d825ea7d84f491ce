"""Search the contents of files for secrets with Kingfisher (github.com/mongodb/kingfisher), without any request to a network.

Its binary comes in the wheel `kingfisher-bin`, pinned by hash in requirements.lock, and runs on this computer only: the files of
an image are copied into a scratch folder. Its output contains the secrets, so it is never printed, logged or stored.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from kingfisher import get_binary_path  # type: ignore[import-untyped]
from platformdirs import user_cache_path

from bakery.proof.finding import Finding
from bakery.proof.user_settings import PLACEHOLDER, is_drawn
from clouds.errors import CloudError, MissingToolError

_RULES = Path(__file__).with_name("rules.toml")
_SCAN_S = 900
_REINSTALL = "Delete the folder .venv, which the next command creates again, and repeat this command."
_MAKE_ROOM = "Make sure that enough memory and disk space are free."
_FOUND = (200, 205)
"""Its exit statuses when it has found something: 205 is for a secret that was validated, which is off (its docs/ADVANCED.md)."""
_OPTIONS = (
    "--no-validate",
    "--no-update-check",
    "--no-dedup",  # otherwise the same key in two files is reported for one of them only
    "--no-ignore",  # a comment in an image must not hide a secret
    "--git-history=none",
    "--format=jsonl",
    "--jobs=2",
)
_KEY_BODY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(.*?)(?:-----END|\Z)", re.DOTALL)
_KEY_HEADER = re.compile(r"(?m)^\s*[A-Za-z-]+: .*$")
"""A line such as `Proc-Type: 4,ENCRYPTED` or `Version: GnuPG v2` (RFC 1421, RFC 4880)."""
_KEY_LETTERS_MIN = 40
"""A header without that much base64 below it is one of a program or a text about keys; an Ed25519 key has 64 letters."""

_EXAMPLE = re.compile(
    r"EXAMPLE|(.)\1{11}|eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIi|tGzv3JOkF0XG5Qx2TlKWIA"
    r"|\"refresh_token\":\s*\"[A-Za-z_ -]*\""
)
"""Examples: AWS's end in EXAMPLE (docs.aws.amazon.com), others repeat one character; the payload shown by jwt.io; the refresh token
of RFC 6749; and Google's description of one (google/auth/external_account_authorized_user.py), for which it writes words."""


def scan(contents: Mapping[str, bytes], scratch: Path) -> list[Finding]:
    """Return the secrets in files, given by path. `scratch` is a private folder for copies of them, which are removed.

    CloudError, MissingToolError: the scanner did not run to its end.
    """
    if not contents:
        return []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        paths = dict(enumerate(contents))
        for number, path in paths.items():
            copy = Path(folder, "files", str(number), _safe_name(path))
            copy.parent.mkdir(parents=True)
            copy.write_bytes(contents[path])
        output = _run(Path(folder))
    try:
        return [_finding(paths, found) for found in _findings(output) if not _is_example(found)]
    except (ValueError, LookupError, TypeError):
        raise CloudError(f"the output of Kingfisher {version('kingfisher-bin')} cannot be read", next_step=_REINSTALL) from None


def _safe_name(path: str) -> str:
    """Return the last name of a guest's path, which may matter to a rule, as every filesystem can store it."""
    return re.sub(r"[^\w.-]", "_", PurePosixPath(path).name, flags=re.ASCII)


def _run(folder: Path) -> bytes:
    """Run the scanner over `files` in a private folder, and return its output: JSON lines."""
    cache = user_cache_path("bakehouse") / "kingfisher"  # its compiled rules: 4 s of work the first time
    environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    environment |= {"KF_RULE_CACHE_DIR": str(cache), "TMPDIR": str(folder)}  # what it unpacks is removed with the copies
    command = [_binary(), "scan", "files", f"--rules-path={_RULES}", *_OPTIONS]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SCAN_S,
            check=False,
        )
    except OSError as error:
        raise _cannot_run(error) from error
    except subprocess.TimeoutExpired as error:
        raise CloudError(
            f"Kingfisher did not finish within {_SCAN_S} s", next_step="Wait until this computer is less busy."
        ) from error
    if done.returncode < 0:
        killed = signal.Signals(-done.returncode).name
        raise CloudError(f"Kingfisher was ended by {killed}", next_step=_MAKE_ROOM)
    if done.returncode not in (0, *_FOUND):  # its own words may quote a file
        raise CloudError(f"Kingfisher failed with exit status {done.returncode}", next_step=_MAKE_ROOM)
    return done.stdout


def _findings(output: bytes) -> Iterator[Mapping[str, Any]]:
    for line in output.splitlines():  # of bytes: in a text, other characters would count as line breaks, too
        found = json.loads(line.decode(errors="replace"))
        if "finding" in found:
            yield found


def _binary() -> str:
    try:
        return str(get_binary_path())
    except OSError as error:
        raise _cannot_run(error) from error


def _cannot_run(error: OSError) -> MissingToolError:
    return MissingToolError(f"Kingfisher cannot run here: {error}", next_step=_REINSTALL)


def _finding(paths: Mapping[int, str], found: Mapping[str, Any]) -> Finding:
    where, rule = found["finding"], str(found["rule"]["name"]).rpartition("/")[2].removeprefix("custom.")
    return Finding(paths[int(PurePosixPath(where["path"]).parts[1])], rule, int(where["line"]), str(where["snippet"]))


def _is_example(found: Mapping[str, Any]) -> bool:
    """Return whether a finding is only the header of a private key, or an example of a documentation."""
    text = str(found["finding"]["snippet"])
    if body := _KEY_BODY.search(text):
        return not _is_key(body[1])
    return bool(_EXAMPLE.search(text) or (found["rule"]["name"].startswith("generic-") and not _is_password(text)))


def _is_password(text: str) -> bool:
    """Return whether what a rule for any kind of secret has found is one: documentation is full of `user:password@`."""
    value = text.rpartition(":")[2]
    return PLACEHOLDER.fullmatch(value) is None and is_drawn(value, is_strict=True)


def _is_key(body: str) -> bool:
    """Return whether there is a key below its header, in a file of its own or as a text of a program or of JSON."""
    lines = body.replace("\\n", "\n").replace("\\r", "")
    letters = re.sub(r"[\s\"',+]", "", _KEY_HEADER.sub("", lines))
    return "..." not in body and re.match(rf"[A-Za-z0-9/+]{{{_KEY_LETTERS_MIN},}}", letters) is not None
