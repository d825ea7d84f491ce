"""The rules of a recipe that involve several keys, or the files next to it."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from bakery.recipe import conda_steps, python_steps, repositories, variables
from bakery.recipe.archive import FILE_MAX_BYTES, MIB, TOTAL_MAX_BYTES, find, is_source, sizes_bytes
from bakery.recipe.problems import Problem, show
from clouds import ranges
from launcher.access.identity import SSH_PORT

RESERVED = ("boot", "prepare", "seal")
"""The checkpoints that every script has in addition to its steps."""

GPU_TEST = "gpu"
"""The test that the image of a recipe with `gpu = true` has in addition."""

_PLAIN = re.compile(r"[a-z0-9][a-z0-9+.-]*")
"""The name of a package alone, without architecture, version or release."""

_NEWER_PYTHON = re.compile(rb"(?i:\b(f|fr|rf)['\"])|(?m:^\s*(type\s|(async\s+)?(def|class)\s+\w+\s*\[))")
"""What Python 3.12 and 3.13 have new syntax for: f-strings (PEP 701), type aliases and type parameters (PEP 695, 696)."""

Tables = list[tuple[int, Mapping[str, Any]]]


def broken(raw: Mapping[str, Any], path: Path, kinds: Sequence[str]) -> list[Problem]:
    """Return which rules a raw recipe breaks; its values may be invalid."""
    steps, tests = _tables(raw, "steps"), _tables(raw, "tests")
    return [
        *_misnamed(raw, path),
        *_not_one_kind(steps, kinds),
        *_taken_names(steps, "steps", RESERVED),
        *_taken_names(tests, "tests", (*RESERVED[:1], *([GPU_TEST] if raw.get("gpu") is True else []))),
        *_bad_copies(steps, path.parent),
        *_bad_scripts(steps, path.parent, raw.get("variables")),
        *_bad_settings(steps, path.parent),
        *_bad_notebooks(steps, path.parent),
        *python_steps.broken(steps, path),
        *conda_steps.broken(steps, path.parent),
        *repositories.broken(steps, path.parent),
        *_wrong_in_base(steps),
        *_small_disk(raw),
        *_bad_launch(raw, steps),
        *_bad_allowances(raw),
    ]


def _tables(raw: Mapping[str, Any], key: str) -> Tables:
    listed = raw.get(key)
    return [(at, table) for at, table in enumerate(listed) if isinstance(table, dict)] if isinstance(listed, list) else []


def _misnamed(raw: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    if "folder" in raw:
        yield Problem(("folder",), "is not a known key here (remove it: the folder of the file is used)")
    name = raw.get("name")
    if isinstance(name, str) and name != path.stem:
        yield Problem(
            ("name",), f"is {show(name)}, but the file is called {path.name} (write name = {show(path.stem)}, or rename the file)"
        )


def _not_one_kind(steps: Tables, kinds: Sequence[str]) -> Iterator[Problem]:
    for at, step in steps:
        present = [kind for kind in kinds if kind in step]
        if "apt_sources" in step and present != ["apt"]:
            present.append("apt_sources")
        if len(present) > 1:
            yield Problem(("steps", at), f"has {' and '.join(present)} (write a separate step for each)")
        elif not present and set(step) <= {"name", "in_base"}:
            yield Problem(("steps", at), f"does nothing (write one of {', '.join(kinds)})")


def _taken_names(tables: Tables, key: str, reserved: Sequence[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for at, table in tables:
        name = table.get("name")
        if not isinstance(name, str):
            continue
        if name in reserved:
            yield Problem((key, at, "name"), f"{show(name)} is a reserved name (write another name)")
        elif name in first:
            yield Problem((key, at, "name"), f"{show(name)} is already the name of {key}[{first[name]}] (write another name)")
        first.setdefault(name, at)


def _bad_copies(steps: Tables, folder: Path) -> Iterator[Problem]:
    total_bytes = 0
    for at, step in steps:
        copies = step.get("copy")
        for index, copy in enumerate(copies if isinstance(copies, list) else []):
            source = copy.get("from") if isinstance(copy, dict) else None
            if not is_source(source):
                continue
            found = find(folder, source)
            if isinstance(found, str):
                yield Problem(("steps", at, "copy", index, "from"), f"{show(source)} {found}")
                continue
            sizes = sizes_bytes(found)
            total_bytes += sum(sizes.values())
            for file, size_bytes in sizes.items():
                if size_bytes > FILE_MAX_BYTES:
                    told = f"{show(file.name)}: {size_bytes / MIB:.1f} MiB; a file may have {FILE_MAX_BYTES // MIB} MiB"
                    yield Problem(("steps", at, "copy", index, "from"), f"{told} (write a `fetch` step)")
    if total_bytes > TOTAL_MAX_BYTES:
        told = f"copy {total_bytes / MIB:.1f} MiB in all; a recipe may copy {TOTAL_MAX_BYTES // MIB} MiB"
        yield Problem(("steps",), f"{told} (write a `fetch` step)")


def _bad_scripts(steps: Tables, folder: Path, values: object) -> Iterator[Problem]:
    for at, step in steps:
        source = step.get("script")
        if not is_source(source):
            continue
        found = find(folder, source)
        if isinstance(found, str) or not found[0].path.is_file():
            trouble = found if isinstance(found, str) else "is a folder (write the path of a script)"
            yield Problem(("steps", at, "script"), f"{show(source)} {trouble}")
            continue
        text = found[0].path.read_bytes()
        if b"\0" in text or not _is_text(text):
            yield Problem(("steps", at, "script"), f"{show(source)} is not UTF-8 text (write a shell script)")
        elif isinstance(values, dict):
            for name in variables.unknown(text.decode(), values):
                yield Problem(("steps", at, "script"), f"{show(source)}: {variables.told(name, values)}")


def _bad_settings(steps: Tables, folder: Path) -> Iterator[Problem]:
    for at, step in steps:
        source = step["notebook"].get("settings") if isinstance(step.get("notebook"), dict) else None
        if not is_source(source) or not source.endswith((".json", ".py")):
            continue
        found, key = find(folder, source), ("steps", at, "notebook", "settings")
        if isinstance(found, str):
            yield Problem(key, f"{show(source)} {found}")
        elif not found[0].path.is_file():
            yield Problem(key, f"{show(source)} is a folder (write the path of a file)")
        elif not _is_text(content := found[0].path.read_bytes()):
            yield Problem(key, f"{show(source)} is not UTF-8 text (save it as UTF-8)")
        elif trouble := _unreadable(source, content):
            yield Problem(key, f"{show(source)}{trouble}")


def _unreadable(source: str, content: bytes) -> str:
    """Return why Jupyter cannot read settings, as `what (what to write instead)`; "" if it can, perhaps with a newer Python."""
    is_json = source.endswith(".json")
    try:
        if is_json:
            found = json.loads(content.decode())
            return "" if isinstance(found, dict) else ' is not an object (write one such as {"ServerApp": {"open_browser": false}})'
        with warnings.catch_warnings(action="ignore"):
            compile(content, source, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SyntaxError) and _NEWER_PYTHON.search(content):
            return ""
        line, why = getattr(error, "lineno", None), getattr(error, "msg", None) or str(error)
        where = f"line {line}: " if line else ""
        return f": {where}{why.partition(' (')[0]} (write valid {'JSON' if is_json else 'Python'})"
    return ""


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bad_notebooks(steps: Tables, folder: Path) -> Iterator[Problem]:
    first: int | None = None
    has_jupyterlab = False
    last = max((at for at, step in steps if "notebook" in step), default=-1)
    for at, step in steps[: last + 1]:
        has_jupyterlab = has_jupyterlab or "jupyterlab" in python_steps.names(step.get("python"), folder)
        if "notebook" not in step:
            continue
        if first is not None:
            yield Problem(("steps", at, "notebook"), f"is the second notebook step, after steps[{first}] (write only one)")
        elif not has_jupyterlab:
            yield Problem(
                ("steps", at, "notebook"), 'needs JupyterLab (add "jupyterlab" to the packages of an earlier python step)'
            )
        first = at if first is None else first


def _wrong_in_base(steps: Tables) -> Iterator[Problem]:
    """Yield the steps whose packages no base can have: apt finds them in Debian's own sources, before any other step."""
    earlier = ""
    for at, step in steps:
        packages = step.get("apt")
        if step.get("in_base") is not True:
            earlier = earlier or f"steps[{at}]"
            continue
        where = ("steps", at, "in_base")
        if "apt" not in step or "apt_sources" in step:
            yield Problem(where, "is for a step with `apt` and no `apt_sources` (remove it)")
        elif earlier:
            yield Problem(where, f"does not fit after {earlier}, which is not in the base (move the step before it)")
        for package in packages if isinstance(packages, list) else []:
            if isinstance(package, str) and not _PLAIN.fullmatch(package):
                yield Problem(where, f"does not fit {show(package)} (write the name alone, or move the package to another step)")


