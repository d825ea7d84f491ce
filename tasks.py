"""The tasks of `./inv`: one for each verb of bakery/cli.py and launcher/command/verbs.py, and those that test Bakehouse."""

from __future__ import annotations

import inspect
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.main import program
from invoke.parser.context import ParserContext
from invoke.tasks import Task

import bakery.cli
import clouds
import launcher.command.verbs
from clouds.errors import MissingToolError, UsageError
from clouds.near import did_you_mean
from launcher.command import runner
from launcher.command.flags import EXAMPLES, Flag, Values, Verb
from launcher.command.terminal import Terminal

ROOT = Path(__file__).parent
SLOW = "vm or install or server or program"
"""The tests (by pytest marker) that start virtual machines, install environments, or run servers and programs many times."""
# Fast tests mostly wait for files, sockets and processes: three at a time keep two cores busy. Virtual machines do not wait.
_BY_FILE = ("--dist=loadfile", "--no-loadscope-reorder")
BROWSERS = ("google-chrome-stable", "google-chrome", "chromium", "chromium-browser")
"""The names of Chrome and Chromium's programs, in order of preference; the last one is Ubuntu's old name."""
_SCRIPT_BYTES = 8192
_FLAGS = {"help", "list", "complete", "print-completion-script", "write-pyc", "search-root"}
"""The flags of Invoke that work here; `inv` itself gives the last two."""
_WITHOUT_PLUGINS = (1, 10)
"""From this version on, Packer contains no builder for AWS (https://github.com/hashicorp/packer/pull/12660)."""
_DRY = {
    **dict.fromkeys(("bake", "launch"), "To see what a bake or a launch would do: ./inv plan"),
    **dict.fromkeys(("gc", "prune"), "Leave it out, and --yes: what would be deleted is listed, and you are asked."),
}
"""The advice for users of a verb without `--dry-run` who look for one."""
_SHELL = re.compile(rb"#!\s*/\S*\b(sh|bash)\b")


def _check(values: Values, terminal: Terminal) -> int:
    _need(terminal, {"shellcheck": "shellcheck", "ssh": "openssh-client", "openssl": "openssl"})
    python, beside = (sys.executable, "-m"), Path(sys.executable).parent
    workflows = sorted(map(str, (ROOT / ".github/workflows").glob("*.yml")))
    commands = (
        (*python, "ruff", "format", "--check", "."),
        (*python, "ruff", "check", "."),
        ("shellcheck", *map(str, _shell_files())),
        (str(beside / "actionlint"), *workflows),
        (str(beside / "zizmor"), "--offline", "--quiet", *workflows),
        (*python, "pytest", "--numprocesses=3", *_BY_FILE, *_matrices(values), "--timeout=60", "-m", f"not ({SLOW})"),
    )
    return _run_beside(terminal, (*python, "mypy"), commands)  # without its cache mypy keeps one core busy for many seconds


def _test(values: Values, terminal: Terminal) -> int:
    if values["fast"]:
        return _check(values, terminal)
    clouds.prepare_local(terminal.tell)  # first: some fast tests run its programs, and are skipped without them
    if values["recipes"]:
        return _run(terminal, (sys.executable, "-m", "pytest", "--verbose", "tests/vm/every_recipe.py"))
    _need_browser(terminal)
    packer = {"/usr/bin/packer": "packer"} if not find_packer() and offers_packer() else {}
    _need(terminal, {"ss": "iproute2", "ps": "procps", "/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf", **packer})
    slow = ("--numprocesses=2", *_BY_FILE, *_matrices(values), "--by-file", "--timeout=3600", "-m", SLOW)
    return _check(values, terminal) or _run(terminal, (sys.executable, "-m", "pytest", *slow))


def _matrices(values: Values) -> tuple[str, ...]:
    """Return pytest's option to run every case of every matrix (tests/matrix.py), if `--all` is given."""
    return ("--all",) if values.get("all") else ()


def _run(terminal: Terminal, command: Sequence[str]) -> int:
    """Run a command in the project's folder; return 0 for success, else 1.

    It may keep bytecode even with PYTHONDONTWRITEBYTECODE: the tests start Python a hundred times, and each would compile again.
    """
    _tell_command(terminal, command)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return int(subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode != 0)


