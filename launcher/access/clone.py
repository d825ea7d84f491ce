"""Clone a git repository into the home of a machine, over SSH from this computer.

The SSH agent of this computer is forwarded for that command only, and only for an SSH URL. The host key of the git server is
the one that this computer knows, so the machine trusts no unknown key.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from clouds.accounts import account_key
from clouds.driver import Cloud
from clouds.errors import BakehouseError, CloudError, UsageError
from clouds.home import home
from launcher.access import identity
from launcher.access.ssh import await_server, run

CLONE_S = 1800
"""How long a clone may take, in seconds; multiplied by the cloud's slowness."""
_LOCAL_S = 10
_FORMS = "https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH"
_HOST = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PATH = r"(?P<path>[^\s?#\x00-\x1f\x7f]+)"
_URL = re.compile(rf"(?P<scheme>https|ssh)://(?:(?P<user>[^/\s-][^/\s]*)@)?{_HOST}(?::(?P<port>[0-9]{{1,5}}))?/{_PATH}")
_SCP = re.compile(rf"(?P<user>[\w.][\w.-]*)@{_HOST}:{_PATH}", re.ASCII)
_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
_CLONE = """set -u
cd || exit
keys=$(cat)
[ -z "$keys" ] || (umask 077 && mkdir -p .ssh && printf '%s\\n' "$keys" >>.ssh/known_hosts) || exit
command -v git >/dev/null || {
    echo 'git is not installed (there: sudo apt-get update && sudo apt-get install git; in a step of the recipe: apt = ["git"])' >&2
    exit 1
}
! [ -e "$2" ] || { echo "~/$2 exists, and was not changed" >&2; exit 1; }
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND='ssh -o BatchMode=yes -o StrictHostKeyChecking=yes'
timeout "$3" git clone --quiet -- "$1" "$2"
status=$?
[ $status -ne 124 ] || echo "it did not finish within $3 s" >&2
exit $status
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository to clone; `folder` is its place in the home, and `server`, for SSH only, the server as known_hosts names it."""

    url: str
    folder: str
    server: str = ""


def read_url(url: str) -> Repository:
    """Return the repository of a URL. UsageError, without the URL, which may have secrets: a machine cannot clone it."""
    matched = _URL.fullmatch(url) or _SCP.fullmatch(url)
    if matched is None:
        raise UsageError("--git: not the URL of a git repository", next_step=f"Write {_FORMS}.")
    found = matched.groupdict()
    scheme, user, port = found.get("scheme") or "ssh", found["user"] or "", found.get("port")
    if ":" in user or (user and scheme == "https") or "@" in found["path"]:
        raise UsageError(
            "--git: the URL contains a user name or password, which would stay in the machine",
            next_step="Leave out what is before the @ (in the path of https:// and ssh://, write it as %40). For a private "
            "repository, use its SSH URL: the machine gets the use of your SSH agent while it clones.",
        )
    folder = found["path"].rstrip("/").rpartition("/")[2].removesuffix(".git")
    if folder in ("", ".", ".."):
        raise UsageError("--git: the URL has no name of a repository at its end", next_step=f"Write {_FORMS}.")
    host = found["host"].strip("[]").lower()
    server = f"[{host}]:{port}" if port and int(port) != identity.SSH_PORT else host
    return Repository(url, folder, server if scheme == "ssh" else "")


def known_keys(repository: Repository) -> str:
    """Return the lines of known_hosts on this computer for the server of a repository, "" for https.

    UsageError: there are none, or no SSH agent has a key: the clone would fail.
    """
    if not repository.server:
        return ""
    with identity.openssh():
        try:
            agent = subprocess.run(["ssh-add", "-l"], capture_output=True, text=True, timeout=_LOCAL_S, check=False)
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"--git: the SSH agent did not respond within {_LOCAL_S} s", next_step="Start another one, and add your key to it."
            ) from None
        if agent.returncode:
            said = (agent.stderr or agent.stdout).strip()
            raise UsageError(
                f"--git: no SSH agent with a key: {said}", next_step='Start one, and add your key: eval "$(ssh-agent)"; ssh-add'
            )
        finds = [["ssh-keygen", "-F", repository.server, "-f", str(Path(file).expanduser())] for file in _KNOWN_HOSTS]
        found = [subprocess.run(find, capture_output=True, text=True, timeout=_LOCAL_S, check=False).stdout for find in finds]
    lines = [line for text in found for line in text.splitlines() if not line.startswith("#")]
    if not lines:
        raise UsageError(
            f"--git: the host key of {repository.server} is not in your known_hosts",
            next_step="Connect once from this computer with ssh, and compare the fingerprint with the one that the server's "
            "owner publishes. A name that only your ssh config knows does not work here.",
        )
    return "\n".join(lines)


def clone(cloud: Cloud, name: str, repository: Repository, keys: str) -> None:
    """Clone a repository on a running machine; `keys` are lines for its known_hosts. CloudError, with the command to repeat it."""
    limit_s = round(CLONE_S * cloud.slowness)
    try:
        await_server(cloud, name)
        words = ["sh", "-c", _CLONE, "sh", repository.url, repository.folder, str(limit_s)]
        done = run(cloud, name, words, stdin=keys, timeout_s=CLONE_S + 60, forwards_agent=bool(repository.server))
        failed = done.returncode and (done.stderr.strip() or f"exit status {done.returncode}")
    except BakehouseError as error:
        failed = error.message
    if failed:
        again = shlex.join(["git", "clone", repository.url])
        command = f"./inv ssh {name} -- {again}"
        if repository.server:
            config = identity.config_file(home(), account_key(cloud))
            command = f"ssh -A -F {shlex.quote(str(config))} {name} -- {shlex.quote(again)}"
        raise CloudError(
            f"machine {name!r} is running, but {repository.url} was not cloned: {failed}",
            next_step=f"Fix the cause, and repeat it: {command}",
        )
