"""Who a machine is, and how SSH knows it: the user's key, each machine's pinned host key, one generated ssh config.

All of it is in BAKEHOUSE_HOME/ssh: `id_ed25519`; `known_hosts/ACCOUNT/MACHINE`; `certificates/ACCOUNT/MACHINE` (the fingerprint
of the one that a notebook's TLS front shows); `config.d/ACCOUNT`, which commands in that account use; and `config`, all of those in
one, which a user may include in an ssh config of their own (`Include ~/.local/share/bakehouse/ssh/config`).

ACCOUNT is the key of a cloud's account (`clouds.accounts`). Earlier releases kept keys for a cloud as a whole: they are copied to
the account that first asks for them. In the wrong account that is a key that SSH refuses, never one that it trusts.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clouds import locks, names
from clouds.accounts import account_key, cloud_of
from clouds.driver import Cloud, Endpoint, Kind
from clouds.errors import CloudError, MissingToolError
from clouds.home import write_private
from clouds.incomplete import partly

SSH_PORT = 22
USER = "notebook"
"""The user of every image, and the port in the guest on which it is let in."""

_HEAD = "# Written by Bakehouse, anew whenever a machine comes or goes.\n"
_KEYGEN_S = 30
_KNOWN_HOSTS, _CERTIFICATES = "known_hosts", "certificates"
_MEMORY = Path("/dev/shm")  # noqa: S108  # each folder in it is private (0700), with a name that nobody can foresee


def user_key(home: Path) -> str:
    """Return the public key of this user's SSH key, made on first use. MissingToolError: ssh-keygen is not installed."""
    private, public = key_file(home), key_file(home).with_suffix(".pub")
    with locked(home / "ssh"):
        if not (private.exists() and public.exists()):
            _make_key(private, public)
    return public.read_text(encoding="utf-8").strip()


def key_file(home: Path) -> Path:
    """Return where the user's private key lies."""
    return home / "ssh" / "id_ed25519"


def known_hosts(home: Path, account: str, machine: str) -> Path:
    """Return the file that holds the host key of one machine, and of no other."""
    return _pinned(home, _KNOWN_HOSTS, account, machine)


def pin(home: Path, account: str, machine: str, host_key: str) -> None:
    """Keep the host key (`ssh-ed25519 AAAA...`) of a machine, told on its console or made for it: SSH accepts no other."""
    _keep(home, home / "ssh" / _KNOWN_HOSTS / account / machine, f"{machine} {host_key}\n")


def pin_certificate(home: Path, account: str, machine: str, fingerprint: str) -> None:
    """Keep the fingerprint of the certificate that a machine told on its console: the only one that is accepted from it."""
    _keep(home, home / "ssh" / _CERTIFICATES / account / machine, f"{fingerprint}\n")


def certificate(home: Path, account: str, machine: str) -> str:
    """Return the pinned fingerprint, such as `3A:F0:...` (SHA-256). CloudError: it is not known here."""
    path = _pinned(home, _CERTIFICATES, account, machine)
    if not path.exists():
        raise CloudError(
            f"machine {machine}: this computer does not know its certificate",
            next_step="Use the computer and the BAKEHOUSE_HOME that launched it, or stop and start it from here.",
        )
    return path.read_text(encoding="utf-8").strip()


def check_known(home: Path, account: str, machine: str) -> None:
    """Raise CloudError when the host key of a machine is not known here: SSH would refuse it."""
    if not known_hosts(home, account, machine).exists():
        raise CloudError(
            f"machine {machine}: this computer does not know its host key",
            next_step="Use the computer and the BAKEHOUSE_HOME that launched it, or stop and start it from here.",
        )


def sync(home: Path, cloud: Cloud) -> Path:
    """Write the ssh config of an account anew from its machines, forget the host keys of those that are gone; return its path.

    Where a part of the cloud cannot be reached, what is known of machines that were not found stays. So does what other commands
    have pinned since the cloud was asked, which happens without the lock.
    """
    account, folder = account_key(cloud), home / "ssh"
    before = _stamps(home, account)
    found, missing = partly(lambda: cloud.owned({"project": names.PROJECT}, {Kind.MACHINE}))
    endpoints = {machine.name: _endpoint(cloud, machine.name) for machine in found}
    with locked(folder):
        part = folder / "config.d" / account
        part.parent.mkdir(mode=0o700, exist_ok=True)
        blocks = {machine: _block(home, account, machine, where) for machine, where in endpoints.items()}
        fresh = {path.name for path in _stamps(home, account) - before}
        stays = {name: block for name, block in read_blocks(part).items() if name in fresh or (missing and name not in endpoints)}
        if not missing:
            _forget_others(home, account, {*endpoints, *fresh})
        blocks = {machine: block for machine, block in blocks.items() if block} | {
            machine: block for machine, block in stays.items() if not blocks.get(machine)
        }
        write_private(part, "".join(blocks[machine] for machine in sorted(blocks)))
        _trim_older(home, account, set(endpoints))
        write_private(folder / "config", _HEAD + merged({path.name: read_blocks(path) for path in part.parent.iterdir()}))
    return part


def merged(parts: Mapping[str, Mapping[str, str]]) -> str:
    """Return the blocks of all accounts; a machine whose name several have is called MACHINE.ACCOUNT there."""
    owners = Counter(machine for blocks in parts.values() for machine in blocks)
    return "".join(
        block if owners[machine] == 1 else block.replace(f"Host {machine}\n", f"Host {machine}.{account}\n", 1)
        for account, blocks in sorted(parts.items())
        for machine, block in sorted(blocks.items())
    )


