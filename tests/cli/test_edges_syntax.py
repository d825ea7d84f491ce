"""Each flag and argument of every verb, misspelled, doubled, without its value or with one too many, at both front ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import launcher.command.verbs
import tasks
from clouds.errors import UsageError
from launcher.__main__ import main
from launcher.command import runner
from launcher.command.flags import Verb
from tests.cli.verbs import VERBS

RUN = 77
"""The exit code of a verb that would have run."""


def wrong_words(verb: Verb) -> Iterator[tuple[str, ...]]:
    """Yield what cannot be meant, with its arguments."""
    good = ["lab"] * len(verb.positionals)
    yield (f"{verb.name}x", *good)
    yield (verb.name.upper(), *good)
    yield (verb.name, *good, "surplus")
    yield (verb.name, *good, "surplus", "more")
    yield (verb.name, *good, "-q")
    yield (verb.name, *good, "--no-such-flag")
    yield (verb.name, *good, "--no-such-flag=1")
    yield (verb.name, *good, "--dry")
    if good:
        yield (verb.name, *good[1:])
        yield (verb.name, "--no-such-flag", *good)
    for flag in verb.flags:
        value = [] if flag.parse is None else ["1"]
        yield (verb.name, *good, f"--{flag.name}x", *value)
        yield (verb.name, *good, f"--{flag.name.upper()}", *value)
        yield (verb.name, *good, f"-{flag.name}", *value)
        yield (verb.name, *good, f"--{flag.name[:-1]}", *value)
        yield (verb.name, *good, f"--{flag.name}=1") if flag.parse is None else (verb.name, *good, f"--{flag.name}")


def twice(verb: Verb) -> Iterator[tuple[str, ...]]:
    """Yield each flag with two values, of which `./inv` does not choose one."""
    good = ["lab"] * len(verb.positionals)
    for flag in verb.flags:
        if flag.parse is not None:
            yield (verb.name, *good, f"--{flag.name}", "1", f"--{flag.name}", "2")


ALONE = launcher.command.verbs.VERBS
CASES = sum(len([*wrong_words(verb), *twice(verb)]) for verb in VERBS.values()) + sum(len([*wrong_words(verb)]) for verb in ALONE)


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "run", lambda *_, **__: RUN)
    monkeypatch.setattr(tasks.program, "namespace", tasks.ns)


def inv(*words: str) -> object:
    """Run `./inv WORDS` in this process; return the exit code."""
    with pytest.raises(SystemExit) as ended:
        tasks.program.run(["inv", *words])
    return ended.value.code


def alone(*words: str) -> object:
    """Run `python -m launcher WORDS` in this process; return the exit code."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code


def accepted(run: Callable[..., object], cases: Iterator[tuple[str, ...]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the cases that do not end with an error, a next step, and the exit code of a wrong use."""
    found = []
    for words in cases:
        code, shown = run(*words), capsys.readouterr()
        lines = shown.err.splitlines()
        is_refused = (
            code == UsageError.exit_code and lines[0].startswith("error: ") and any(one.startswith("next: ") for one in lines)
        )
        if not is_refused or shown.out or "Traceback" in shown.err:
            found.append(f"{' '.join(words)}: {code} {shown}")
    return found


@pytest.mark.matrix(sample=3, edges=["launch"])
@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_inv_refuses_what_cannot_be_meant(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = accepted(inv, wrong_words(verb), capsys) + accepted(inv, twice(verb), capsys)
    assert not wrong, "\n".join(wrong)


@pytest.mark.matrix(sample=2, edges=[])
@pytest.mark.parametrize("verb", ALONE, ids=lambda verb: verb.name)
def test_the_launcher_alone_refuses_it_too(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = accepted(alone, wrong_words(verb), capsys)
    assert not wrong, "\n".join(wrong)
