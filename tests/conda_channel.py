"""Conda packages that tests make, in a channel that a server on loopback gives out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; give its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def publish(
    channel: Path,
    name: str,
    version: str,
    *,
    subdir: str = "noarch",
    noarch: str = "generic",
    depends: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    has_prefix: Sequence[str] = (),
) -> Path:
    """Add a package to a channel: executable files and links by path; those in `has_prefix` contain /placeholder for the prefix."""
    folder, texts, targets = channel / subdir, files or {}, links or {}
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, object] = {"name": name, "version": version, "build": "0", "build_number": 0}
    index |= {"depends": list(depends), "subdir": subdir}
    if subdir == "noarch":
        index["noarch"] = noarch
    prefix = {"prefix_placeholder": "/placeholder", "file_mode": "text"}
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": _sha256(text.encode()), "size_in_bytes": len(text)}
        | (prefix if path in has_prefix else {})
        for path, text in texts.items()
    ]
    paths += [{"_path": path, "path_type": "softlink"} for path in targets]
    info = {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in (*texts, *targets)),
    }
    if noarch == "python":
        info["info/link.json"] = json.dumps({"noarch": {"type": "python"}, "package_metadata_version": 1})
    file = folder / f"{name}-{version}-0.tar.bz2"
    with tarfile.open(file, "w:bz2") as packed:
        for path, text in (texts | info).items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755
            packed.addfile(entry, io.BytesIO(text.encode()))
        for path, target in targets.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            packed.addfile(entry)
    listing = folder / "repodata.json"
    known = json.loads(listing.read_text()) if listing.exists() else {"info": {"subdir": subdir}, "packages": {}}
    known["packages"][file.name] = index | {"sha256": _sha256(file.read_bytes()), "size": file.stat().st_size}
    before_s = listing.stat().st_mtime if listing.exists() else 0
    listing.write_text(json.dumps(known))
    if listing.stat().st_mtime < before_s + 1:  # the server tells whole seconds
        os.utime(listing, (before_s + 1, before_s + 1))
    return file


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
