import io
import json

import pytest

from bakery.events import Event, LogText, Note, StepEnded, StepStarted
from bakery.view import TAIL_LINES, JsonView, LiveView, PlainView, Steps, View, choose_view

BAKE: tuple[Event, ...] = (
    Note("bake-k7m2px9a: baking [jupyter] on local"),
    StepStarted("base", 0, 0),
    StepEnded("base", 1.04),
    StepStarted("packages", 2, 7),
    LogText("packages", "Get:1 a\nGet:2 "),
    LogText("packages", "b\r\n10%\r20%\rdone\x1b[31m red\x07\n"),
    StepEnded("packages", 12.5, ok=False),
)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rich find a terminal that can do something, wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Tty(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def shown(view: View, stream: io.StringIO, *events: Event) -> str:
    with view:
        for event in events or BAKE:
            view.show(event)
    return stream.getvalue()


def test_plain_lines_say_when_a_step_begins_and_how_it_ends() -> None:
    stream = io.StringIO()
    assert shown(PlainView(stream), stream).splitlines() == [
        "bake-k7m2px9a: baking [jupyter] on local",
        "base ...",
        "base done in 1.0 s",
        "packages 2/7 ...",
        "packages 2/7 failed in 12.5 s",
    ]


def test_step_that_the_user_has_interrupted_has_not_failed() -> None:
    event = StepEnded("test", 3.2, ok=False, interrupted=True)
    plain, live = io.StringIO(), Tty()
    assert shown(PlainView(plain), plain, event) == "test interrupted after 3.2 s\n"
    assert "test interrupted after 3.2 s" in shown(LiveView(live, width=80), live, event)


def test_a_skipped_test_is_not_shown_as_passed() -> None:
    event = StepEnded("gpu", 3.2, skipped="no GPU here")
    plain, live = io.StringIO(), Tty()
    assert shown(PlainView(plain), plain, event) == "gpu skipped: no GPU here\n"
    text = shown(LiveView(live, width=80), live, event)
    assert "gpu skipped: no GPU here" in text
    assert "✓" not in text


def test_verbose_plain_lines_hold_the_log_made_fit_for_a_terminal() -> None:
    stream = io.StringIO()
    lines = shown(PlainView(stream, verbose=True), stream).splitlines()
    assert [line for line in lines if line.startswith("  | ")] == ["  | Get:1 a", "  | Get:2 b", "  | done red"]


def test_json_lines_are_the_events() -> None:
    stream = io.StringIO()
    lines = [json.loads(line) for line in shown(JsonView(stream), stream).splitlines()]
    assert [line["event"] for line in lines] == [
        "note",
        "step-started",
        "step-ended",
        "step-started",
        "log-text",
        "log-text",
        "step-ended",
    ]
    assert lines[3] == {"event": "step-started", "name": "packages", "seq": 2, "total": 7}


@pytest.mark.parametrize("width", [1, 7, 20, 80, 300])
def test_the_live_view_stands_any_width(width: int) -> None:
    stream = Tty()
    text = shown(LiveView(stream, verbose=True, width=width), stream)
    assert "packages 2/7 failed in 12.5 s" in text


def test_the_live_view_takes_markup_and_escapes_for_what_they_are() -> None:
    stream = Tty()
    text = shown(LiveView(stream, verbose=True, width=80), stream)
    assert "[jupyter]" in text
    assert "\x07" not in text


EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b31m\x1bcthe words"


def test_nothing_that_a_guest_says_steers_the_terminal() -> None:
    plain, live, events = io.StringIO(), Tty(), io.StringIO()
    told = (StepStarted("packages", 1, 2), Note(EVIL), LogText("packages", f"{EVIL}\n"), StepEnded("packages", 1.0))
    for text in (
        shown(PlainView(plain, verbose=True), plain, *told),
        shown(LiveView(live, verbose=True, width=80), live, *told),
        shown(JsonView(events), events, *told),
    ):
        assert "the words" in text
        assert not any(evil in text for evil in ("\x1b]", "\x1b[2J\x9b", "\x1bc", "\x07", "\x9b"))


def test_the_live_view_shows_the_tail_of_the_log_only_when_asked() -> None:
    quiet, verbose = Tty(), Tty()
    events = (StepStarted("packages", 2, 7), LogText("packages", "Get:1 a\n"), Note("something else"))
    assert "Get:1" not in shown(LiveView(quiet, width=80), quiet, *events)
    assert "Get:1" in shown(LiveView(verbose, verbose=True, width=80), verbose, *events)


def test_the_live_view_has_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Tty()
    assert "\x1b[31m" not in shown(LiveView(stream, width=80), stream)
    assert "\x1b[32m" not in stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "term", "as_json", "kind"),
    [
        (Tty(), "xterm", False, LiveView),
        (Tty(), "dumb", False, PlainView),
        (io.StringIO(), "xterm", False, PlainView),
        (Tty(), "xterm", True, JsonView),
    ],
)
def test_the_view_fits_the_stream(stream: io.StringIO, term: str, as_json: bool, kind: type) -> None:
    assert isinstance(choose_view(stream, as_json=as_json, environ={"TERM": term}), kind)


def test_a_step_within_a_step_is_under_way_with_it() -> None:
    steps = Steps()
    steps.begin(StepStarted("test", 0, 0))
    steps.begin(StepStarted("boot", 1, 2))
    assert [step.name for step in steps.under_way] == ["test", "boot"]
    steps.end("test")
    assert steps.under_way == []


def test_a_step_that_begins_once_more_takes_its_own_place() -> None:
    steps = Steps()
    steps.begin(StepStarted("boot", 1, 7))
    steps.begin(StepStarted("boot", 1, 7))
    assert len(steps.under_way) == 1


def test_the_tail_of_the_log_is_short_and_of_the_current_step() -> None:
    steps = Steps()
    steps.begin(StepStarted("packages", 1, 2))
    steps.log("line\n" * 100)
    assert len(steps.tail) == TAIL_LINES
    steps.begin(StepStarted("notebook", 2, 2))
    assert list(steps.tail) == []