def is_disk(value: object) -> TypeGuard[int]:
    """Return whether a value is the size of a disk; the type of its key reports one that is not."""
    return isinstance(value, int) and ranges.DISK_GB[0] <= value <= ranges.DISK_GB[1]


def _is_smaller(value: object, least_gb: object) -> bool:
    """Return whether a number is smaller than the size of a disk."""
    return type(value) is int and is_disk(least_gb) and value < least_gb


def _small_disk(raw: Mapping[str, Any]) -> Iterator[Problem]:
    builder, machine = (raw.get(key, {}) for key in ("builder", "machine"))
    if not (isinstance(builder, dict) and isinstance(machine, dict)):
        return
    built, wanted = builder.get("disk_gb", 10), machine.get("disk_gb", 10)
    if _is_smaller(wanted, built):
        yield Problem(("machine", "disk_gb"), f"is {wanted}, smaller than the image's {built} GB (write {built} or more)")


def _bad_launch(raw: Mapping[str, Any], steps: Tables) -> Iterator[Problem]:
    launch, machine = (raw.get(key, {}) for key in ("launch", "machine"))
    if not (isinstance(launch, dict) and isinstance(machine, dict)):
        return
    least, wanted = machine.get("disk_gb", 10), launch.get("disk_gb")
    if _is_smaller(wanted, least):
        yield Problem(("launch", "disk_gb"), f"is {wanted}, smaller than machine.disk_gb, {least} (write {least} or more)")
    if launch.get("port") == SSH_PORT:
        yield Problem(("launch", "port"), f"is {SSH_PORT}, the port of SSH inside the machine (write another one, such as 8443)")
    has_notebook = any("notebook" in step for _at, step in steps)
    for key in ("https", "port"):
        if launch.get(key) and not has_notebook:
            yield Problem(("launch", key), "needs a notebook (add a `notebook` step, or remove the key)")


def _bad_allowances(raw: Mapping[str, Any]) -> Iterator[Problem]:
    seal = raw.get("seal")
    for at, entry in _tables(seal, "allow") if isinstance(seal, dict) else ():
        key = ("seal", "allow", at)
        if "path" not in entry and "fingerprint" not in entry:
            yield Problem(key, "allows nothing (write a path, or the fingerprint that the bake has printed)")
        path = entry.get("path")
        if isinstance(path, str) and path.rstrip("/").count("/") < 2 and path.startswith("/"):
            yield Problem((*key, "path"), f"is {show(path)}, a whole top folder (write the path of a file, or of a folder in it)")
