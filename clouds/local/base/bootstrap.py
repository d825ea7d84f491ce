"""Install Debian or Ubuntu with mmdebstrap into a folder or a tar.

Without root, mmdebstrap runs as root of a user namespace: a different user (the first id of the caller's range in
/etc/subuid), who cannot enter a home folder of mode 0700 or 0750. So it gets no paths of ours. All input is in two tars,
which mmdebstrap's special hook `tar-in` opens as the caller and unpacks into the tree; all output comes back through
`copy-out`, `download` and the tar of the tree, which are also written as the caller. Source: mmdebstrap(1),
"SPECIAL HOOKS"; the same in versions 1.3.5 (Debian 12) and 1.5.7 (Debian 13).
"""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import shlex
import signal
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from urllib.parse import unquote, urlsplit

from clouds.driver import Tell
from clouds.errors import CloudError, UsageError
from clouds.local.base.apt_settings import apt_conf, sources_list
from clouds.local.base.definition import Definition
from clouds.local.base.host_environment import PROXIES, HostSettings
from clouds.local.host.command import environment, failure
from clouds.local.host.programs import is_root

SETUP, INPUT = "input.setup.tar", "input.tar"
"""The two input tars in the scratch folder: apt's configuration, and our files for the finished tree."""

_BUILD_S = 3600
ENDS_S = 40.0
"""How long an interrupted build may take to clean up before it is killed: more than the 30 s that `timeout` gives it."""
_SOURCES = "etc/apt/sources.list.d/bakehouse-build.sources"
_OPTIONS = "etc/apt/apt.conf.d/98bakehouse-build"
_CERTIFICATE_OPTIONS = "etc/apt/apt.conf.d/99bakehouse-build"
_CERTIFICATES = "etc/apt/bakehouse-build"
_DPKG_OPTIONS = "etc/dpkg/dpkg.cfg.d/98bakehouse-build"
_UNSAFE_IO = b"force-unsafe-io\n"
"""dpkg does not wait for the disk after each package (dpkg(1)): nobody needs half a tree after a crash of this computer."""
_IN_BASE = "usr/lib/bakehouse/in-base"
_APT_FILES = ("etc/apt/apt.conf.d/50bakehouse", "etc/dpkg/dpkg.cfg.d/bakehouse")
_OWN_MOUNTS = ["sh", "-c", 'unshare --mount true 2>/dev/null || exec "$@"; exec unshare --mount --propagation private "$@"', "sh"]
"""Runs a command whose mounts nobody else sees, and which end with it. As root, mmdebstrap mounts /proc, /sys and more in the tree,
and leaves them there if it is terminated while a child runs. Where a mount namespace is not permitted, nor is a mount."""
_KEPT = {"PATH", "LC_ALL", *PROXIES, *(name.upper() for name in PROXIES)}
# apt runs outside the tree, so it needs full paths of certificates; only a hook knows where the tree is.
_NAME_CERTIFICATES = (
    f'while read -r option file; do printf "%s \\"%s\\";\\n" "$option" "$1/{_CERTIFICATES}/$file"; done '
    f'<"$1/{_CERTIFICATES}/list" >"$1/{_CERTIFICATE_OPTIONS}"'
)


def bootstrap(definition: Definition, scratch: Path, temporary: Path | None, settings: HostSettings, say: Tell) -> None:
    """Install a distribution into `scratch/tree` if run as root, otherwise into `scratch/tree.tar` (its files have other owners).

    `temporary` is where mmdebstrap builds the tree for the tar (see `room`); None as root, since root builds it in place.
    Raises CloudError with the messages of mmdebstrap and apt, without passwords, and UsageError for a path that apt cannot use.
    """
    if is_root() and '"' in str(scratch):
        raise UsageError(
            f"apt cannot install into {scratch}: the path contains a double quote",
            next_step="Set BAKEHOUSE_HOME to another folder.",
        )
    pack_setup(definition, settings, scratch / SETUP)
    pack_tree(definition, scratch / INPUT)
    _follow(command(definition, scratch), variables(temporary), settings, say)


def command(definition: Definition, scratch: Path) -> list[str]:
    """Return the command. Other users can see it in the process list, so credentials are only in the input tars."""
    quoted = shlex.quote(str(scratch))
    setup = (f"tar-in {quoted}/{SETUP} /", _NAME_CERTIFICATES)
    customize = (
        f"tar-in {quoted}/{INPUT} /",
        f'chroot "$1" /customize {definition.base.suite}',
        f"copy-out /esp {quoted}",
        f"download /packages {quoted}/packages",
        'rm -r "$1/esp" "$1/packages" "$1/customize"',
        "rm -r " + " ".join(f'"$1/{name}"' for name in (_SOURCES, _OPTIONS, _CERTIFICATE_OPTIONS, _CERTIFICATES, _DPKG_OPTIONS)),
    )
    return [
        "mmdebstrap",
        "--mode=root" if is_root() else "--mode=unshare",
        "--format=directory" if is_root() else "--format=tar",
        "--variant=apt",
        "--skip=check/signed-by",  # our sources name their keyring; a kill during the check would leave a folder in /tmp
        f"--architectures={definition.base.architecture}",
        f"--include={','.join(definition.packages)}",
        *(f"--setup-hook={hook}" for hook in setup),
        *(f"--customize-hook={hook}" for hook in customize),
        definition.base.suite,
        str(scratch / ("tree" if is_root() else "tree.tar")),
        "",  # no mirror: the sources are in the input
    ]


