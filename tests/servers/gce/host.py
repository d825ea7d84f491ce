"""What the machines behind the server may ask of it."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.gce.cloud import Cloud
from tests.servers.gce.resources import life
from tests.servers.gce.resources.firewalls import is_open


class CloudHost:
    """Serves the machines of one cloud; each method takes the lock."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def now(self) -> float:
        return self._cloud.engine.now()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        with self._cloud.lock:
            self._cloud.engine.after(delay_s, action)

    def ended(self, vm_id: str) -> None:
        with self._cloud.lock:
            self._cloud.engine.after(0, lambda: life.ended(self._cloud, vm_id))

    def is_open(self, vm_id: str, port: int, source: str) -> bool:
        with self._cloud.lock:  # the instance may have been deleted meanwhile
            return vm_id in self._cloud.store and is_open(self._cloud, self._cloud.store.get(vm_id), port, source)
