"""Google's library in part and whole: the same classes, whichever is loaded first, and whatever the library looks like inside."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clouds.gcp import sdk

SERVICES = sorted(sdk.Services.__annotations__)
_IN_PART = f"""
from clouds.gcp import sdk
kinds = {{service: sdk.client_class(service) for service in {SERVICES}}}
messages = sdk.compute
"""
_WHOLE = """
from google.cloud import compute_v1
"""
_COMPARE = """
for service, kind in kinds.items():
    assert kind is getattr(compute_v1, kind.__name__), service
for name in ("Instance", "Operation", "InsertInstanceRequest"):
    assert getattr(messages, name) is getattr(compute_v1, name), name
assert compute_v1.AcceleratorTypesClient
"""
_OTHERWISE = """
from clouds.gcp import sdk
sdk._SKIPPED = ("google.cloud.compute_v1", "google.cloud.compute_v1.renamed")
"""
_COLLECTOR_IS_ON = "import gc\nassert gc.isenabled() and gc.get_freeze_count() > 10_000\n"
_COLLECTOR_OFF = "import gc\ngc.disable()\n"
_COLLECTOR_IS_OFF = "assert not gc.isenabled()\n"


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.server
@pytest.mark.parametrize(
    "code",
    [
        _IN_PART + _COLLECTOR_IS_ON + _WHOLE + _COMPARE,
        _COLLECTOR_OFF + _WHOLE + _IN_PART + _COLLECTOR_IS_OFF + _COMPARE,
        _OTHERWISE + _IN_PART + _WHOLE + _COMPARE,
    ],
    ids=["in part first", "whole first", "laid out differently"],
)
def test_part_of_the_library_has_the_classes_of_the_whole_and_the_collector_stays_as_it_was(code: str) -> None:
    """The collector's state is asked for here, too: each fresh process that loads the library takes a second or two."""
    run(code)


def test_every_service_that_the_driver_uses_has_a_client() -> None:
    assert {"instances", "images", "zone_operations", "global_operations", "region_operations"} < set(SERVICES)
    for service in SERVICES:
        assert sdk.client_class(service).__name__.endswith("Client")
