"""Which test files are loaded: a file is left out only if no test of it can run."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)
BROKEN = "raise RuntimeError('was loaded')\n"


@pytest.fixture
def files(pytester: pytest.Pytester) -> pytest.Pytester:
    """Make a file of slow tests that fails when it is loaded, one with a slow and a fast test, and one with fast tests."""
    pytester.makeini("[pytest]\nmarkers =\n    vm: slow\n    server: slow")
    mixed = "import pytest\n@pytest.mark.vm\ndef test_slow(): pass\ndef test_fast(): pass\n"
    slow = f"import pytest\npytestmark = pytest.mark.vm\n{BROKEN}"
    pytester.makepyfile(test_slow=slow, test_mixed=mixed, test_fast="def test_fast(): pass\n")
    return pytester


def run(files: pytest.Pytester, *words: str) -> pytest.RunResult:
    return files.runpytest_inprocess("-p", "tests.workers", "-p", "no:cacheprovider", *words)


def test_file_of_slow_tests_is_not_loaded_where_only_fast_ones_run(files: pytest.Pytester) -> None:
    run(files, "-m", "not (vm or server)").assert_outcomes(passed=2, deselected=1)


@pytest.mark.parametrize("expression", ["", "vm or server", "not server", "not (server)", "not (server or vmm)"])
def test_file_of_tests_that_can_run_is_loaded(files: pytest.Pytester, expression: str) -> None:
    run(files, "-m", expression).assert_outcomes(errors=1)