def pack_setup(definition: Definition, settings: HostSettings, target: Path) -> None:
    """Pack the configuration of apt and dpkg: sources, options, certificates. The tar is private (0600).

    Files that may contain credentials belong to apt's user (0400): only that user and root of the namespace can read them.
    """
    certificates = _certificates(settings)
    options = {key: value for key, value in settings.apt.items() if key not in certificates}
    listed = "".join(f"{key} {number}.crt\n" for number, key in enumerate(certificates))
    private = {_SOURCES: sources_list(settings.mirrors, definition), _OPTIONS: apt_conf(options)}
    public = {name: definition.files[name].read_bytes() for name in _APT_FILES}
    public |= {_DPKG_OPTIONS: _UNSAFE_IO}
    public |= {f"{_CERTIFICATES}/{number}.crt": text for number, text in enumerate(certificates.values())}
    public[f"{_CERTIFICATES}/list"] = listed.encode()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in private.items():
            _add(tar, name, text.encode(), mode=0o400, owner=_apt_user())
        for name, content in public.items():
            _add(tar, name, content, mode=0o644, owner=0)


def _certificates(settings: HostSettings) -> dict[str, bytes]:
    """Return the CA certificates for apt, by option. Unreadable files are left to apt, which reports them."""
    named = {key: Path(value) for key, value in settings.apt.items() if key.lower().endswith("::cainfo")}
    if settings.bundle and "acquire::https::cainfo" not in {key.lower() for key in named}:
        named["Acquire::https::CAInfo"] = settings.bundle
    return {key: path.read_bytes() for key, path in named.items() if path.is_file() and os.access(path, os.R_OK)}


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int, owner: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uid = len(content), mode, owner
    tar.addfile(entry, io.BytesIO(content))


def _apt_user() -> int:
    """Return the id of the user that apt downloads as; root (0) if there is no such user."""
    try:
        return pwd.getpwnam("_apt").pw_uid
    except KeyError:
        return 0


def pack_tree(definition: Definition, target: Path) -> None:
    """Pack our own files for the tree, owned by root, independent of our user and umask."""
    with tarfile.open(target, "w") as tar:
        more = {"customize": definition.templates / "customize", "usr/local/bin/uv": definition.uv}
        for name, path in {**definition.files, **more}.items():
            entry = tar.gettarinfo(path, name)
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            with path.open("rb") as file:
                tar.addfile(entry, file)
        if definition.base.packages:
            _add(tar, _IN_BASE, in_base(definition).encode(), mode=0o644, owner=0)


def in_base(definition: Definition) -> str:
    """Return what steps need to know about the packages of a base (`apt_in_base` in templates/frame/lib.sh.j2).

    The first line is the SHA-256 of apt's sources, the others are the names of the packages.
    """
    sources = hashlib.sha256(definition.sources.encode()).hexdigest()
    return "".join(f"{line}\n" for line in (sources, *definition.base.packages))


def variables(temporary: Path | None) -> dict[str, str]:
    """Return the environment for mmdebstrap: few variables, since others (PERL5LIB, TAR_OPTIONS) may name unreadable files."""
    kept = {key: value for key, value in environment().items() if key in _KEPT}
    return {**kept, "TMPDIR": str(temporary)} if temporary else kept


def _follow(argv: Sequence[str], environ: Mapping[str, str], settings: HostSettings, say: Tell) -> None:
    """Run mmdebstrap and report its progress; if this process dies, mmdebstrap cleans up and exits.

    If it is interrupted, all processes of the build have ended when this returns, so that its folder can be removed.
    """
    guard = ["setpriv", "--pdeathsig", "TERM", "timeout", "--kill-after=30", str(_BUILD_S), *(_OWN_MOUNTS if is_root() else ())]
    said: list[str] = []
    with subprocess.Popen(
        [*guard, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environ, cwd="/"
    ) as process:
        try:
            for line in process.stderr or ():
                said.append(line)
                if line.startswith("I: ") and line.rstrip().endswith("..."):
                    say(line[3:].rstrip(" .\n"))
        except BaseException:
            process.terminate()
            _await_end(process)
            raise
    if process.returncode:
        raise _why([without_passwords(line, settings) for line in said])


def _why(said: Sequence[str]) -> CloudError:
    """Return the error for what mmdebstrap said: what could not be downloaded, or its errors and apt's.

    The line before the first error belongs to it: the words of a command that failed.
    """
    for line in said:
        if line.startswith(("E: Failed to fetch ", "W: Failed to fetch ")):
            return CloudError(
                f"mmdebstrap: {' '.join(line[3:].split())}",
                next_step="Check the network and the mirror in this computer's apt sources. Then run the command again.",
            )
    errors = [number for number, line in enumerate(said) if line.startswith(("E: ", "Err:"))]
    before = [number - 1 for number in errors[:1] if number and not said[number - 1].startswith(("I: ", "W: "))]
    return failure("mmdebstrap", "".join(said[number] for number in before + errors) or "".join(said))


def _await_end(process: subprocess.Popen[str]) -> None:
    """Wait until the last process that writes to the pipe has ended: `timeout` ends before those that its command leaves behind."""
    try:
        process.communicate(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the group of `timeout`, whose id stays taken until it is waited for
        process.communicate()


def without_passwords(text: str, settings: HostSettings) -> str:
    """Replace the passwords of our URLs in a text by ***."""
    urls = (*astuple(settings.mirrors), *settings.apt.values(), *settings.proxies.values())
    passwords = {password for url in urls if (password := _password(url))}
    for password in sorted(passwords | set(map(unquote, passwords)), key=len, reverse=True):
        text = text.replace(f":{password}@", ":***@")
    return text


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
