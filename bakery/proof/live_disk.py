"""Read an image's files from inside a machine launched from it, for clouds whose disks cannot be read from outside.

Files that the machine has created or changed since it was started, such as its identity, are left out.
"""

from __future__ import annotations

import base64
import io
import tarfile
import zlib
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
    """The files of a running machine that were on its disk before it was started (a `clouds.capabilities.DiskFiles`).

    `config` is the ssh config that the launch of the machine has written.
    """

    cloud: Cloud
    machine: str
    config: Path

    def list(self) -> Mapping[str, int]:
        """Return the size in bytes of every regular file, by absolute path."""
        return self._listed

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        """Return up to `limit_bytes` of each of these files, by path, in one pass; paths that do not exist are left out."""
        wanted = "\0".join(path for path in paths if path in self._listed)
        if not wanted:
            return {}
        archive = self._run("read-files", base64.b64encode(wanted.encode(errors="surrogateescape")).decode())
        try:
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                members = ((member, tar.extractfile(member)) for member in tar if member.isfile())
                return {member.name: content.read(limit_bytes) for member, content in members if content}
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise CloudError(f"cannot read the files of machine {self.machine!r}: {error}", next_step="Bake again.") from error

    @cached_property
    def _listed(self) -> dict[str, int]:
        lines = self._run("list-files", "").decode(errors="surrogateescape").split("\0")
        pairs = (line.split(" ", 1) for line in lines if line)
        return {path: int(size) for size, path in pairs}

    def _run(self, script: str, stdin: str) -> bytes:
        text = (_SCRIPTS / script).read_text(encoding="utf-8")
        words = ["sudo", "--non-interactive", "sh", "-c", text]
        done = ssh.run(self.cloud, self.machine, words, stdin=stdin, timeout_s=_READ_S, config=self.config)
        if done.returncode:
            raise CloudError(f"cannot read the files of machine {self.machine!r}: {done.stderr.strip()}", next_step="Bake again.")
        return base64.b64decode(done.stdout)
