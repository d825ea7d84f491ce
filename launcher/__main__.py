"""The launcher by itself: `python -m launcher VERB`, with the verbs of `launcher.command.verbs`, parsed by argparse."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from launcher.own_path import keep_apart

if __name__ == "__main__":
    keep_apart()  # first: the modules below import libraries

from clouds.errors import UsageError
from clouds.near import did_you_mean
from launcher.command import runner
from launcher.command.flags import Verb
from launcher.command.terminal import Terminal
from launcher.command.verbs import VERBS

PROG = "python -m launcher"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others."""

    def error(self, message: str) -> NoReturn:
        """Print an error with a next step, and exit."""
        self.exit(2, f"error: {message}\nnext: See: {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser for all verbs; values are not converted from strings."""
    top = _Parser(prog=PROG, description="Launch machines from images.", allow_abbrev=False)
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        _add(verbs.add_parser(verb.name, help=verb.help, description=verb.help, allow_abbrev=False), verb)
    return top


def _add(one: argparse.ArgumentParser, verb: Verb) -> None:
    one.set_defaults(verb=verb)
    for positional in verb.positionals:
        one.add_argument(positional.name, help=positional.help, metavar=positional.name.upper())
    for flag in verb.flags:
        one.add_argument(f"--{flag.name}", help=flag.help, action="store_true" if flag.parse is None else "store")


def _unknown(word: str, verb: Verb) -> UsageError:
    """Return the error for a word that a verb does not know."""
    kind = f"flag {word}" if word.startswith("-") else f"argument {word!r}"
    see = f"See: {PROG} {verb.name} --help"
    meant = did_you_mean(word, [f"--{flag.name}" for flag in verb.flags], otherwise=see) if word.startswith("-") else see
    return UsageError(f"unknown {kind} for {PROG} {verb.name}", next_step=meant)


def main(arguments: Sequence[str]) -> int:
    """Run the verb that the arguments name and return the exit code; what follows `--` is its command."""
    words = list(arguments)
    cut = words.index("--") if "--" in words else len(words)
    with runner.prints_help():
        found, unknown = parser().parse_known_args(words[:cut])
    typed = vars(found)
    if unknown:
        print(*runner.lines(_unknown(unknown[0].partition("=")[0], typed["verb"])), sep="\n", file=sys.stderr)
        return UsageError.exit_code
    return runner.run(typed["verb"], typed, words[cut + 1 :], Terminal(sys.stdin, sys.stdout, sys.stderr), ends_process=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
