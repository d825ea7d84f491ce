"""The walks of the tutorials (docs/machines.md) on AWS."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.driver import BootSpec, Endpoint, Ticket
from tests.clouds.aws import stage as stages
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
    stage: stages.Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(stages, "Cloud", Cloud)
    cloud = stage.connect()
    assert isinstance(cloud, Cloud)
    cloud.notebooks = Notebooks(tmp_path / "forwards")
    with prepared(cloud, cloud.notebooks, monkeypatch):
        assert walk(recipe, "aws") == ["bake", "launch", "check-machine"]
    name, spec = list(cloud.notebooks.booted.items())[-1]
    assert asked(spec) == MACHINES[recipe]
    assert stage.instance(name)["State"]["Name"] == "running"
    assert [line for line in stage.strays() if not line.startswith("addresses ")] == []