def _run_beside(terminal: Terminal, slow: Sequence[str], commands: Sequence[Sequence[str]]) -> int:
    """Run all commands in turn, even if one fails, and a slow one in parallel, whose output is printed last.

    Return 0 for success, else 1. If the others are interrupted, the slow one is terminated.
    """
    with tempfile.TemporaryFile() as output, subprocess.Popen(slow, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as beside:
        try:
            failed = [_run(terminal, command) for command in commands]
            failed.append(int(beside.wait() != 0))
        finally:
            beside.terminate()
        _tell_command(terminal, slow)
        output.seek(0)
        terminal.out(output.read().decode(errors="replace").rstrip())
    return max(failed)


def _tell_command(terminal: Terminal, command: Sequence[str]) -> None:
    terminal.tell(f"$ {shlex.join(command).replace(sys.executable, 'python').replace(f'{Path(sys.executable).parent}/', '')}")


def _need(terminal: Terminal, packages: Mapping[str, str]) -> None:
    """Install the Debian packages of the programs or files (program: package) that the tests need and that are missing."""
    absent = [package for program, package in packages.items() if not (shutil.which(program) or Path("/", program).is_file())]
    if not absent:
        return
    as_root = () if os.getuid() == 0 else ("sudo",)
    install = (*as_root, "apt-get", "install", "--yes", "--no-install-recommends", *absent)
    failed = MissingToolError(f"not installed: {', '.join(absent)}", next_step=f"Install it, for example: {shlex.join(install)}")
    if not all(shutil.which(program) for program in (*as_root, "apt-get")):
        raise failed
    for command in ((*as_root, "apt-get", "-qq", "update"), install):
        terminal.tell(f"installing {', '.join(absent)} for the tests: {shlex.join(command)}")
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(command, check=False, stdout=sys.stderr, env=environ).returncode:
            raise failed


def find_browser(path: str | None = None, own: Path | None = None) -> str | None:
    """Return the full path of a Chrome or Chromium that the tests can control, or None. `own`: Playwright's, if it is installed.

    Snaps are skipped: they have their own /tmp and cannot read the profile that Playwright creates there
    (https://github.com/SeleniumHQ/selenium/issues/7788).
    """
    found = [Path(program) for name in BROWSERS if (program := shutil.which(name, path=path))]
    usable = [program for program in found if not _is_snap(program)]
    usable += [own] if own and own.is_file() else []
    return str(usable[0]) if usable else None


def own_browser() -> Path | None:
    """Return the path at which Playwright installs its own Chromium; None without Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def no_browser() -> MissingToolError:
    """Return the error for a computer without a browser, with the command for each distribution."""
    return MissingToolError(
        "no Chrome or Chromium found for the tests (snaps do not work)",
        next_step=(
            "Debian: apt-get install chromium; Fedora: dnf install chromium; Arch: pacman -S chromium; "
            "Ubuntu and others: .venv/bin/playwright install --with-deps chromium"
        ),
    )


def find_packer(path: str | None = None) -> str | None:
    """Return the full path of a Packer that contains the builder amazon-ebs, or None; `path` is a PATH."""
    folders = (path or os.environ.get("PATH", os.defpath)).split(os.pathsep)
    found = [program for folder in folders if (program := shutil.which("packer", path=folder))]
    return next((program for program in found if _has_builders(_output(program, "--version"))), None)


def offers_packer(path: str | None = None) -> bool:
    """Return whether apt offers such a Packer; not every release of Debian and Ubuntu has the package."""
    apt_cache = shutil.which("apt-cache", path=path)
    candidate = re.search(r"Candidate: (.+)", _output(apt_cache, "policy", "packer") if apt_cache else "")
    return candidate is not None and _has_builders(candidate[1])


def _has_builders(version: str) -> bool:
    """Return whether Packer of a version, such as `1.6.6+ds2-1`, contains its builders."""
    numbers = re.match(r"(\d+)\.(\d+)\.", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < _WITHOUT_PLUGINS


def _output(*command: str) -> str:
    """Return what a command prints, "" if it fails; a program of another kind may wait for input."""
    environ = os.environ | {"LC_ALL": "C", "CHECKPOINT_DISABLE": "1"}
    try:
        done = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _is_snap(program: Path) -> bool:
    """Return whether a program is a snap, or the script by which Ubuntu's package chromium-browser starts or recommends one."""
    real = program.resolve()
    if real.name == "snap" or "/snap/" in f"{program} {real}":
        return True
    with real.open("rb") as file:
        head = file.read(_SCRIPT_BYTES)
    return head.startswith(b"#!") and (b"/snap/" in head or b"snap install" in head)


def _need_browser(terminal: Terminal) -> None:
    """Install Debian's Chromium if there is no browser; MissingToolError on other distributions."""
    if find_browser() or find_browser(own=own_browser()):
        return
    if platform.freedesktop_os_release().get("ID") != "debian":
        raise no_browser()
    _need(terminal, {"chromium": "chromium"})


def _shell_files() -> list[Path]:
    """Return the shell scripts of the project, recognized by their first line; tests check the templates once rendered."""
    found = (path for folder in ("images", "templates") for path in sorted((ROOT / folder).rglob("*")) if path.suffix != ".j2")
    return [path for path in (ROOT / "inv", ROOT / ".ci/run", *found) if path.is_file() and _SHELL.match(path.read_bytes())]


VERBS = (
    Verb("check", "Check format, lint, types and shell scripts, and run the fast tests.", _check),
    Verb(
        "test",
        "Run the checks and the tests, including those with real virtual machines.",
        _test,
        flags=(
            Flag("fast", "only the checks of ./inv check", parse=None),
            Flag("recipes", "instead: bake, launch and test each recipe; write the figures into docs/machines.md", parse=None),
            Flag("all", "every case of tests with many similar cases, and every long test, not only a sample of them", parse=None),
        ),
    ),
)


def _task(verb: Verb) -> Task[Callable[..., None]]:
    """Make the Invoke task of a verb; its signature is built from the verb's flags, with only strings and switches.

    With a typed default, Invoke would raise a bare ValueError for a value of another type.
    """

    def body(_context: Context, **typed: str | bool | None) -> None:
        code = runner.run(verb, typed, _command(), Terminal(sys.stdin, sys.stdout, sys.stderr), ends_process=True)
        if code:
            raise Exit(code=code)

    def parameter(name: str, default: object) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)

    flags = [parameter(flag.key, False if flag.parse is None else None) for flag in verb.flags]
    positionals = [parameter(positional.name, inspect.Parameter.empty) for positional in verb.positionals]
    body.__signature__ = inspect.Signature([parameter("context", inspect.Parameter.empty), *positionals, *flags])  # type: ignore[attr-defined]
    body.__doc__ = verb.help
    shown = {positional.name: positional.help for positional in verb.positionals} | {flag.key: flag.help for flag in verb.flags}
    return Task(body, name=verb.name, positional=[one.name for one in verb.positionals], help=shown, auto_shortflags=False)


