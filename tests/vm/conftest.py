"""Images that the tests with real machines share: each is baked once in a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm.bakehouse import Bakehouse, Finished
from tests.vm.browser import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest.register_assert_rewrite("tests.vm.bake_and_launch")  # its tests run under the names of other files


@pytest.fixture
def page() -> Iterator[Page]:
    """Give a page of a real browser."""
    with chromium() as made:
        yield made


@pytest.fixture(scope="session")
def bakehouse(vm_home: Path) -> Bakehouse:
    """Give the command line with the store that all these tests share."""
    return Bakehouse(vm_home)


@pytest.fixture(scope="session")
def minimal(bakehouse: Bakehouse) -> dict[str, Any]:
    """Give the result of a real bake of `minimal`."""
    result: dict[str, Any] = bakehouse.must("bake", "--recipe", "minimal", "--json").result
    return result


@pytest.fixture(scope="session")
def jupyter(bakehouse: Bakehouse) -> dict[str, Any]:
    """Give the result of a real bake of `jupyter`."""
    result: dict[str, Any] = bakehouse.must("bake", "--json", timeout_s=3000).result
    return result


@pytest.fixture(scope="session")
def boosting(bakehouse: Bakehouse, request: pytest.FixtureRequest) -> Finished:
    """Give a real bake of `boosting`; with `--all` after one of `jupyter`, with whose steps it begins."""
    if request.config.option.all:
        assert request.getfixturevalue("jupyter")["image"]
    return bakehouse.must("bake", "--recipe", "boosting", "--json", timeout_s=3000)


@pytest.fixture(scope="session")
def notebook(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give the result of a real bake with a notebook: of `jupyter` with `--all`, else of `boosting`, which has its steps, too."""
    is_all = request.config.option.all
    result: dict[str, Any] = request.getfixturevalue("jupyter") if is_all else request.getfixturevalue("boosting").result
    return result
