"""Search a finished disk from outside for secrets and for traces of the bake.

The guest cleans itself in its last step (templates/steps/seal.sh.j2); this is an independent check, by file names and contents.
The rules follow leaks in other projects' images (hashicorp/packer#4045, AndrewGuenther/fck-nat#87,
scylladb/scylla-machine-image#934) and cloud-init's own clean-up list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bakery.errors import NotSealedError
from bakery.order import Order
from bakery.proof.packages import packages
from bakery.record import Record
from clouds.capabilities import DiskFiles


@dataclass(frozen=True, slots=True)
class Rule:
    """Files that no image may contain, by path (a regular expression); `empty_is_fine`: unless they are empty."""

    what: str
    path: re.Pattern[str]
    empty_is_fine: bool = False


def _rule(what: str, path: str, *, empty_is_fine: bool = False) -> Rule:
    return Rule(what, re.compile(path), empty_is_fine)


_HOMES = r"/(root|home/[^/]+)"

RULES: tuple[Rule, ...] = (
    _rule("SSH host key", r"/etc/ssh/ssh_host_.*"),
    _rule("SSH authorized key", _HOMES + r"/\.ssh/authorized_keys2?", empty_is_fine=True),
    _rule("SSH private key", _HOMES + r"/\.ssh/id_[^.]*"),
    _rule("AWS credentials", _HOMES + r"/\.aws/.*"),
    _rule("Google Cloud credentials", _HOMES + r"/\.config/gcloud/.*"),
    _rule("Azure credentials", _HOMES + r"/\.azure/.*"),
    _rule("Docker credentials", _HOMES + r"/\.docker/config\.json"),
    _rule("netrc", _HOMES + r"/[._]netrc"),
    _rule("pip configuration of the build", r"(/etc/pip\.conf|" + _HOMES + r"/\.(config/)?pip/pip\.conf)"),
    _rule("PyPI credentials", _HOMES + r"/\.pypirc"),
    _rule("uv credentials", _HOMES + r"/\.local/share/uv/credentials/.*"),
    _rule("apt credentials", r"/etc/apt/auth\.conf(\.d/.*)?"),
    _rule("apt proxy of the build", r"/etc/apt/apt\.conf\.d/.*proxy.*"),
    _rule("git credentials", _HOMES + r"/(\.git-credentials|\.config/git/credentials)"),
    _rule("shell history", _HOMES + r"/\.\w*_?hist(ory|file)?"),
    _rule("cloud-init state", r"/var/lib/cloud/.*"),
    _rule("cloud-init log", r"/var/log/cloud-init.*"),
    _rule("machine-id", r"/etc/machine-id", empty_is_fine=True),
    _rule("machine-id", r"/var/lib/dbus/machine-id", empty_is_fine=True),
    _rule("random seed", r"/var/lib/systemd/random-seed"),
    _rule("credential secret", r"/var/lib/systemd/credential\.secret"),
    _rule("password hash", r"/var/lib/bakehouse/password-hash"),
    _rule("cookie secret", r"(/var/lib/bakehouse/cookie-secret|.*/jupyter_cookie_secret)"),
    _rule("identity of a machine", r"/var/lib/bakehouse/(machine|steps/.*|done/.*)"),
    _rule("files of the bake", r"/var/lib/bakehouse/received/.*"),
    _rule("TLS private key", r"(/etc/ssl/private/.*|/var/lib/bakehouse/tls\..*)"),
    _rule("journal", r"/var/log/journal/.*"),
    _rule("log of the bake", r"/var/log/(bakehouse/.*|syslog.*|auth\.log.*|wtmp|btmp)", empty_is_fine=True),
    _rule("package lists", r"/var/lib/apt/lists/.*_(InRelease|Release|Packages.*)"),
    _rule("package cache", r"/var/cache/apt/archives/.*\.deb"),
    _rule("temporary file", r"/(tmp|var/tmp)/.*"),
    _rule("DHCP lease", r"/var/lib/(dhcp|dhcpcd|NetworkManager)/.*lease.*"),
)

CONTENTS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("private key", re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("service-account key", re.compile(rb'"type":\s*"service_account"')),
    ("AWS secret key", re.compile(rb"(?i)aws_secret_access_key\s*[=:]")),
    ("AWS access key", re.compile(rb"\bAKIA[0-9A-Z]{16}\b")),
    ("GitHub token", re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{36}\b")),
    ("password hash", re.compile(rb"argon2:\$argon2id\$")),
    ("password of a Unix account", re.compile(rb"(?m)^[^:\n]+:\$[0-9a-z]+\$")),
    ("credentials in a URL", re.compile(rb"(?im)^[^#\n]*\bhttps?://[^/\s:@\"']+:[^/\s@\"']+@")),
)
"""Patterns that no small file may contain in user-writable places; packages are left out, since their files contain test keys."""

_SEARCHED = re.compile(r"/(etc|root|home|srv|opt|usr/local|var/lib/(bakehouse|jupyter|cloud))/.*")
_NOT_SEARCHED = re.compile(
    r".*/(site-packages|dist-packages|share/doc|share/ca-certificates|ssl/certs)/.*|/opt/[^/]+/(lib|pkgs|share)/.*"
)
_SEARCHED_BYTES_MAX = 65536
_TOLD_MAX = 20


def find_leaks(files: DiskFiles, *, literals: Sequence[str] = ()) -> list[str]:
    """Return one line `path: what it is` for each file that must not be in an image, sorted by path.

    `literals` are secrets of this bake, such as its nonce, searched for in every small file.
    """
    sizes = files.list()
    named = {path: rule.what for path in sizes for rule in RULES if _breaks(rule, path, sizes[path])}
    small = [path for path in sizes if path not in named and sizes[path] <= _SEARCHED_BYTES_MAX and _is_searched(path)]
    for path, content in files.read(small, _SEARCHED_BYTES_MAX).items():
        if what := _what_is_in(content, [text.encode() for text in literals if text]):
            named[path] = what
    return [f"{path}: {named[path]}" for path in sorted(named)]


def search(files: DiskFiles, order: Order, record: Record) -> None:
    """Search a finished disk for leaks, and record its packages. NotSealedError: something was found."""
    if leaks := find_leaks(files, literals=(order.nonce,)):
        next_step = "Remove these files in the step that creates them; the image was deleted."
        raise NotSealedError(summary(leaks), step="seal", log=leaks, next_step=next_step)
    record.packages.write_text(json.dumps(packages(files), indent=2) + "\n", encoding="utf-8")


def summary(leaks: Sequence[str]) -> str:
    """Return a message of limited length that lists the leaks."""
    more = len(leaks) - _TOLD_MAX
    return "the finished disk is not sealed:\n" + "\n".join(leaks[:_TOLD_MAX]) + (f"\nand {more} more" if more > 0 else "")


def _breaks(rule: Rule, path: str, size_bytes: int) -> bool:
    return rule.path.fullmatch(path) is not None and not (rule.empty_is_fine and size_bytes == 0)


def _is_searched(path: str) -> bool:
    return _SEARCHED.fullmatch(path) is not None and _NOT_SEARCHED.fullmatch(path) is None


def _what_is_in(content: bytes, literals: Iterable[bytes]) -> str:
    if any(literal in content for literal in literals):
        return "secret of this bake"
    return next((what for what, pattern in CONTENTS if pattern.search(content)), "")
