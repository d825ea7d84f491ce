"""Which cases of a matrix run: the edges, a sample that changes with each commit, and all of them when asked for."""

from __future__ import annotations

import pytest

from tests.matrix import draw

pytest_plugins = ("pytester",)
CASES = [f"case-{number}" for number in range(20)]
FILE = """
import pytest

@pytest.mark.matrix(sample=3, edges=["0", "19"])
@pytest.mark.parametrize("number", range(20))
def test_number(number):
    pass

def test_alone():
    pass
"""


LONG = """
import pytest

@pytest.mark.long
def test_a():
    pass

@pytest.mark.long
def test_b():
    pass

def test_c():
    pass
"""


def test_the_first_and_the_last_case_always_run() -> None:
    assert all({"case-0", "case-19"} <= draw(CASES, str(seed), sample=2) for seed in range(50))


def test_edges_that_are_named_always_run() -> None:
    drawn = draw(CASES, "abc", sample=2, edges=["case-7"])
    assert "case-7" in drawn
    assert len(drawn) == 3


def test_a_matrix_may_have_no_edges() -> None:
    assert {len(draw(CASES, str(seed), sample=1, edges=[])) for seed in range(20)} == {1}


def test_a_commit_draws_the_same_sample_each_time_and_commits_cover_every_case() -> None:
    assert draw(CASES, "abc", sample=3) == draw(CASES, "abc", sample=3)
    assert set[str]().union(*(draw(CASES, str(commit), sample=3) for commit in range(60))) == set(CASES)


def test_a_sample_is_never_larger_than_the_matrix() -> None:
    assert draw(CASES[:3], "abc", sample=9) == set(CASES[:3])


def test_an_edge_that_is_not_a_case_is_an_error() -> None:
    with pytest.raises(ValueError, match="case-x"):
        draw(CASES, "abc", sample=1, edges=["case-x"])


def test_pytest_runs_the_sample_or_every_case_or_the_case_that_is_named(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile(FILE)
    plugin = ("-p", "tests.matrix", "-p", "no:cacheprovider")
    pytester.makeini("[pytest]\nmarkers =\n    matrix: cases")
    sampled = pytester.runpytest_inprocess(*plugin)
    sampled.assert_outcomes(passed=6, deselected=15)
    sampled.stdout.fnmatch_lines(["*test_number: 5 of 20 (0, *19*)"])
    pytester.runpytest_inprocess(*plugin, "--all").assert_outcomes(passed=21)
    pytester.runpytest_inprocess(*plugin, f"{path.name}::test_number[7]").assert_outcomes(passed=1)
    pytester.runpytest_inprocess(*plugin, "-k", "7 and number").assert_outcomes(passed=2, deselected=19)  # 7 and 17


def test_pytest_runs_half_of_the_long_tests_or_all_or_the_one_that_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pytester.makepyfile(LONG)
    plugin = ("-p", "tests.matrix", "-p", "no:cacheprovider")
    pytester.makeini("[pytest]\nmarkers =\n    long: tests of a minute")
    ran = set()
    for commit in range(20):
        monkeypatch.setenv("BAKEHOUSE_TEST_SAMPLE", str(commit))
        sampled = pytester.runpytest_inprocess(*plugin)
        sampled.assert_outcomes(passed=2, deselected=1)
        [line] = [line for line in sampled.outlines if line.startswith("long tests: 1 of 2 (")]
        ran.add(line.partition("(")[2].rstrip(")"))
    assert ran == {"test_a", "test_b"}
    pytester.runpytest_inprocess(*plugin, "--all").assert_outcomes(passed=3)
    pytester.runpytest_inprocess(*plugin, f"{path.name}::test_a").assert_outcomes(passed=1)
