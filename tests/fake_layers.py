"""The fake cloud as one that keeps layers: its builders wait at each checkpoint, and others start from there."""

from __future__ import annotations

import itertools
from dataclasses import replace

from clouds.capabilities import Layer
from clouds.driver import BootSpec, Kind, Ticket
from clouds.errors import InvalidError, NotFoundError
from tests import fake_guest
from tests.fake_cloud import FakeCloud, now
from tests.fake_world import Kept, Machine

LAYER_BYTES = 10**9
"""What each layer of the fake cloud occupies."""

_numbers = itertools.count(1)


class LayeredCloud(FakeCloud):
    """A client of a `World` in which layers are kept."""

    waits = True

    def boot(self, spec: BootSpec) -> Ticket:
        if spec.source.startswith("layer-"):
            if spec.source not in self.world.layers:
                raise NotFoundError(f"layer {spec.source!r} not found on {self.name}")
            if self.world.layers[spec.source].layer.disk_gb > spec.disk_gb:
                raise InvalidError(f"the disk of machine {spec.name!r} is smaller than that of {spec.source!r}")
        return super().boot(spec)

    def layers(self) -> list[Layer]:
        with self._operation("layers", ""):
            return sorted((kept.layer for kept in self.world.layers.values()), key=lambda layer: layer.used_at)

    def keep_layer(self, machine: str, *, key: str, parent: str, step: str, own: str) -> Ticket:
        with self._operation("keep_layer", step):
            found = self._waiting(machine)
            layer_id = f"layer-{next(_numbers)}"
            layer = Layer(
                layer_id, key, step, own, parent, now(), LAYER_BYTES, found.spec.disk_gb, found.spec.cpus, found.spec.memory_mb
            )
            self.world.layers[layer_id] = Kept(layer, dict(found.disk), on=found.spec.source)
            found.spec = replace(found.spec, source=layer_id)
            return Ticket("keep-layer", Kind.DISK, layer_id)

    def go_on(self, machine: str, script: str) -> Ticket:
        with self._operation("go_on", machine):
            found = self._waiting(machine)
            archive = self.world.archive
            self.run_script(
                machine, script, lambda text: fake_guest.run(found.guest, text, found.disk, archive=archive, waits=True)
            )
            return Ticket("go-on", Kind.MACHINE, machine)

    def remove_layer(self, layer: str) -> bool:
        with self._operation("remove_layer", layer):
            used = {machine.spec.source for machine in self.world.machines.values()}
            used |= {kept.on for kept in self.world.layers.values()}
            if layer not in used:
                self.world.layers.pop(layer, None)
            return layer not in used

    def _waiting(self, machine: str) -> Machine:
        found = self._machine(machine)
        if not found.waits:
            raise InvalidError(f"machine {machine!r} does not wait")
        return found

    def _source_disk(self, source: str) -> dict[str, bytes]:
        kept = self.world.layers.get(source)
        if kept is None:
            return super()._source_disk(source)
        kept.layer = replace(kept.layer, used_at=now())
        return dict(kept.disk)
