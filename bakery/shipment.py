"""Decide whether a cloud accepts a bake's script and files at boot, or they are sent to the builder over SSH.

An image's digest and the keys of its layers do not depend on the way.
"""

from __future__ import annotations

import zlib
from base64 import encodebytes
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bakery.recipe.archive import Archive
from bakery.script.render import Script, measure_bytes
from clouds.capabilities import KeepsLayers
from clouds.driver import Cloud, Limits

SCRIPT = "script"
"""The name of the script among the files that are sent."""
MB = 1_000_000
CONNECT_S = 120
"""How long it may take until a builder's SSH server answers and the last file is confirmed; multiplied by the cloud's slowness."""
SLOWEST_BYTES_PER_S = 250_000
"""The slowest connection that a bake waits for: 2 Mbit/s. An emulated builder receives faster than that, so no slowness."""
_NONCE = "0123456789abcdef" * 2
"""Stands for the nonce of a bake while its script is measured."""
_VARIES_BYTES = 64
"""By how much the compressed size of a script may differ with its nonce."""
_GZIP = 31
"""zlib's wbits for the format of gzip; its header then holds no time."""


class _TooLargeError(Exception):
    """An archive is larger than a limit."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """What is sent to a builder over SSH: its script, and the archives of the steps that it is to run."""

    script: str
    archives: tuple[Archive, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The size of each file in bytes, by the name that it gets on the builder."""
        return {file_name(archive): archive.size_bytes for archive in self.archives} | {SCRIPT: len(self.script.encode())}


def file_name(archive: Archive) -> str:
    """Return the name of an archive on the builder (see `unpack` in templates/frame/lib.sh.j2)."""
    return f"{archive.sha256}.tar"


def archives_for(cloud: Cloud, script: Script, done: int) -> tuple[Archive, ...]:
    """Return the archives that a script needs that starts behind `done` checkpoints.

    A builder that waits at each checkpoint gets those of the next step alone: its disk there becomes a layer.
    """
    if isinstance(cloud, KeepsLayers):
        return script.archives(done, done + 1)
    return script.archives(done)


def carry(archives: Iterable[Archive], limits: Limits) -> dict[str, str] | None:
    """Return archives as a script carries them, by digest; None: they are larger than the largest script."""
    carried = {}
    for archive in archives:
        try:
            carried[archive.sha256] = _pack(archive, limits.script_bytes)
        except _TooLargeError:
            return None
    return carried


def fits(text: str, limits: Limits, *, spare_bytes: int = 0) -> bool:
    """Say whether a cloud takes a script, and one that is so much larger."""
    return not limits.script_bytes or measure_bytes(text, limits) + spare_bytes <= limits.script_bytes


def sent_bytes(cloud: Cloud, script: Script, *, deadline_s: int) -> int:
    """Return how much a bake from its base sends over SSH, in bytes: the most at once, if it sends several times; 0: nothing."""
    boots = range(len(script.checkpoints)) if isinstance(cloud, KeepsLayers) else (0,)
    return max(_sent_bytes(cloud, script, done, deadline_s) for done in boots)


def _sent_bytes(cloud: Cloud, script: Script, done: int, deadline_s: int) -> int:
    archives, limits = archives_for(cloud, script, done), cloud.limits
    carried = carry(archives, limits)
    longest = len(script.checkpoints)  # as a number of checkpoints that are done

    def text(carried: Mapping[str, str]) -> str:
        return script.for_boot(_NONCE, deadline_s=deadline_s, done=longest, carried=carried)

    if carried is not None and fits(text(carried), limits, spare_bytes=_VARIES_BYTES if limits.compresses_script else 0):
        return 0
    return sum(Shipment(text({}), archives).sizes.values())


def transfer_s(cloud: Cloud, size_bytes: int) -> float:
    """Return how long it may take to send so much over SSH, in seconds; 0 for nothing."""
    return CONNECT_S * cloud.slowness + size_bytes / SLOWEST_BYTES_PER_S if size_bytes else 0.0


def described(cloud: Cloud, size_bytes: int, *, no_public_ip: bool = False) -> str:
    """Return one line that says that so much is sent over SSH, and why; with `no_public_ip` also from where alone that works."""
    limits = cloud.limits
    kib = limits.script_bytes / 1024
    limit = f"{kib:.4g} KiB" if kib < 1024 else f"{kib / 1024:.4g} MiB"
    limit += " compressed" if limits.compresses_script else ""
    line = f"script and files ({size_bytes / MB:.1f} MB) are sent to the builder over SSH: {cloud.name} accepts {limit} at boot"
    inside = "; to its internal address, so run this command inside its network, and set `source` to your address there"
    return line + (inside if no_public_ip else "")


def _pack(archive: Archive, limit_bytes: int) -> str:
    """Return an archive as gzip in lines of base64. _TooLargeError: it is larger than the limit (0: none)."""
    compressor, packed = zlib.compressobj(9, zlib.DEFLATED, _GZIP), bytearray()

    def keep(piece: bytes) -> None:
        packed.extend(piece)
        if limit_bytes and len(packed) > limit_bytes:
            raise _TooLargeError

    archive.write(lambda piece: keep(compressor.compress(piece)))
    keep(compressor.flush())
    return encodebytes(bytes(packed)).decode()
