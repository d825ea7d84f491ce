"""Work in the git repositories of a machine that is stored nowhere else: looked for before the machine is stopped or deleted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clouds.accounts import account_key
from clouds.driver import Cloud
from clouds.errors import CloudError
from clouds.home import home
from launcher.access import identity
from launcher.access.ssh import run
from launcher.boot import ssh_answers

ANSWER_S = 5.0
"""How long the SSH server may take to respond, in seconds; multiplied by the cloud's slowness."""
LOOK_S = 20.0
"""How long the look at all repositories may take, in seconds; multiplied as well."""
_DEPTH = 6
"""How many folders below the home a `.git` may be."""
_UNREADABLE = "unreadable"
_LOOK = f"""cd "$HOME" || exit
command -v git >/dev/null || exit 0
export GIT_OPTIONAL_LOCKS=0 LC_ALL=C
find . -xdev -maxdepth {_DEPTH} -name .cache -prune -o -name .git -prune -print 2>/dev/null | while IFS= read -r found; do
    repository=${{found%/.git}}
    if ! status=$(git -C "$repository" status --porcelain 2>/dev/null); then
        printf '{_UNREADABLE} 0 0 0 %s\\n' "$repository"
        continue
    fi
    untracked=$(printf %s "$status" | grep -c '^??')
    changed=$(printf %s "$status" | grep -c '^[^?]')
    head=$(git -C "$repository" rev-parse -q --verify HEAD)
    commits=$(git -C "$repository" rev-list --count --branches $head --not --remotes 2>/dev/null || echo 0)
    stashes=$(git -C "$repository" stash list | grep -c .)
    printf '%s %s %s %s %s\\n' "$changed" "$untracked" "$commits" "$stashes" "$repository"
done
"""
"""Print the numbers of changed files, untracked files, commits on no remote and stashes of each repository, and its path."""
_LINE = re.compile(rf"(\d+|{_UNREADABLE}) (\d+) (\d+) (\d+) (.+)")
_NOUNS = (
    ("changed file", "changed files"),
    ("untracked file", "untracked files"),
    ("commit on no remote", "commits on no remote"),
    ("stash", "stashes"),
)


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A repository with such work: its path below the home, and what it has, in words."""

    path: str
    what: str


def unsaved(cloud: Cloud, name: str) -> list[Unsaved]:
    """Return the repositories with such work on a running machine. CloudError: it does not respond, or not in time."""
    if not ssh_answers(cloud.address(name, identity.SSH_PORT), timeout_s=ANSWER_S * cloud.slowness):
        raise CloudError(f"machine {name!r}: no SSH server responds")
    identity.check_known(home(), account_key(cloud), name)
    done = run(cloud, name, ["sh", "-c", _LOOK], timeout_s=LOOK_S, config=identity.sync(home(), cloud))
    if done.returncode:
        raise CloudError(f"machine {name!r}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    found = [_read(*matched.groups()) for line in done.stdout.splitlines() if (matched := _LINE.fullmatch(line))]
    return [one for one in found if one.what]


def _read(changed: str, untracked: str, commits: str, stashes: str, path: str) -> Unsaved:
    path = "~" if path == "." else path.removeprefix("./")
    if changed == _UNREADABLE:
        return Unsaved(path, "git cannot read it")
    numbers = map(int, (changed, untracked, commits, stashes))
    counted = [f"{number} {nouns[number > 1]}" for number, nouns in zip(numbers, _NOUNS, strict=True) if number]
    return Unsaved(path, ", ".join(counted))
