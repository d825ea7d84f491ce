"""Which test files a process loads, and which of two processes runs which: files that share an image or machines run in one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

GROUPS = {
    "an image of jupyter": ("vm/test_instant", "vm/test_machine"),
    "a base of its own, which all others share then, while the other process makes that of jupyter": ("vm/test_ordinary_user",),
    "the server with real machines": ("vm/test_gcp",),
    "the EC2 server with real machines": ("vm/test_aws",),
    "layers and images of the shape of minimal": (
        *("vm/test_failures", "vm/test_bake", "vm/test_kill", "vm/test_seal", "vm/test_conda"),
        *("vm/test_saved_memory", "vm/test_layers"),
    ),
    "machines of the contract": (
        "contract/test_contract",
        "contract/test_layers",
        "contract/test_memory",
        "contract/test_suspends",
    ),
    "the Google Cloud server, 400 times": ("clouds/gcp/test_leaks",),
    "the EC2 server, 500 times": ("clouds/aws/test_leaks",),
    "machines of the base": ("vm/test_base",),
    "new environments": ("test_inv",),
    "root filesystems": ("vm/test_rootfs",),
    "gcloud": ("clouds/gcp/test_gcloud",),
}
"""What the files of a group share. A free process takes the next group, so the longest are first; other files are short, and last.

Within a group the order matters: the failures keep the layers from which both bakes of test_bake start, whose image the others use.
"""
FILES = {f"tests/{file}.py": group for group, files in GROUPS.items() for file in files}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not load a file all of whose tests have a marker that `-m "not (A or B)"` excludes: each process would load it."""
    excluded = re.fullmatch(r"not \((.+)\)", config.option.markexpr)
    if not excluded or collection_path.suffix != ".py":
        return None
    marker = re.search(r"^pytestmark = pytest\.mark\.(\w+)$", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
    return True if marker and marker[1] in excluded[1].split(" or ") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups first, in their order."""
    place = {file: number for number, file in enumerate(FILES)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return xdist's scheduler of whole files, for which the files of a group are one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return FILES.get(file, file)

    return Scheduling(config, log)
