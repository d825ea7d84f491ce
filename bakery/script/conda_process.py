"""Solve conda packages with rattler: a program that reads a request from standard input and writes the answer, both as JSON.

It runs in a process of its own, which ends without ending its interpreter: rattler's threads may still need that, and would abort
the process (github.com/PyO3/pyo3-async-runtimes/issues/40). It imports nothing of Bakehouse.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import rattler
from rattler.exceptions import GatewayError, InvalidMatchSpecError, SolverError
from rattler.networking import Client, RetryMiddleware
from rattler.package import BuildString
from rattler.platform.subdir import SubdirLiteral

_PLATFORMS: tuple[SubdirLiteral, ...] = ("linux-64", "noarch")
_OTHERS: tuple[SubdirLiteral, ...] = ("osx-arm64", "osx-64", "win-64", "linux-aarch64")


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the solution for `channels` (URLs), `packages`, `system` (virtual packages and their versions), `limit_s` and `cache`.

    `packages`: the file of each as URL, SHA-256 ("": unknown), name and version. Instead of it `invalid`: packages that cannot be
    read, each with the reason; or `unsolvable`, with the reason in `lines`; or `unreadable`: why a channel cannot be read ("": it
    sent no complete answer in time).
    """
    if invalid := [[text, reason] for text in request["packages"] if (reason := _invalid(text))]:
        return {"invalid": invalid}
    gateway = rattler.Gateway(cache_dir=request["cache"], client=Client([RetryMiddleware(2)]))
    system = [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name), rattler.Version(version), BuildString("x86_64" if name == "__archspec" else "0")
        )
        for name, version in request["system"].items()
    ]
    solving = rattler.solve(request["channels"], request["packages"], gateway, _PLATFORMS, virtual_packages=system)
    try:
        records = asyncio.run(asyncio.wait_for(solving, request["limit_s"]))
    except SolverError as error:
        explained = str(error).removeprefix("Cannot solve the request because of: ").splitlines()
        return {"unsolvable": [*filter(None, explained), *_elsewhere(gateway, request)]}
    except (GatewayError, TimeoutError) as error:
        return {"unreadable": str(error)}
    return {"packages": [[one.url, (one.sha256 or b"").hex(), one.name.normalized, str(one.version)] for one in records]}


def _invalid(package: str) -> str:
    """Return why a package cannot be read; "" if it can."""
    try:
        rattler.MatchSpec(package)
    except InvalidMatchSpecError as error:
        return str(error)
    return ""


def _elsewhere(gateway: rattler.Gateway, request: Mapping[str, Any]) -> list[str]:
    """Return, for each package that these channels have for other systems only, a line that says so."""
    names = [rattler.MatchSpec(text).name.normalized for text in request["packages"]]
    try:
        found = []
        for platforms in (_PLATFORMS, _OTHERS):
            query = gateway.query(request["channels"], platforms, names, recursive=False)
            found.append([record for listed in asyncio.run(asyncio.wait_for(query, request["limit_s"])) for record in listed])
    except (GatewayError, TimeoutError):
        return []
    ours = {record.name.normalized for record in found[0]}
    others = {name: sorted({record.subdir for record in found[1] if record.name.normalized == name}) for name in names}
    return [
        f"{name} exists only for {', '.join(subdirs)}, but the machine is linux-64"
        for name, subdirs in others.items()
        if subdirs and name not in ours
    ]


if __name__ == "__main__":
    json.dump(answer(json.load(sys.stdin)), sys.stdout)
    sys.stdout.flush()
    os._exit(0)