def _command() -> list[str]:
    """Return the words after `--`, each as it was typed (Invoke's own `remainder` joins them)."""
    return program.argv[program.argv.index("--") + 1 :] if "--" in program.argv else []


def _parse_tasks(parse: Callable[[], None]) -> None:
    """Parse the tasks as Invoke does, but exit with 2 and a next step for syntax errors, and for flags of Invoke.

    It takes any word for an argument that is missing, also a flag: `stop --help` would look for a machine of that name.
    """
    try:
        _check_flags(program.argv[: program.argv.index("--")] if "--" in program.argv else program.argv)
        parse()
        if found := next(filter(_flag_as_argument, program.tasks), None):
            raise ParseError("a flag is in the place of an argument", found)
        pass_recipe_on(program.tasks)
        _check_values()
    except ParseError as error:
        if not error.context or _flag_as_argument(error.context) not in ("-h", "--help"):
            raise _refused(error) from None
        program.args.help.value = error.context.name
    except UsageError as error:
        raise Exit(_shown(error), code=error.exit_code) from None


def _check_flags(words: Sequence[str]) -> None:
    """Raise UsageError for a flag of Invoke that has no meaning here.

    Invoke takes its own flags anywhere, and most of them change nothing: `delete lab -c gcp` would delete a local machine.
    """
    names = {name for one in (*program.core_args(), *program.task_args()) for name in one.names} - _FLAGS
    verb = None
    for word in words[1:]:
        verb = _BY_NAME.get(word, verb)
        flag, flags = word.partition("=")[0], [f"--{one.name}" for one in (verb.flags if verb else ())]
        is_short = re.match("-[A-Za-z]", flag) and flag not in ("-h", "-l")
        if is_short or (flag.startswith("--") and flag[2:] in names and flag not in flags):
            meant = [one for one in flags if one[2] == flag[1]] if len(flag) == 2 else []
            see = f"See: ./inv {verb.name} --help" if verb else "See: ./inv --list"
            if verb and verb.takes_command:
                see = f"Write -- before the command: ./inv {verb.name} NAME -- COMMAND"
            dry = "Did you mean --dry-run?" if "--dry-run" in flags else _DRY.get(verb.name if verb else "", _DRY["bake"])
            instead = {"--dry": dry, "--version": "See: ./inv --version"}
            raise UsageError(
                f"unknown flag {flag}" + (f" for ./inv {verb.name}" if verb else ""),
                next_step=f"Did you mean {' or '.join(meant)}?" if meant else instead.get(flag, see),
            )


