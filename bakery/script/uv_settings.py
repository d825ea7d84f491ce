"""A user's settings of uv: refuse those that leave packages out, and recognize when those that choose versions change.

Settings of the output's form have no effect, since uv writes pylock.toml (see `bakery.script.pins`) and options override the rest.
Names: docs.astral.sh/uv/reference/settings and docs.astral.sh/uv/reference/environment
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bakery.recipe.credentials import CREDENTIALS
from clouds.errors import UsageError

_CHOOSING = (
    *("constraint-dependencies", "override-dependencies", "build-constraint-dependencies", "dependency-metadata"),
    *("index", "index-url", "extra-index-url", "no-index", "find-links", "index-strategy", "torch-backend"),
    *("prerelease", "prerelease-package", "resolution", "fork-strategy", "exclude-newer", "exclude-newer-package"),
    *("no-binary", "no-binary-package", "only-binary", "no-build", "no-build-package", "no-sources", "no-sources-package"),
)
"""The settings of uv.toml that choose versions and files, at its top or in [pip]."""
_INDEX_KEYS = ("name", "url", "default", "explicit", "format")
"""What chooses in a table [[index]]; others may hold credentials."""
_CHOOSING_VARIABLES = (
    *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_INDEX_STRATEGY"),
    *("UV_PRERELEASE", "UV_PRERELEASE_PACKAGE", "UV_RESOLUTION", "UV_FORK_STRATEGY", "UV_TORCH_BACKEND", "UV_NO_SOURCES"),
    *("UV_EXCLUDE_NEWER", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE", "UV_NO_BUILD", "UV_NO_BUILD_PACKAGE"),
)
_FILES = ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")
"""Variables with paths or URLs of requirement files, separated by spaces."""
_ELSEWHERE = ("UV_WORKING_DIR", "UV_WORKING_DIRECTORY", "UV_PROJECT")
"""Variables with the folder in which uv runs."""


def check(environ: Mapping[str, str]) -> None:
    """Raise UsageError if a setting leaves packages out of the result."""
    for file, settings in _files(environ):
        pip = _table(settings.get("pip"))
        found = {f"pip.{key}": pip.get(key) for key in ("no-deps", "no-emit-package", "exclude-dependencies")}
        found["exclude-dependencies"] = settings.get("exclude-dependencies")
        for name, value in found.items():
            if value:
                what = ", ".join(map(str, value)) if isinstance(value, list) else "the dependencies of packages"
                raise UsageError(
                    f"{file}: {name}: omits {what} from every image (remove it)",
                    next_step="Or resolve without your uv settings: UV_NO_CONFIG=1",
                )
    if environ.get("UV_EXCLUDE"):
        raise UsageError(f"UV_EXCLUDE={environ['UV_EXCLUDE']}: omits packages from every image", next_step="unset UV_EXCLUDE")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for uv in another folder: the same variables, with absolute paths."""
    found = {key: value for key, value in environ.items() if key not in _ELSEWHERE}
    for key in (*_FILES, "UV_CONFIG_FILE"):
        if found.get(key):
            found[key] = " ".join(_paths(found, key))
    return found


def constraints(environ: Mapping[str, str]) -> list[str]:
    """Return the user's files of constraints, which uv ignores if an option names others."""
    return _paths(environ, "UV_CONSTRAINT")


def fingerprint(environ: Mapping[str, str]) -> str:
    """Return a digest of the settings that choose versions; "" if none is set. Passwords in URLs do not count."""
    files = [{**_choosing(settings), "pip": _choosing(_table(settings.get("pip")))} for _, settings in _files(environ)]
    variables = {key: environ[key] for key in _CHOOSING_VARIABLES if environ.get(key)}
    texts = {key: [_read(path) for path in _paths(environ, key)] for key in _FILES if environ.get(key)}
    found = [[file for file in files if file != {"pip": {}}], variables, texts]
    if not any(found):
        return ""
    text = json.dumps(found, sort_keys=True, default=str)
    return hashlib.sha256(re.sub(CREDENTIALS, "//", text).encode()).hexdigest()


def indexes(environ: Mapping[str, str]) -> set[str]:
    """Return the URLs that the user's settings name (indexes, and others), without credentials and final slashes."""
    files = [[_choosing(settings), _choosing(_table(settings.get("pip")))] for _, settings in _files(environ)]
    text = json.dumps([files, {key: environ.get(key, "") for key in _CHOOSING_VARIABLES}], default=str)
    return {url.rstrip("/") for url in re.findall(r"https?://[^\s\"'\\]+", re.sub(CREDENTIALS, "//", text))}


def _files(environ: Mapping[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each uv.toml in effect (docs.astral.sh/uv/concepts/configuration-files), unless invalid: uv itself reports that."""
    if environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    own = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    shared = [Path(folder) for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    named = environ.get("UV_CONFIG_FILE")
    for file in [Path(named)] if named else [folder / "uv/uv.toml" for folder in (own, *shared, Path("/etc"))]:
        try:
            yield file, tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue


def _choosing(settings: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: settings[key] for key in _CHOOSING if key in settings}
    if isinstance(found.get("index"), list):
        found["index"] = [{key: _table(index).get(key) for key in _INDEX_KEYS} for index in found["index"]]
    return found


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _paths(environ: Mapping[str, str], key: str) -> list[str]:
    """Return absolute paths; URLs are unchanged."""
    return [word if "://" in word else str(Path(word).absolute()) for word in environ.get(key, "").split()]


def _read(path: str) -> str:
    """Return the text of a file; of a URL, which uv reads, the URL."""
    try:
        return path if "://" in path else Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # uv reports it
