"""google-cloud-compute, loaded lean: its types and the few clients that are used, without the packages' own `__init__`.

Those import every client of the service, which takes 1.6 s and 150 MB instead of half a second (docs/benchmarks.md). Where a
later release no longer lets itself be loaded so, it is imported whole: slower, but right.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from functools import cache
from typing import Any, get_args, get_type_hints

_PACKAGE = "google.cloud.compute_v1"
_BARE = (_PACKAGE, f"{_PACKAGE}.types")


@cache
def client_class(service: str) -> Any:
    """Return the client of a service, such as `zone_operations`."""
    try:
        _load_bare()
        module = importlib.import_module(f"{_PACKAGE}.services.{service}")
    except (ImportError, AttributeError):
        _forget()
        module = importlib.import_module(_PACKAGE)
    return getattr(module, "".join(word.title() for word in service.split("_")) + "Client")


@cache
def request_class(service: str, method: str) -> Any:
    """Return the message that a method of a client takes: the one that its annotation names beside `dict`."""
    hints = get_type_hints(getattr(client_class(service), method))
    return next(
        message for union in get_args(hints["request"]) for message in (get_args(union) or (union,)) if hasattr(message, "pb")
    )


def _load_bare() -> None:
    """Put packages in place of the real ones whose `__init__` has not run, so that only what is asked for below them is loaded."""
    for name in _BARE:
        if name not in sys.modules:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.submodule_search_locations is None:
                raise ImportError(name)
            bare = types.ModuleType(name)
            bare.__path__ = list(spec.submodule_search_locations)
            bare.__spec__ = spec
            sys.modules[name] = bare
            parent, _, leaf = name.rpartition(".")
            setattr(sys.modules[parent], leaf, bare)


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith(_PACKAGE)]:
        del sys.modules[name]
