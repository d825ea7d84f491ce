import subprocess
import sys

import pytest

import clouds
from clouds.errors import UsageError


def test_unknown_cloud_is_a_usage_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown cloud 'nimbus'") as refused:
        clouds.connect("nimbus")
    assert "local" in refused.value.next_step


@pytest.mark.parametrize(
    ("typed", "meant"), [("AWS", "aws"), ("Gcp", "gcp"), ("gpc", "gcp"), ("LOCAL", "local"), ("awss.research", "aws.research")]
)
def test_unknown_cloud_is_answered_with_the_nearest_one_whatever_its_case(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown cloud '{typed}'$") as refused:
        clouds.connect(typed)
    assert refused.value.next_step == f"Did you mean {meant}?"


def test_importing_clouds_loads_no_driver() -> None:
    script = "import clouds, sys; print([name for name in sys.modules if name.startswith(('clouds.local', 'qemu'))])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
