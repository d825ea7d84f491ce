"""A bake and a launch on AWS, as its user runs them: the strict EC2 server, with real machines behind it that run cloud-init."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.vm import bake_and_launch as shared
from tests.vm.amazon import Amazon, amazon
from tests.vm.bakehouse import RECIPES

pytestmark = pytest.mark.vm

baked, image, machine = shared.baked, shared.image, shared.machine


@pytest.fixture(scope="module")
def cloud(vm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amazon]:
    """Give AWS with real machines."""
    with amazon(vm_home, tmp_path_factory.mktemp("amazon")) as made:
        yield made


@pytest.fixture(scope="module")
def recipe(pytestconfig: pytest.Config) -> str:
    """Give `jupyter`; without `--all`, `notebook`, whose bake takes a third of the time."""
    return "jupyter" if pytestconfig.option.all else str(RECIPES / "notebook.toml")


test_the_public_image_has_the_agent_of_its_cloud_alone = shared.the_public_image_has_the_agent_of_its_cloud_alone
test_a_bake_leaves_an_image_and_nothing_else = shared.a_bake_leaves_an_image_and_nothing_else
test_the_image_holds_no_secret = shared.the_image_holds_no_secret


def test_the_snapshot_of_the_image_has_its_name(cloud: Amazon, image: dict[str, Any]) -> None:
    lines = [f"{kind} us-east-1/{image['image']} {state}" for kind, state in (("images", "available"), ("snapshots", "completed"))]
    assert cloud.server.inventory() == lines


test_an_unchanged_recipe_is_not_baked_again = shared.an_unchanged_recipe_is_not_baked_again
test_a_launch_tells_programs_all_they_need = shared.a_launch_tells_programs_all_they_need
test_a_cell_runs_through_the_tunnel = shared.a_cell_runs_through_the_tunnel
test_no_other_port_of_the_machine_answers = shared.no_other_port_of_the_machine_answers
test_the_password_is_kept_nowhere = shared.the_password_is_kept_nowhere
test_a_command_runs_over_ssh_and_a_file_is_copied = shared.a_command_runs_over_ssh_and_a_file_is_copied
test_a_stopped_machine_starts_again_with_its_files_and_its_password = (
    shared.a_stopped_machine_starts_again_with_its_files_and_its_password
)
test_deleting_leaves_nothing = shared.deleting_leaves_nothing


def test_a_deleted_image_leaves_nothing(cloud: Amazon, image: dict[str, Any]) -> None:
    cloud.must("delete-image", image["image"], "--yes")
    assert cloud.server.inventory() == []


test_gc_finds_nothing = shared.gc_finds_nothing
