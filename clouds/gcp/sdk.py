"""Load Google's library for Compute Engine lazily, at the first request, and only the parts that are used.

Importing `google.cloud.compute_v1` or its package `services` loads the clients of all hundred services, which takes longer than
most commands (docs/benchmarks.md). So both packages are inserted into sys.modules without being executed while a part is loaded,
and removed afterwards: an ordinary import elsewhere still gets the whole library, with the same classes.

`sdk.compute` is the module of all messages (`sdk.compute.Instance`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from clouds import collector

if TYPE_CHECKING:
    from google.cloud.compute_v1.services.addresses import AddressesClient
    from google.cloud.compute_v1.services.disks import DisksClient
    from google.cloud.compute_v1.services.firewalls import FirewallsClient
    from google.cloud.compute_v1.services.global_operations import GlobalOperationsClient
    from google.cloud.compute_v1.services.images import ImagesClient
    from google.cloud.compute_v1.services.instances import InstancesClient
    from google.cloud.compute_v1.services.machine_types import MachineTypesClient
    from google.cloud.compute_v1.services.networks import NetworksClient
    from google.cloud.compute_v1.services.region_operations import RegionOperationsClient
    from google.cloud.compute_v1.services.regions import RegionsClient
    from google.cloud.compute_v1.services.zone_operations import ZoneOperationsClient
    from google.cloud.compute_v1.services.zones import ZonesClient
    from google.cloud.compute_v1.types import compute as compute
    from requests import Session

_LIBRARY = "google.cloud.compute_v1"
_SKIPPED = (_LIBRARY, f"{_LIBRARY}.services")
_LOCK = threading.RLock()


class Services:
    """The clients of Compute Engine's services, each created on first use."""

    addresses: AddressesClient
    disks: DisksClient
    firewalls: FirewallsClient
    global_operations: GlobalOperationsClient
    images: ImagesClient
    instances: InstancesClient
    machine_types: MachineTypesClient
    networks: NetworksClient
    region_operations: RegionOperationsClient
    regions: RegionsClient
    zone_operations: ZoneOperationsClient
    zones: ZonesClient

    def __init__(self, credentials: Any, endpoint: str, prepare: Callable[[Session], None]) -> None:
        """`endpoint`: URL of another server, "" for Google's. `prepare` is called with the session of each client."""
        self._credentials = credentials
        self._options = {"api_endpoint": endpoint} if endpoint else None
        self._prepare = prepare

    if not TYPE_CHECKING:

        def __getattr__(self, service: str) -> Any:
            if service not in self.__annotations__:
                raise AttributeError(service)
            client = client_class(service)(credentials=self._credentials, client_options=self._options, transport="rest")
            self._prepare(client.transport._session)  # the library has no public access to it
            setattr(self, service, client)
            return client


def __getattr__(name: str) -> ModuleType:
    """Load the module of the messages on first access."""
    if name != "compute":
        raise AttributeError(name)
    return load("types.compute")


def client_class(service: str) -> Any:
    """Return the client class of a service: InstancesClient for `instances`."""
    return getattr(load(f"services.{service}"), f"{service.title().replace('_', '')}Client")


@functools.cache
def load(part: str) -> ModuleType:
    """Return a module of the library, such as `types.compute`; by an ordinary import if its layout has changed."""
    name = f"{_LIBRARY}.{part}"
    with _LOCK, collector.off():
        try:
            with _skipping_packages():
                return importlib.import_module(name)
        except (ImportError, AttributeError):
            return importlib.import_module(name)


@contextmanager
def _skipping_packages() -> Iterator[None]:
    """Insert the packages whose `__init__` loads everything into sys.modules, without executing them; remove them afterwards."""
    missing = [name for name in _SKIPPED if name not in sys.modules]
    try:
        for name in missing:
            sys.modules[name] = _not_executed(name)
        yield
    finally:
        for name in missing:
            sys.modules.pop(name, None)


def _not_executed(name: str) -> ModuleType:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(name)
    return importlib.util.module_from_spec(spec)
