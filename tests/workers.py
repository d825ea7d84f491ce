"""Which of two processes runs which test file: files that need the same costly image run in one process, the longest first."""

from __future__ import annotations

from typing import Any

import pytest

TOGETHER = {"tests/vm/test_instant.py": "jupyter", "tests/vm/test_machine.py": "jupyter"}
"""What the files of one process share: an image of `jupyter` takes minutes to bake without KVM."""
LONGEST_FIRST = ("instant", "machine", "gcp", "failures", "kill", "layers")
"""Files of tests/vm that keep a process busy for longest, so that both processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    place = {f"tests/vm/test_{name}.py": number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return xdist's scheduler of whole files, for which files that run together are one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file, file)

    return Scheduling(config, log)