def read_blocks(part: Path) -> dict[str, str]:
    """Return what a part of the config says, by machine."""
    text = part.read_text(encoding="utf-8") if part.exists() else ""
    return {block.partition("\n")[0]: f"Host {block}" for block in re.split(r"^Host ", text, flags=re.MULTILINE) if block}


def _trim_older(home: Path, account: str, machines: set[str]) -> None:
    """Drop machines of this account, and those without a pinned key, from the config that an older release wrote for the cloud."""
    older = home / "ssh" / "config.d" / cloud_of(account)
    if older.name == account or not older.exists():
        return
    pinned = home / "ssh" / _KNOWN_HOSTS / older.name
    left = {name: block for name, block in read_blocks(older).items() if name not in machines and (pinned / name).exists()}
    write_private(older, "".join(left.values()))


def _pinned(home: Path, kind: str, account: str, machine: str) -> Path:
    """Return the file of what is pinned of a machine, copied from that of an older release where the account has none."""
    path, older = (home / "ssh" / kind / owner / machine for owner in (account, cloud_of(account)))
    if not path.exists() and older.is_file():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, older.read_text(encoding="utf-8"))
    return path


def _keep(home: Path, path: Path, text: str) -> None:
    """Write a file while no other command is forgetting machines: one that it has not seen yet would go, too."""
    with locked(home / "ssh"):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, text)


def _endpoint(cloud: Cloud, machine: str) -> Endpoint | None:
    with suppress(CloudError):
        return cloud.address(machine, SSH_PORT)
    return None


def _block(home: Path, account: str, machine: str, endpoint: Endpoint | None) -> str:
    """Return the lines for a machine: none while its host key or its address is not known."""
    pinned = known_hosts(home, account, machine)
    if endpoint is None or not pinned.exists():
        return ""
    settings = {
        "HostName": endpoint.host,
        "Port": str(endpoint.port),
        "User": USER,
        "IdentityFile": _quoted(key_file(home)),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _quoted(pinned),
        "GlobalKnownHostsFile": "none",
        "HostKeyAlias": machine,
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ForwardAgent": "no",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "30",
    }
    return f"Host {machine}\n" + "".join(f"    {key} {value}\n" for key, value in settings.items())


def _quoted(path: Path) -> str:
    """Write a path as ssh_config(5) reads it: with quotes for spaces, and `%` doubled."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A file that is pinned for a machine, `name`, as it was at some time."""

    path: Path
    inode: int
    written_ns: int

    @property
    def name(self) -> str:
        """The machine."""
        return self.path.name


def _stamps(home: Path, account: str) -> set[_Stamp]:
    """Return what is pinned for an account; a file that was written anew is another one."""
    found = set()
    for kind in (_KNOWN_HOSTS, _CERTIFICATES):
        for path in (home / "ssh" / kind / account).glob("[!.]*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.add(_Stamp(path, status.st_ino, status.st_mtime_ns))
    return found


def _forget_others(home: Path, account: str, machines: set[str]) -> None:
    """Remove what is pinned for machines that are gone, and the file of an older release that it was copied from."""
    for kind in (_KNOWN_HOSTS, _CERTIFICATES):
        for path in (home / "ssh" / kind / account).glob("[!.]*"):
            if path.name not in machines:
                older = home / "ssh" / kind / cloud_of(account) / path.name
                if older.is_file() and older.read_bytes() == path.read_bytes():
                    older.unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def make_host_key(home: Path, machine: str) -> tuple[str, str]:
    """Return a fresh SSH host key for a machine: its private half as OpenSSH writes it, and its public one, `ssh-ed25519 AAAA...`.

    The files that it is made in lie in memory where there is such a place, and are gone at once.
    """
    scratch = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else home
    with tempfile.TemporaryDirectory(dir=scratch, prefix="bakehouse-") as folder:
        made = Path(folder) / "key"
        _keygen(made, comment=f"root@{machine}")
        kind, key, _ = made.with_suffix(".pub").read_text(encoding="utf-8").split(maxsplit=2)
        return made.read_text(encoding="utf-8"), f"{kind} {key}"


def _make_key(private: Path, public: Path) -> None:
    """Make a key beside its place and rename the private half last: whoever finds it finds both."""
    with tempfile.TemporaryDirectory(dir=private.parent) as scratch:
        made = Path(scratch) / private.name
        _keygen(made, comment=names.PROJECT)
        made.with_suffix(".pub").replace(public)
        made.replace(private)


def _keygen(path: Path, *, comment: str) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    with openssh():
        subprocess.run(command, check=True, timeout=_KEYGEN_S, stdin=subprocess.DEVNULL, capture_output=True)


@contextmanager
def openssh() -> Iterator[None]:
    """Say how to get the programs of OpenSSH's client where they are not installed."""
    try:
        yield
    except FileNotFoundError as error:
        step = "Install OpenSSH's client (Debian, Ubuntu: sudo apt-get install openssh-client; Fedora: openssh-clients)."
        raise MissingToolError(f"{error.filename}: not installed", next_step=step) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one command at a time change a folder of ours (0700, made when absent)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locks.locked(folder / ".lock", what=f"another command to change {folder}"):
        yield
