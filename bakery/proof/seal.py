"""Search a finished disk from outside for secrets and for traces of the bake.

The guest cleans itself in its last step (templates/steps/seal.sh.j2); this is an independent check: by the names of files (the
rules below), by a scanner for secrets (`scanner`) and in settings (`user_settings`). It leaves out files of packages (`published`).
The rules follow leaks in other projects' images (hashicorp/packer#4045, AndrewGuenther/fck-nat#87,
scylladb/scylla-machine-image#934) and cloud-init's own clean-up list.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bakery.errors import NotSealedError
from bakery.order import Order
from bakery.proof.finding import Finding, advice, not_allowed, summary
from bakery.proof.published import batches, installed_settings, is_as_installed, not_published
from bakery.proof.scanner import scan
from bakery.proof.user_settings import passwords
from bakery.record import Record
from clouds.capabilities import DiskFiles
from clouds.errors import BakehouseError, CloudError, TimedOutError
from clouds.partial import partial_folder
from launcher.packages import BYTES_MAX, IN_IMAGE


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
    _rule("PostgreSQL passwords", _HOMES + r"/\.pgpass"),
    _rule("MySQL login", _HOMES + r"/\.mylogin\.cnf"),
    _rule("Kaggle API key", r".*/kaggle\.json"),
    _rule("Hugging Face token", _HOMES + r"/\.cache/huggingface/(token|stored_tokens)"),
    _rule("Copernicus API key", _HOMES + r"/\.(cdsapirc|ecmwfapirc)"),
    _rule("Vault token", _HOMES + r"/\.vault-token"),
    _rule("cargo credentials", _HOMES + r"/\.cargo/credentials(\.toml)?"),
    _rule("GnuPG private key", _HOMES + r"/\.gnupg/(private-keys-v1\.d/.*\.key|secring\.gpg)"),
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
    _rule("identity of a machine", r"/var/lib/bakehouse/(machine|tls\..*|steps/.*|done/.*)"),
    _rule("files of the bake", r"/var/lib/bakehouse/received/.*"),
    _rule("TLS private key", r"/etc/ssl/private/.*"),
    _rule("host key of a package", r"/etc/(ssl/private/ssl-cert-snakeoil\.key|dropbear/.*_host_key|munge/munge\.key)"),
    _rule("host key of a package", r"/(etc/(bind/rndc\.key|xrdp/rsakeys\.ini)|var/lib/dkms/mok\.key)"),
    _rule("journal", r"/var/log/journal/.*"),
    _rule("log of the bake", r"/var/log/(bakehouse/.*|syslog.*|auth\.log.*|wtmp|btmp)", empty_is_fine=True),
    _rule("package lists", r"/var/lib/apt/lists/.*_(InRelease|Release|Packages.*)"),
    _rule("package cache", r"/var/cache/apt/archives/.*\.deb"),
    _rule("temporary file", r"/(tmp|var/tmp)/.*"),
    _rule("DHCP lease", r"/var/lib/(dhcp|dhcpcd|NetworkManager)/.*lease.*"),
)

_OF_THIS_BAKE = "secret of this bake"
IDENTITY = frozenset(
    {"SSH host key", "machine-id", "random seed", "credential secret", "cookie secret", "identity of a machine", _OF_THIS_BAKE}
)
"""What is unique to a machine: a recipe cannot allow it, since all machines of the image would share it."""

CONTENTS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("password hash", re.compile(rb"argon2:\$argon2id\$")),
    ("password of a Unix account", re.compile(rb"(?m)^[^:\n]+:\$[0-9a-z]+\$")),
)
"""Patterns that no small file may contain in user-writable places, and that a scanner for secrets does not know."""

_SEARCHED = re.compile(r"/(etc|root|home|srv|opt|usr/local|var/lib/(bakehouse|jupyter|cloud))/.*")
_SEARCHED_BYTES_MAX = 65536
_NOT_SCANNED = re.compile(
    r"/var/lib/(dpkg|apt)/.*|.*\.(so|a|o|gz|xz|bz2|zst|zip|whl|jar|png|jpe?g|gif|ico|svg|woff2?|ttf|otf|mo|map)"
)
"""What package managers write about packages, and files that contain no text."""
_SCANNED_BYTES_MAX = 8 * 1024 * 1024
"""Notebooks with their output have some MiB; what is larger is data."""


def find_leaks(files: DiskFiles, scratch: Path, *, literals: Sequence[str] = ()) -> list[Finding]:
    """Return what must not be in an image, sorted by path and line. `scratch` is a private folder for copies of its files.

    `literals` are secrets of this bake, such as its nonce, searched for in every small file.
    """
    sizes = files.list()
    named = {path: rule.what for path in sizes for rule in RULES if _breaks(rule, path, sizes[path])}
    found = {Finding(path, what, is_identity=what in IDENTITY) for path, what in named.items()}
    others = [path for path in sizes if path not in named and _is_scanned(path, sizes[path])]
    secrets, settings = [text.encode() for text in literals if text], installed_settings(files)
    for batch in batches(not_published(files, others), sizes):
        read = files.read(batch, _SCANNED_BYTES_MAX)
        contents = {path: content for path, content in read.items() if _is_text_of_users(content, settings.get(path))}
        found.update(_own(contents, secrets))
        found.update(_once([*scan(contents, scratch), *passwords(contents)]))
    return sorted(found, key=lambda one: one.sort_key)


def search(open_disk: Callable[[Path], DiskFiles], order: Order, record: Record, image: str) -> None:
    """Search a finished disk for leaks, and record the list of its packages. `open_disk` gets a folder for temporary copies.

    NotSealedError: there is a leak that the recipe does not allow, or the search did not finish.
    """
    scratch = partial_folder(record.folder, "inspect")  # if the bake is killed, gc removes it
    try:
        files = open_disk(scratch)
        found = not_allowed(find_leaks(files, scratch, literals=(order.nonce,)), order.recipe.seal.allow)
        listed = files.read([IN_IMAGE], BYTES_MAX).get(IN_IMAGE, b"")
    except (CloudError, TimedOutError, OSError) as error:
        raise _unfinished(error, image) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if found:
        leaky = NotSealedError(summary(found), step="seal", next_step=advice(found, order.recipe.name, image))
        leaky.findings, leaky.is_final = len(found), any(one.is_identity for one in found)
        raise leaky
    record.packages.write_bytes(listed)


def _unfinished(error: Exception, image: str) -> NotSealedError:
    """Return the error for a search that failed: nobody knows whether the image has secrets."""
    cause = error.next_step if isinstance(error, BakehouseError) else ""
    again = f"The image is kept as a candidate that cannot be launched: {image}\nBake again: no step runs again."
    return NotSealedError(
        f"the search for secrets did not finish: {error}", step="seal", next_step=f"{cause}\n{again}".removeprefix("\n")
    )


def _breaks(rule: Rule, path: str, size_bytes: int) -> bool:
    return rule.path.fullmatch(path) is not None and not (rule.empty_is_fine and size_bytes == 0)


def _is_scanned(path: str, size_bytes: int) -> bool:
    return 0 < size_bytes <= _SCANNED_BYTES_MAX and _NOT_SCANNED.fullmatch(path) is None


def _is_text_of_users(content: bytes, installed: str | None) -> bool:
    """Return whether a file may contain a secret: it is text, and not a configuration file just as its package has installed it."""
    return b"\0" not in content[:8192] and not is_as_installed(content, installed)


def _own(contents: Mapping[str, bytes], literals: Sequence[bytes]) -> Iterator[Finding]:
    """Yield what belongs to Bakehouse or to accounts, one for each file."""
    for path, content in contents.items():
        if len(content) <= _SEARCHED_BYTES_MAX and _SEARCHED.fullmatch(path) and (what := _what_is_in(content, literals)):
            yield Finding(path, what, is_identity=what in IDENTITY)


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield each secret of a line once, in the same way each time: several rules may recognize it, or a part of it."""
    seen = defaultdict[tuple[str, int], list[str]](list)
    for one in sorted(findings, key=lambda one: (-len(one.secret), one.secret, one.rule)):
        of_line = seen[one.path, one.line]
        if not any(one.secret in longer for longer in of_line):
            of_line.append(one.secret)
            yield one


def _what_is_in(content: bytes, literals: Iterable[bytes]) -> str:
    if any(literal in content for literal in literals):
        return _OF_THIS_BAKE
    return next((what for what, pattern in CONTENTS if pattern.search(content)), "")
