"""The walks of the tutorials (docs/machines.md) on Google Cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.driver import BootSpec, Endpoint, Ticket
from tests.clouds.gcp import stage as stages
from tests.clouds.gcp.stage import NewStage
from tests.walks import MACHINES, Notebooks, asked, prepared, walk

pytestmark = pytest.mark.server


class Cloud(stages.Cloud):
    """The driver, whose machines have notebooks."""

    notebooks: Notebooks

    def boot(self, spec: BootSpec) -> Ticket:
        self.notebooks.open(spec)
        return super().boot(spec)

    def address(self, machine: str, port: int) -> Endpoint:
        return self.notebooks.at(machine, port, super().address(machine, port))


@pytest.mark.parametrize("recipe", MACHINES)
def test_the_commands_of_the_page_make_the_machine(
    new_stage: NewStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    stage = new_stage()
    monkeypatch.setattr(stages, "Cloud", Cloud)
    cloud = stage.connect()
    assert isinstance(cloud, Cloud)
    cloud.notebooks = Notebooks(tmp_path / "forwards")
    with prepared(cloud, cloud.notebooks, monkeypatch):
        assert walk(recipe, "gcp") == ["bake", "launch", "check-machine"]
    name, spec = list(cloud.notebooks.booted.items())[-1]
    assert asked(spec) == MACHINES[recipe]
    assert [line for line in stage.there("instances") if "RUNNING" in line] == [f"us-central1-a/{name} RUNNING"]
    assert stage.left() == []
