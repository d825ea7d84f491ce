"""Run any verb like a front end."""

from __future__ import annotations

import io

import bakery.cli
import launcher.command.verbs
import tasks
from launcher.command import runner
from launcher.command.terminal import Terminal

VERBS = {verb.name: verb for verb in (*launcher.command.verbs.VERBS, *bakery.cli.VERBS, *tasks.VERBS)}


def run(name: str, /, *command: str, stdin: str = "", **typed: str | bool) -> tuple[int, str, str]:
    """Run a verb like a front end; return its exit code, stdout and stderr."""
    verb = VERBS[name]
    nothing: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in verb.flags}
    terminal = Terminal(io.StringIO(stdin), io.StringIO(), io.StringIO())
    code = runner.run(verb, nothing | typed, command, terminal)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()  # type: ignore[attr-defined]
