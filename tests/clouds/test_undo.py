import signal
import threading

import pytest

from clouds.errors import CapacityError, CloudError, LeftoverError, UnreachableError, UnseenError
from clouds.undo import Undo


def fail(error: BaseException) -> None:
    raise error


def test_undos_run_last_first_after_an_error() -> None:
    done: list[str] = []
    with pytest.raises(CapacityError), Undo() as undo:
        undo.add("a", lambda: done.append("a"), by_hand="rm a")
        undo.add("b", lambda: done.append("b"), by_hand="rm b")
        raise CapacityError("full")
    assert done == ["b", "a"]


def test_undos_run_at_a_good_end_too() -> None:
    done: list[str] = []
    with Undo() as undo:
        undo.add("a", lambda: done.append("a"), by_hand="rm a")
    assert done == ["a"]


def test_nothing_is_undone_after_release() -> None:
    done: list[str] = []
    with Undo() as undo:
        undo.add("a", lambda: done.append("a"), by_hand="rm a")
        undo.release()
    assert done == []


def test_what_is_added_after_release_is_undone() -> None:
    done: list[str] = []
    with Undo() as undo:
        undo.add("a", lambda: done.append("a"), by_hand="rm a")
        undo.release()
        undo.add("b", lambda: done.append("b"), by_hand="rm b")
    assert done == ["b"]


def test_first_error_stays_on_top_and_notes_tell_what_is_left_and_how_to_remove_it() -> None:
    done: list[str] = []
    with pytest.raises(CapacityError, match="full") as raised, Undo() as undo:
        undo.add("machine a", lambda: done.append("a"), by_hand="rm a")
        undo.add("machine b", lambda: fail(CloudError("no network")), by_hand="./inv delete b --yes")
        undo.add("machine c", lambda: fail(OSError(5, "odd")), by_hand="rm c")
        raise CapacityError("full")
    assert done == ["a"]
    assert raised.value.__notes__ == [
        "left behind: machine c (OSError: [Errno 5] odd); to remove it: rm c",
        "left behind: machine b (no network); to remove it: ./inv delete b --yes",
    ]


def test_failing_undo_after_a_good_end_is_an_error_that_lists_all_that_is_left() -> None:
    with pytest.raises(LeftoverError) as raised, Undo() as undo:
        undo.add("machine a", lambda: fail(CloudError("no network")), by_hand="rm a")
        undo.add("machine b", lambda: fail(CloudError("no network")), by_hand="rm b")
    assert [line.split(" (")[0] for line in raised.value.left] == ["machine b", "machine a"]
    assert "./inv gc" in raised.value.next_step


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_undos_run_after_an_interrupt(error: BaseException) -> None:
    done: list[str] = []
    with pytest.raises(type(error)), Undo() as undo:
        undo.add("a", lambda: done.append("a"), by_hand="rm a")
        raise error
    assert done == ["a"]


def test_interrupt_while_cleaning_up_after_an_interrupt_stops_no_undo() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        undo.add("a", lambda: done.append("a"), by_hand="rm a")
        undo.add("b", lambda: (signal.raise_signal(signal.SIGINT), done.append("b")), by_hand="rm b")
        signal.raise_signal(signal.SIGINT)
    assert done == ["b", "a"]


def test_interrupt_while_cleaning_up_after_a_good_end_comes_after_the_cleaning() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), Undo() as undo:
        undo.add("a", lambda: (signal.raise_signal(signal.SIGINT), done.append("a")), by_hand="rm a")
    assert done == ["a"]


def test_what_was_not_seen_is_never_told_to_be_deleted_by_its_name() -> None:
    with pytest.raises(CapacityError) as raised, Undo() as undo:
        undo.add("machine a", lambda: fail(UnreachableError("machines", scopes=["z-1"])), by_hand="./inv delete a --yes")
        raise CapacityError("full")
    assert raised.value.__notes__ == ["left behind: machine a (machines: could not reach z-1); to remove it: ./inv gc"]


def test_what_could_not_be_looked_at_is_never_told_to_be_deleted_by_its_name() -> None:
    with pytest.raises(CapacityError) as raised, Undo() as undo:
        undo.add("machine a", lambda: fail(UnseenError("no network")), by_hand="./inv delete a --yes")
        raise CapacityError("full")
    assert raised.value.__notes__ == ["left behind: machine a (no network); to remove it: ./inv gc"]


def test_interrupt_while_cleaning_up_still_tells_what_is_left() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, Undo() as undo:
        undo.add("machine a", lambda: fail(CloudError("no network")), by_hand="rm a")
        undo.add("b", lambda: signal.raise_signal(signal.SIGINT), by_hand="rm b")
        raise CapacityError("full")
    assert raised.value.__notes__ == ["left behind: machine a (no network); to remove it: rm a"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_that_end_a_command_wait_for_the_cleaning_too(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda number, frame: heard.append(number))
    try:
        with Undo() as undo:
            undo.add("a", lambda: (signal.raise_signal(number), heard.append(0)), by_hand="rm a")
    finally:
        signal.signal(number, before)
    assert heard == [0, number]


def test_signal_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(CapacityError), Undo() as undo:
        undo.add("a", lambda: fail(CloudError("no")), by_hand="rm a")
        raise CapacityError("full")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_undo_works_outside_the_main_thread() -> None:
    done: list[str] = []

    def work() -> None:
        with Undo() as undo:
            undo.add("a", lambda: done.append("a"), by_hand="rm a")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["a"]
