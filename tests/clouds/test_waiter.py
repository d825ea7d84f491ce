import pytest

from clouds.errors import CloudError, ThrottledError, TimedOutError
from clouds.waiter import until


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_what_is_true_at_once_is_returned_without_sleeping() -> None:
    clock = Clock()
    assert until(lambda: "found", what="it", timeout_s=5, clock=clock, sleep=clock.sleep) == "found"
    assert clock.slept == []


def test_probe_is_asked_every_poll_until_it_is_true() -> None:
    clock = Clock()
    until(lambda: clock.now >= 1002, what="it", timeout_s=5, poll_s=0.5, clock=clock, sleep=clock.sleep)
    assert clock.slept == [0.5] * 4


def test_deadline_is_an_error_that_tells_what_was_seen_last() -> None:
    clock = Clock()
    with pytest.raises(TimedOutError, match="boot machine a: timed out after 5 s; last seen: state starting") as late:
        until(
            lambda: None,
            what="boot machine a",
            timeout_s=5,
            poll_s=1,
            last_seen=lambda: "state starting",
            clock=clock,
            sleep=clock.sleep,
        )
    assert late.value.last_seen == "state starting"
    assert clock.now == 1005


def test_probe_is_asked_once_more_at_the_deadline() -> None:
    clock = Clock()
    assert until(lambda: clock.now >= 1005, what="it", timeout_s=5, poll_s=1, clock=clock, sleep=clock.sleep)


def test_probe_is_asked_at_least_once_even_without_time() -> None:
    clock = Clock()
    assert until(lambda: True, what="it", timeout_s=0, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize(("asked_s", "slept_s"), [(0, 5), (17, 17), (3600, 60)])
def test_cloud_that_throttles_says_how_long_to_wait_a_minute_at_most(asked_s: float, slept_s: float) -> None:
    clock, answers = Clock(), iter([ThrottledError("busy", retry_after_s=asked_s)])

    def probe() -> bool:
        for error in answers:
            raise error
        return True

    until(probe, what="it", timeout_s=100, clock=clock, sleep=clock.sleep)
    assert clock.slept == [slept_s]


def test_error_of_the_probe_passes_at_once() -> None:
    clock = Clock()

    def probe() -> bool:
        raise CloudError("no")

    with pytest.raises(CloudError, match="no"):
        until(probe, what="it", timeout_s=5, clock=clock, sleep=clock.sleep)
    assert clock.slept == []
