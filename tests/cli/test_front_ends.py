"""Both front ends, `./inv` and `python -m launcher`: the same verbs, flags and help, and exit code 2 for syntax errors."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from invoke.parser import Parser

import launcher.command.verbs
import tasks
from launcher.__main__ import parser
from launcher.command.flags import Verb
from tests import forked
from tests.cli.verbs import VERBS

pytestmark = pytest.mark.program

ROOT = Path(__file__).parents[2]


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command that `./inv` runs."""
    return forked.run("invoke", "--search-root", str(ROOT), *words, cwd=Path("/"))


def launcher_alone(*words: str) -> subprocess.CompletedProcess[str]:
    return forked.run("launcher", *words, cwd=ROOT)


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.mark.parametrize("verb", launcher.command.verbs.VERBS, ids=lambda verb: verb.name)
def test_both_front_ends_have_the_same_flags_with_the_same_help(verb: Verb) -> None:
    of_invoke = {argument.names[0]: argument.help for argument in tasks.ns[verb.name].get_arguments()}
    actions = [action for action in subparsers()[verb.name]._actions if action.dest != "help"]
    assert {(action.option_strings or [action.dest])[0].removeprefix("--"): action.help for action in actions} == of_invoke


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_no_task_has_short_flags_or_typed_defaults(verb: Verb) -> None:
    for argument in tasks.ns[verb.name].get_arguments():
        assert len(argument.names) == 1
        assert argument.kind in (str, bool)


def test_the_launcher_alone_has_exactly_its_own_verbs() -> None:
    assert set(subparsers()) == {verb.name for verb in launcher.command.verbs.VERBS}


