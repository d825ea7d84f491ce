"""The files that an image had, read from inside a machine that was launched from it: for clouds whose disks nobody else can read.

What the machine has made or changed since it was switched on, its identity above all, is not the image's and is left out.
"""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clouds.driver import Cloud
from clouds.errors import CloudError
from launcher.access import ssh

_READ_S = 120
_SCRIPTS = Path(__file__).parents[2] / "templates" / "inside"


@dataclass(frozen=True)
class MachineFiles:
    """The files of a running machine that were on its disk before it was switched on (a `clouds.capabilities.DiskFiles`)."""

    cloud: Cloud
    machine: str

    def list(self) -> Mapping[str, int]:
        """Return the size in bytes of every regular file, by absolute path."""
        return self._listed

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        """Return the start of each of these files, by path, in one pass; a path without a file is left out."""
        wanted = "\0".join(path for path in paths if path in self._listed)
        if not wanted:
            return {}
        archive = self._run("read-files", base64.b64encode(wanted.encode(errors="surrogateescape")).decode())
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            members = ((member, tar.extractfile(member)) for member in tar if member.isfile())
            return {member.name: content.read(limit_bytes) for member, content in members if content}

    @cached_property
    def _listed(self) -> dict[str, int]:
        lines = self._run("list-files", "").decode(errors="surrogateescape").split("\0")
        pairs = (line.split(" ", 1) for line in lines if line)
        return {path: int(size) for size, path in pairs}

    def _run(self, script: str, stdin: str) -> bytes:
        text = (_SCRIPTS / script).read_text(encoding="utf-8")
        done = ssh.run(self.cloud, self.machine, ["sudo", "--non-interactive", "sh", "-c", text], stdin=stdin, timeout_s=_READ_S)
        if done.returncode:
            raise CloudError(f"machine {self.machine}: its files could not be read: {done.stderr.strip()}", next_step="Bake again.")
        return base64.b64decode(done.stdout)
