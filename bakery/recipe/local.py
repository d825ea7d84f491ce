"""Python packages beside a recipe: wheels, source archives, and folders with a pyproject.toml or setup.py."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from bakery.recipe.archive import FILE_MAX_BYTES, MIB, TOTAL_MAX_BYTES, Found, find, sizes_bytes

ARCHIVES = (".whl", ".tar.gz", ".zip")
"""How the names of packed packages end that uv installs (docs.astral.sh/uv/concepts/resolution)."""
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_OMITTED_NAMES = frozenset(
    (
        *(".git", ".hg", ".svn", ".venv", ".env", ".netrc", ".tox", ".nox", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *("__pycache__", "__pypackages__", ".ipynb_checkpoints", "node_modules", ".DS_Store"),
    )
)
_OMITTED_ENDINGS = (".egg-info", ".pyc")
_DYNAMIC = {"dependencies", "optional-dependencies"}


def find_package(folder: Path, source: str, recipe: str) -> list[Found] | str:
    """Return a packed package, or the files of a folder as they are installed; or why not, as `what (what to write instead)`.

    A folder is taken without version control, virtual environments, caches, `.env`, and the file of the recipe itself.
    """
    top = folder / source
    if not top.is_dir():
        found = find(folder, source)
        if isinstance(found, str):
            return found
        return found if source.endswith(ARCHIVES) else f"is not a package (write a folder, or a file that ends with {_ENDINGS})"
    if not top.resolve().is_relative_to(folder.resolve()):
        return "is outside the recipe's folder (copy it there)"
    if not any((top / name).is_file() for name in _PROJECT_FILES[:2]):
        return "is a folder without pyproject.toml and setup.py (write the folder of a Python project)"
    try:
        paths = sorted(_walk(top, folder / f"{recipe}.toml"))
    except OSError as error:
        return f"cannot be read: {error.strerror} (write another path)"
    odd = [path for path in paths if path.is_symlink() or not (path.is_file() or path.is_dir())]
    if odd:
        return f"contains {odd[0].name!r}, which is neither a file nor a folder (put the file itself there)"
    return [Found(path, PurePosixPath(path.relative_to(top).as_posix())) for path in (top, *paths)]


_ENDINGS = ", ".join(ARCHIVES)


def _walk(top: Path, recipe: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(top, onerror=_raise):
        at = Path(parent)
        folders[:] = [name for name in folders if not is_omitted(at / name)]
        yield from (at / name for name in (*folders, *files) if not is_omitted(at / name) and at / name != recipe)


def _raise(error: OSError) -> None:
    raise error


def is_omitted(path: Path) -> bool:
    """Return whether a file or folder of a project is left out of what is installed."""
    return path.name in _OMITTED_NAMES or path.name.endswith(_OMITTED_ENDINGS) or (path / "pyvenv.cfg").exists()


def too_large(found: Iterable[Found]) -> str:
    """Return why files are too large to be sent to a builder, as `what (what to write instead)`; "" if they are not."""
    sizes = sizes_bytes(found)
    for path, size_bytes in sizes.items():
        if size_bytes > FILE_MAX_BYTES:
            return f"{path.name}: {size_bytes / MIB:.1f} MiB; a file may have {FILE_MAX_BYTES // MIB} MiB (move it elsewhere)"
    if sum(sizes.values()) > TOTAL_MAX_BYTES:
        return f"has {sum(sizes.values()) / MIB:.1f} MiB; {TOTAL_MAX_BYTES // MIB} MiB are possible (move data elsewhere)"
    return ""


def requirements_digest(found: Iterable[Found]) -> str:
    """Return a digest of what decides which other packages a local package needs.

    That is the whole content, or for a folder whose pyproject.toml lists its dependencies, that file alone.
    """
    files = [one for one in found if one.path.is_file()]
    described = [one for one in files if str(one.below) == "pyproject.toml"]
    if described and _is_static(described[0].path):
        files = described
    digest = hashlib.sha256()
    for one in files:
        with one.path.open("rb") as file:
            digest.update(f"{one.below}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def _is_static(pyproject: Path) -> bool:
    """Return whether the dependencies stand in a pyproject.toml (packaging.python.org/en/latest/specifications/pyproject-toml)."""
    project = read_toml(pyproject).get("project")
    dynamic = project.get("dynamic") if isinstance(project, dict) else None
    return isinstance(project, dict) and not (isinstance(dynamic, list) and _DYNAMIC & set(map(str, dynamic)))


def name_of(path: Path) -> str:
    """Return the normalized name of a package beside a recipe, as far as its file name or its pyproject.toml tells."""
    project = read_toml(path / "pyproject.toml").get("project") if path.is_dir() else None
    if isinstance(project, dict):
        return str(canonicalize_name(str(project.get("name", ""))))
    try:
        return str(parse_wheel_filename(path.name)[0])
    except InvalidWheelFilename:
        return ""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; nothing if it is not valid: uv reports that."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def stage(found: Iterable[Found], target: Path) -> None:
    """Make a copy of a folder in which each file is a link, so that a build sees and writes what a builder's build would."""
    for one in found:
        place = target / one.below
        if one.path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.symlink_to(one.path.resolve())
