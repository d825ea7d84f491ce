"""Why a step failed, in one line."""

import pytest

from bakery.watch import cause
from clouds.markers import Checkpoint


@pytest.mark.parametrize(
    ("line", "log", "told"),
    [
        (3, ("bash: line 3: no: command not found",), "line 3 returned exit status 2"),
        (0, ("/run/x/03-a: line 2: syntax error near unexpected token `)'", "x: line 2: `)'"), "bash: line 2: syntax error near"),
        (0, ("x: line 9: unexpected EOF while looking for matching `\"'",), "bash: line 9: unexpected EOF while looking"),
        (0, ("some output",), "it returned exit status 2"),
    ],
)
def test_cause_is_the_line_of_a_command_or_the_syntax_error_that_bash_reports(line: int, log: tuple[str, ...], told: str) -> None:
    assert cause(Checkpoint(3, 4, "a", line, 2), log).startswith(told)