def _flag_as_argument(context: ParserContext) -> str:
    """Return a flag that Invoke has taken for an argument of a task; "" if there is none."""
    return next((str(one.value) for one in context.positional_args if re.match("-.", str(one.value))), "")


def pass_recipe_on(parsed_tasks: Sequence[ParserContext]) -> None:
    """Let a launch without `--recipe` launch what the last bake before it bakes."""
    recipe = None
    for parsed in parsed_tasks:
        if parsed.name == "bake":
            recipe = parsed.args["recipe"].value
        elif parsed.name == "launch" and recipe and parsed.args["recipe"].value is None:
            parsed.args["recipe"].value = recipe


def _check_values() -> None:
    """Check the values of all tasks before the first one runs: a launch must not fail for one after minutes of a bake.

    What depends on the image is checked against the recipe, if an earlier task bakes it.
    """
    if program.args.help.value or len(program.tasks) < 2:  # a task that runs alone checks its own values at once
        return
    baked = set[tuple[str, str | None]]()
    for parsed in program.tasks:
        verb = _BY_NAME[str(parsed.name)]
        code = runner.run(
            replace(verb, run=_checks_only(verb, baked)), parsed.as_kwargs, _command(), Terminal(sys.stdin, sys.stdout, sys.stderr)
        )
        if code:
            raise Exit(code=code)


def _checks_only(verb: Verb, baked: set[tuple[str, str | None]]) -> Callable[[Values, Terminal], int]:
    """Return a verb that only checks its values; `baked` are the recipe and cloud of each earlier bake."""

    def check(values: Values, _terminal: Terminal) -> int:
        if verb.check:
            verb.check(values)
        if verb.name == "bake":
            baked.add((values["recipe"], values["cloud"]))
        elif verb.name == "launch" and not values["version"] and (values["recipe"], values["cloud"]) in baked:
            bakery.cli.check_launch(values)
        return 0

    return check


def _print_help(clean_up: Callable[[], None]) -> None:
    """Run what Invoke does after parsing, such as printing help or the list of tasks."""
    try:
        with runner.prints_help():
            clean_up()
    except ParseError as error:  # help of a task that does not exist
        raise _refused(error) from None


def _refused(error: ParseError) -> Exit:
    return Exit(_shown(_surplus(error) or UsageError(_message(error), next_step=_advice(error))), code=2)


