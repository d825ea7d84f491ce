"""Identify files that anybody can download, which contain no secret of the user: those of packages and toolchains.

They are full of keys for tests and of examples. A file counts if a package lists it as its own; under /etc and in homes, which are
for the user to change, only if a Debian package has installed it with this content. Of Python packages it counts as long as it
has its size. Other files in the folders of packages are searched.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from posixpath import normpath

from clouds.capabilities import DiskFiles

_BATCH_BYTES = 16 * 1024 * 1024
"""How much is read at a time: it is held in memory, and takes a minute from a remote machine at 2 Mbit/s."""
_LIST_BYTES_MAX = 32 * 1024 * 1024
_DPKG_STATUS = "/var/lib/dpkg/status"
_CONFFILE = re.compile(r"^ (/\S.*) ([0-9a-f]{32})(?: obsolete)?(?: remove-on-upgrade)?$", re.MULTILINE)
"""A line of `Conffiles:` in dpkg's status file: a path and the MD5 sum of the file as installed (dpkg-query(1))."""
_CHANGED_BY_USERS = re.compile(r"/(etc|home|root)/.*")
_DPKG_LIST = re.compile(r"/var/lib/dpkg/info/[^/]+\.list")
_RECORD = re.compile(r".*/[^/]+\.dist-info/RECORD")
_CONDA = re.compile(r"(.*)/conda-meta/[^/]+\.json")
_TOOLCHAINS = ("/src/cmd/go/main.go", "/lib/googlecloudsdk/gcloud_main.py")
"""A file of Go and of the Google Cloud CLI, below the folder into which their archives are unpacked."""
_TOO_WIDE = re.compile(r"/|/[^/]+/|/(home|usr)/[^/]+/")
"""Folders that contain more than a toolchain, even if someone has unpacked one there."""
_FOLDERS = re.compile(
    r".*/(node_modules|share/doc|share/ca-certificates|go/pkg/mod|\.cargo/registry|\.rustup/toolchains|gems/[^/]+/gems"
    r"|site-library|R/library|R/[^/]+-library|renv/(library|cache)|share/julia|\.julia/(packages|artifacts)"
    r"|share/perl5?/[0-9.]+|python3\.\d+/test)/.*"
)
"""Folders of npm, Go, Rust, Ruby, R, Julia, Perl and Python's own tests: only package managers and installers write there, and they
list no files with their sizes."""


def not_published(files: DiskFiles, paths: Iterable[str]) -> list[str]:
    """Return the paths that no package or toolchain accounts for, in the same order."""
    sizes = files.list()
    owned = _listed(files, sizes)
    roots = tuple({root for path in sizes for root in _roots(path)})
    return [path for path in paths if path not in owned and not _is_of_toolchain(path, roots)]


def installed_settings(files: DiskFiles) -> Mapping[str, str]:
    """Return the MD5 sum of each configuration file of a Debian package, by path, as installed."""
    status = files.read([_DPKG_STATUS], _LIST_BYTES_MAX).get(_DPKG_STATUS, b"")
    return dict(_CONFFILE.findall(status.decode(errors="surrogateescape")))


def is_as_installed(content: bytes, installed: str | None) -> bool:
    """Return whether a file has the content with which a package has installed it; `installed` is its MD5 sum."""
    return installed is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() == installed


def batches(paths: Iterable[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield paths in groups that are small enough to be read at once."""
    batch, total_bytes = list[str](), 0
    for path in paths:
        if batch and total_bytes + sizes[path] > _BATCH_BYTES:
            yield batch
            batch, total_bytes = [], 0
        batch.append(path)
        total_bytes += sizes[path]
    if batch:
        yield batch


def _roots(path: str) -> Iterator[str]:
    """Yield the folder with a toolchain or with conda's downloads to which a file shows the way."""
    found = [f"{path.removesuffix(end)}/" for end in _TOOLCHAINS if path.endswith(end)]
    if conda := _CONDA.fullmatch(path):
        found.append(f"{conda[1]}/pkgs/")
    yield from (root for root in found if not _TOO_WIDE.fullmatch(root))


def _is_of_toolchain(path: str, roots: tuple[str, ...]) -> bool:
    """Return whether a file belongs to a toolchain; not its dot files, since people put their own settings there (.env, .npmrc)."""
    is_dotted = PurePosixPath(path).name.startswith(".")
    return _is_compiled(path) or (not is_dotted and (path.startswith(roots) or _FOLDERS.fullmatch(path) is not None))


def _is_compiled(path: str) -> bool:
    """Return whether a file is Python's compiled form of another, which is searched itself."""
    return path.endswith(".pyc") and PurePosixPath(path).parent.name == "__pycache__"


def _listed(files: DiskFiles, sizes: Mapping[str, int]) -> set[str]:
    """Return the files that Debian, Python and conda packages list as their own."""
    lists = [path for path in sizes if _is_list(path, sizes)]
    owned = set(lists)
    for batch in batches(lists, sizes):
        for path, content in files.read(batch, _LIST_BYTES_MAX).items():
            owned.update(_of_package(path, content.decode(errors="surrogateescape"), sizes))
    return owned


def _is_list(path: str, sizes: Mapping[str, int]) -> bool:
    """Return whether a file lists those of a package.

    A wheel with a direct_url.json (packaging.python.org: direct URL origin) is from no index: it may be the user's own.
    """
    if _RECORD.fullmatch(path):
        return f"{PurePosixPath(path).parent}/direct_url.json" not in sizes
    return any(form.fullmatch(path) for form in (_DPKG_LIST, _CONDA))


def _of_package(path: str, text: str, sizes: Mapping[str, int]) -> Iterable[str]:
    if _RECORD.fullmatch(path):
        return _of_wheel(path, text.splitlines(), sizes)
    if conda := _CONDA.fullmatch(path):
        return _of_conda(conda[1], text)
    return (line for line in text.splitlines() if not _CHANGED_BY_USERS.fullmatch(line))


def _of_wheel(record: str, lines: Sequence[str], sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield the files of a wheel that have the size given by its RECORD (packaging.python.org: binary distribution format)."""
    folder = PurePosixPath(record).parent.parent
    for row in csv.reader(lines):
        path = normpath(folder / row[0]) if row else ""
        if len(row) == 3 and (not row[2] or sizes.get(path) == int(row[2] if row[2].isdecimal() else -1)):
            yield path


def _of_conda(prefix: str, text: str) -> Iterator[str]:
    """Yield the files of a conda package; its record lists them relative to the environment."""
    try:
        listed = json.loads(text)["files"]
    except (ValueError, KeyError, TypeError):
        return
    for path in listed if isinstance(listed, list) else []:
        yield normpath(f"{prefix}/{path}")
