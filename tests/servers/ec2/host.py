"""What the machines behind the server may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.servers.ec2 import life
from tests.servers.ec2.cloud import Cloud


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
            self._cloud.engine.after(0, lambda: self._ended(vm_id))

    def _ended(self, vm_id: str) -> None:
        if instance := self._find(vm_id):
            life.ended(instance.ec2_backend, instance)

    def is_open(self, vm_id: str, port: int, source: str) -> bool:
        with self._cloud.lock:
            instance = self._find(vm_id)
            return bool(instance and instance.ec2_backend.is_open(instance, port, source))

    def _find(self, vm_id: str) -> Any:
        found = (one for region in self._cloud.regions() for one in region.all_instances() if one.id == vm_id)
        return next(found, None)