def test_list_shows_every_verb_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['inv', '--search-root', sys.argv[1], '--list']\n"
        "try:\n    from invoke.main import program; program.run()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script, ROOT], capture_output=True, text=True, cwd="/", check=True)
    assert {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line[2] != " "} == set(VERBS)
    heavy = {"pydantic", "jinja2", "rich", "qemu", "sqlite3", "packaging", "argon2", "clouds.local", "tomllib", "platformdirs"}
    assert heavy & set(done.stderr.split()) == set()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("bake", "--dry"), "unknown flag --dry for ./inv bake\nnext: To see what a bake or a launch would do: ./inv plan"),
        (("--dry", "bake"), "unknown flag --dry\nnext: To see what a bake or a launch would do: ./inv plan"),
        (("rebuild", "--dry"), "unknown flag --dry for ./inv rebuild\nnext: Did you mean --dry-run?"),
        (("bake", "--version"), "unknown flag --version for ./inv bake\nnext: See: ./inv --version"),
        (("delete", "lab", "-c", "gcp", "--yes"), "unknown flag -c for ./inv delete\nnext: Did you mean --cloud?"),
        (("launch", "-r", "minimal"), "unknown flag -r for ./inv launch\nnext: Did you mean --recipe or --region?"),
        (("machines", "--config", "/nosuch"), "unknown flag --config for ./inv machines\nnext: See: ./inv machines --help"),
        (
            ("ssh", "lab", "ls", "-la"),
            "unknown flag -la for ./inv ssh\nnext: Write -- before the command: ./inv ssh NAME -- COMMAND",
        ),
        (("-F", "bogus", "-l"), "unknown flag -F\nnext: See: ./inv --list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_flags_of_invoke_which_it_would_ignore_are_refused(words: tuple[str, ...], told: str) -> None:
    done = invoke(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {told}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("launch", "--cpus", "two"), "error: --cpus: 'two' is not a whole number (write one from 1 to 256)"),
        (("launch", "--version", "1.4.0-7", "--lifetime-h", "-1"), "error: --lifetime-h: '-1' is too small (write one from 0.02"),
        (("launch", "--cpus", "-1"), "error: --cpus: '-1' is too small (write 1 or more)"),
        (("launch", "--port", "-1"), "error: --port: '-1' is not a port (write a number from 1 to 65535"),
        (("launch", "--cloud", "nimbus"), "error: unknown cloud 'nimbus'"),
        (
            ("launch", "--cloud", "local", "--zone", "z"),
            "error: --zone: not supported by cloud 'local' (leave it out, or choose another",
        ),
        (
            ("bake", "--cloud", "local", "--type", "x", "--cpus", "2"),
            "error: --type: cannot be combined with --cpus or --memory-mb",
        ),
        (("bake", "jupyter"), "Did you mean: ./inv bake --recipe jupyter"),
        (("lunch",), "error: unknown task 'lunch'\nnext: Did you mean launch?"),
        (("--cloud", "gcp", "rebuild"), "error: unknown flag --cloud\nnext: Write it after the task, as in: ./inv rebuild --cloud"),
        (
            ("bake", "--dry-run"),
            "error: unknown flag --dry-run for ./inv bake\nnext: To see what a bake or a launch would do: ./inv plan",
        ),
        (("gc", "--dry-run"), "error: unknown flag --dry-run for ./inv gc\nnext: Leave it out, and --yes: what would be deleted"),
        (("launch", "--recip", "x"), "error: unknown flag --recip for ./inv launch\nnext: Did you mean --recipe"),
        (("launch", "--Recipe=x"), "error: unknown flag --Recipe for ./inv launch\nnext: Did you mean --recipe"),
        (("bake", "--xyzzy"), "error: unknown flag --xyzzy for ./inv bake\nnext: See: ./inv bake --help\n"),
        (("bake", "-x"), "error: unknown flag -x for ./inv bake\nnext: See: ./inv bake --help\n"),
        (("--cpus", "2", "launch"), "error: unknown flag --cpus\nnext: Write it after the task, as in: ./inv launch --cpus\n"),
        (("delete",), "error: missing argument for ./inv delete: NAME\nnext: See: ./inv delete --help\n"),
        (("copy", "a"), "error: missing argument for ./inv copy: DESTINATION\n"),
        (("delete", "--yess", "lab"), "error: unknown flag --yess for ./inv delete\nnext: Did you mean --yes?\n"),
        (("open", "--yess"), "error: unknown flag --yess for ./inv open\nnext: See: ./inv open --help\n"),
        (("recipes", "copy", "-r"), "error: unknown flag -r for ./inv copy\n"),
        (
            ("stop", "lab's", "it's"),
            'error: surplus argument "it\'s": ./inv stop takes one NAME\n'
            "next: Write one command for each, with the same flags. See: ./inv stop --help\n",
        ),
        (
            ("delete", "l2", "lab", "--yes"),
            "error: surplus argument 'lab': ./inv delete takes one NAME\n"
            "next: Write one command for each, with the same flags. See: ./inv delete --help\n",
        ),
        (
            ("copy", "a", "b", "lab:"),
            "error: surplus argument 'lab:': ./inv copy takes one SOURCE and one DESTINATION\n"
            "next: Write one command for each, with the same flags. See: ./inv copy --help\n",
        ),
        (("launch", "--https", "--port", "8888", "--port", "9999"), "error: --port: given twice\nnext: Leave one of them out.\n"),
        (("launch", "--port=8888", "--port=9999"), "error: --port: given twice\n"),
        (("recipes", "start", "lab", "--region", "a", "--region", "a"), "error: --region: given twice\n"),
        (("launch", "--name", "a", "launch", "--name", "b", "b"), "error: unknown argument 'b' for ./inv launch\n"),
        (("bake", "--force=yes"), "error: --force: takes no value\nnext: Leave out: =yes\n"),
        (("delete", "lab", "--yes=1"), "error: --yes: takes no value\nnext: Leave out: =1\n"),
        (("delete", "--yes=1", "lab"), "error: --yes: takes no value\nnext: Leave out: =1\n"),
        (("delete", "--cloud", "local", "--cloud", "gcp", "lab"), "error: --cloud: given twice\n"),
        (("stop", "one", "--", "now"), "stop: takes no command"),
        (
            ("launch", "lab2"),
            "error: unknown argument 'lab2' for ./inv launch\n"
            "next: Did you mean: ./inv launch --recipe lab2 or ./inv launch --name lab2\n",
        ),
        (("ssh", "lab", "ls", "a b"), "next: Did you mean: ./inv ssh lab -- ls 'a b'\n"),
        (("-h", "launhc"), "error: unknown task 'launhc'\nnext: Did you mean launch"),
        (("launch", "--cpus"), "error: --cpus: needs a value (such as 2)\nnext: See: ./inv launch --help\n"),
        (("launch", "--max-price"), "error: --max-price: needs a value (such as 0.05)\nnext: See: ./inv launch --help\n"),
        (("bake", "--from"), "error: --from: needs a value\n"),
        (("launch", "--name", "--json"), "error: --name: needs a value\n"),
        (("launch", "--cpus", "500"), "error: --cpus: '500' is too large (write 256 or less)"),
        (("launch", "--memory-mb", "2"), "error: --memory-mb: '2' is too small (write 512 or more)"),
        (("launch", "--disk-gb", "999999999"), "error: --disk-gb: '999999999' is too large (write 65536 or less)"),
        (("launch", "--lifetime-h", "0.0001"), "error: --lifetime-h: '0.0001' is too small (write one from 0.02 to 8760"),
        (("start", "one", "--lifetime-h", "0.0001"), "error: --lifetime-h: '0.0001' is too small"),
        (("bake", "--cpus", "500"), "error: --cpus: '500' is too large (write 256 or less)"),
        (("bake", "--memory-mb", "2"), "error: --memory-mb: '2' is too small (write 512 or more)"),
        (("launch", "--https", "--port", "22"), "error: --port: '22' is the port of SSH"),
        (("launch", "--bogus"), "error: unknown flag --bogus for ./inv launch\nnext: See: ./inv launch --help\n"),
        (
            ("gc", "--layers", "--layers-gb", "5"),
            "error: --layers: cannot be combined with --layers-gb\n"
            "next: To delete all cached layers that nothing uses: --layers; to keep those used last, up to 5 GB: --layers-gb 5\n",
        ),
        (("launch", "--version", "newest"), "error: invalid image version 'newest'"),
        (("launch", "--password-file", "/no/such"), "error: --password-file: '/no/such' is not a file"),
        (
            ("launch", "--env-file", "-", "--password-file", "-"),
            "error: --env-file -: cannot be combined with --password-file -, as both read standard input\n"
            "next: Write one of them to a file, and give its path.\n",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_syntax_error_exits_with_2_and_a_hint(words: tuple[str, ...], told: str) -> None:
    done = invoke(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--name", "My Lab"), "error: invalid machine name 'My Lab'"),
        (("--gpu", "t4"), "error: --gpu: not supported by cloud 'local'"),
        (("--gpu", "x99", "--cloud", "aws"), "error: --gpu x99: Bakehouse knows no machine type of aws with this GPU"),
        (("--recipe", "nosuch/x.toml"), "error: nosuch/x.toml: no such file"),
        (("--env-file", f"{ROOT}/VERSION"), f"error: --env-file {ROOT}/VERSION: line 1 is not NAME=VALUE"),
        (("--env-file", "-", "--password-file", "-"), "error: --env-file -: cannot be combined with --password-file -"),
        (("--accelerator", "xen"), "error: --accelerator: 'xen' is not one of the choices"),
        (("--zone", "z"), "error: --zone: not supported by cloud 'local'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_values_of_all_tasks_are_checked_before_the_first_one_runs(words: tuple[str, ...], told: str) -> None:
    done = invoke("recipes", "launch", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("bake", "launch", "--port", "8443"), "error: --port: applies only to --https"),
        (("bake", "launch", "--disk-gb", "5"), "error: --disk-gb 5: smaller than the disk of image 'jupyter'"),
        (("bake", "--recipe", "minimal", "launch", "--recipe", "minimal", "--https"), "error: --https: the image has no notebook"),
        (("bake", "--recipe", "minimal", "launch", "--https"), "error: --https: the image has no notebook"),
        (("bake", "--spot", "launch"), "error: --spot: not supported by cloud 'local'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_launch_that_the_image_will_not_fit_is_refused_before_the_bake(words: tuple[str, ...], told: str) -> None:
    done = invoke(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ("bake --recipe minimal launch", "minimal"),
        ("bake --recipe minimal machines launch --name lab", "minimal"),
        ("bake --recipe boosting bake --recipe minimal launch", "minimal"),
        ("bake --recipe minimal launch --recipe boosting", "boosting"),
        ("bake --recipe minimal bake launch", None),
        ("launch bake --recipe minimal", None),
    ],
)
def test_a_launch_without_a_recipe_takes_that_of_the_bake_before_it(words: str, recipe: str | None) -> None:
    parsed = Parser(tasks.ns.to_contexts()).parse_argv(words.split())
    tasks.pass_recipe_on(parsed)
    (launch,) = (task for task in parsed if task.name == "launch")
    assert launch.args["recipe"].value == recipe


def test_recipes_of_later_bakes_are_checked_before_the_first_task_runs() -> None:
    done = invoke("recipes", "bake", "--recipe", "no-such-recipe", "--json")
    assert (done.returncode, json.loads(done.stdout)["step"]) == (2, "")
    assert "recipe 'no-such-recipe' not found" in done.stderr


def test_tasks_with_good_values_run_one_after_the_other() -> None:
    assert (invoke("recipes", "recipes").returncode, invoke("recipes", "launch", "--help").returncode) == (0, 0)


@pytest.mark.parametrize(
    "words",
    [("launch", "--cpus", "two"), ("launch", "--nonsense"), ("delete",), ("lunch",), ("stop", "one", "--", "now")],
    ids=" ".join,
)
def test_the_launcher_alone_exits_with_2_too(words: tuple[str, ...]) -> None:
    done = launcher_alone(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_syntax_error_of_the_launcher_alone_has_a_next_step() -> None:
    who = "python -m launcher launch"
    assert launcher_alone("launch", "--nonsense").stderr == f"error: unknown flag --nonsense for {who}\nnext: See: {who} --help\n"
    assert launcher_alone("launch", "--nam=x").stderr == f"error: unknown flag --nam for {who}\nnext: Did you mean --name?\n"
    assert launcher_alone("launch", "lab").stderr == f"error: unknown argument 'lab' for {who}\nnext: See: {who} --help\n"


@pytest.mark.parametrize("words", [("stop", "--help"), ("copy", "-h"), ("stop", "lab", "--help"), ("recipes", "delete", "--help")])
def test_help_behind_a_task_with_arguments_is_its_help(words: tuple[str, ...]) -> None:
    done = invoke(*words)
    verb = next(word for word in reversed(words) if word in VERBS)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{verb} [--options]" in done.stdout.splitlines()[0]


def test_first_line_of_the_help_of_bake_explains_how_to_choose_a_recipe() -> None:
    assert "--recipe NAME" in invoke("bake", "--help").stdout.split("Docstring:")[1].split("\n")[1]


def test_the_words_behind_the_dashes_arrive_as_they_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.program, "argv", ["inv", "ssh", "one", "--", "echo", "a  b"])
    assert tasks._command() == ["echo", "a  b"]


def test_a_bake_that_fails_ends_with_json_on_stdout() -> None:
    done = invoke("bake", "--recipe", "no-such-recipe", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1]).keys() == {"error", "step", "log", "next"}


def test_a_step_to_begin_with_is_typed_as_from() -> None:
    found = {name: argument.attr_name for argument in tasks.ns["bake"].get_arguments() for name in argument.names}
    assert (found["from"], found["no-cache"]) == ("from_", "no_cache")