def _surplus(error: ParseError) -> UsageError | None:
    """Return the error for a second value of a flag, the value of a switch, and one argument too many; None for any other error."""
    word, context = _unknown(error), error.context
    if context is None or context.name is None or not word or word.startswith("-"):
        return None
    words = program.argv[: program.argv.index("--")] if "--" in program.argv else program.argv
    typed = words[len(words) - words[::-1].index(context.name) :]
    split = [part for one in typed for part in (one.split("=", 1) if one.startswith("--") else [one])]
    taken = context.positional_args
    for value in (word, *(str(one.value) for one in taken)):  # Invoke takes the first surplus word for a NAME that follows it
        for flag, argument in context.flags.items():
            if argument.takes_value and split.count(flag) > 1 and (flag, value) in pairwise(split):
                return UsageError(f"{flag}: given twice", next_step="Leave one of them out.")
            if not argument.takes_value and f"{flag}={value}" in typed:
                return UsageError(f"{flag}: takes no value", next_step=f"Leave out: ={value}")
    if not taken or _BY_NAME[context.name].takes_command:
        return None
    return UsageError(
        f"surplus argument {word!r}: ./inv {context.name} takes {' and '.join(f'one {str(one.name).upper()}' for one in taken)}",
        next_step=f"Write one command for each, with the same flags. See: ./inv {context.name} --help",
    )


def _message(error: ParseError) -> str:
    """Return an error of Invoke's parser (invoke/parser/parser.py) in our words."""
    verb = error.context.name if error.context else None
    if word := _unknown(error):
        kind = f"flag {word}" if word.startswith("-") else f"argument {word!r}" if verb else f"task {word!r}"
        return f"unknown {kind}" + (f" for ./inv {verb}" if verb else "")
    if found := re.search(r"did not receive required positional arguments: (.*)", str(error)):
        return f"missing argument for ./inv {verb}: {found[1].upper()}".replace("'", "")
    return _valueless(error)


def _unknown(error: ParseError) -> str:
    """Return the word that Invoke does not know, or has taken for an argument although it is a flag; "" for another error."""
    if error.context and (flag := _flag_as_argument(error.context)):
        return flag
    found = re.fullmatch(r"No idea what (['\"])(.*)\1 is!", str(error))
    return found[2] if found else ""


def _valueless(error: ParseError) -> str:
    """Return the message for a flag without its value, with an example; Invoke's own for any other error."""
    found = re.match(r"Flag <Argument: ([\w-]+)", str(error))  # the name of the parameter, such as memory_mb
    if found is None:
        return str(error)
    verb = _BY_NAME.get(str(error.context.name)) if error.context else None
    flag = next((one for one in (verb.flags if verb else ()) if one.key == found[1]), None)
    if flag is None:  # one of Invoke's own
        return f"--{found[1]}: needs a value"
    example = f" (such as {EXAMPLES[flag.parse]})" if flag.parse in EXAMPLES else ""
    return f"--{flag.name}: needs a value{example}"


def _shown(error: UsageError) -> str:
    return "\n".join(runner.lines(error))


def _advice(error: ParseError) -> str:
    """Return a suggestion for a word that Invoke does not know."""
    word, context = _unknown(error), error.context
    if context is None or context.name is None:
        having = [verb.name for verb in _BY_NAME.values() if word in [f"--{flag.name}" for flag in verb.flags]]
        verb = next((verb for verb in (*program.argv[1:], *having) if verb in having), "")
        listed = f"Write it after the task, as in: ./inv {verb} {word}" if verb else "See: ./inv --list"
        return did_you_mean(word, ns.task_names, otherwise=listed)
    if word and not word.startswith("-"):
        if _BY_NAME[context.name].takes_command:
            machine = str(context.args["name"].value)
            words = program.argv[program.argv.index(word, program.argv.index(machine) + 1) :]
            return f"Did you mean: ./inv {context.name} {machine} -- {shlex.join(words)}"
        if choices := [f"./inv {context.name} --{flag} {word}" for flag in ("recipe", "name") if f"--{flag}" in context.flags]:
            return f"Did you mean: {' or '.join(choices)}"
    if word == "--dry-run" and context.name in _DRY:
        return _DRY[context.name]
    return did_you_mean(word, context.flags, otherwise=f"See: ./inv {context.name} --help")


_BY_NAME = {verb.name: verb for verb in (*launcher.command.verbs.VERBS, *bakery.cli.VERBS, *VERBS)}
ns = Collection(*map(_task, _BY_NAME.values()))
_invoke_parses, _invoke_cleans_up = program.parse_tasks, program.parse_cleanup
program.parse_tasks = lambda: _parse_tasks(_invoke_parses)  # type: ignore[method-assign]
program.parse_cleanup = lambda: _print_help(_invoke_cleans_up)  # type: ignore[method-assign]
