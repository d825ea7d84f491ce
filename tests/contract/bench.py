"""What the contract's tests do with a cloud: order small machines, run them until they have told so, remove all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clouds import markers, names
from clouds.driver import START, Base, BootSpec, Cloud, Kind, Position
from clouds.lifecycle import await_seen, is_running, settle
from clouds.waiter import until

CHECKPOINTS = ("boot", "written")
"""What guest.sh tells of."""

IDENTITY = Path(__file__).parents[2] / "templates/machine/identity.py.j2"
BOOT_S = 120
"""How long a machine may take until its script has run; multiplied by the cloud's slowness."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A cloud under test; everything that is made on it carries `labels` and is removed at the end."""

    cloud: Cloud
    labels: dict[str, str]

    def spec(self, source: str = "", *, nonce: str = "") -> BootSpec:
        """Return an order for a small machine of a fresh name, from the base unless told otherwise."""
        base = self.cloud.resolve_base(Base("trixie", "amd64"))
        return BootSpec(
            name=names.new_machine_name("contract"),
            token=names.new_nonce(),
            source=source or base.id,
            cpus=1,
            memory_mb=1024,
            disk_gb=max(4, base.disk_gb),
            labels=self.labels,
            deadline_s=int(10 * BOOT_S * self.cloud.slowness),
            script=script_for(nonce) if nonce else "",
            ports=(22,),
        )

    def boot(self, spec: BootSpec) -> None:
        """Boot a machine and wait until its cloud finds it."""
        settle(self.cloud, self.cloud.boot(spec))
        assert await_seen(self.cloud, Kind.MACHINE, spec.name)

    def snapshot(self, machine: str, image: str, *, version: str) -> None:
        """Make an image of a stopped machine and wait until its cloud finds it."""
        settle(self.cloud, self.cloud.snapshot(machine, image, {**self.labels, "version": version}), timeout_s=300)
        assert await_seen(self.cloud, Kind.IMAGE, image)

    def run(self, spec: BootSpec, nonce: str) -> None:
        """Boot a machine and wait until its script has told so."""
        self.boot(spec)
        self.await_script(spec.name, nonce)

    def await_script(
        self, machine: str, nonce: str, *, since: Position = START, checkpoints: tuple[str, ...] = CHECKPOINTS
    ) -> None:
        """Wait until a machine's console has shown all markers of a boot."""

        def is_done() -> bool:
            text = self.cloud.console(machine, since).text
            found = [markers.parse(line, nonce) for line in markers.split_lines("", text)[0]]
            assert is_running(self.cloud, machine), text[-2000:]
            return markers.advance(markers.Progress(checkpoints), [marker for marker in found if marker]).done

        until(is_done, what=f"script of {machine}", timeout_s=BOOT_S * self.cloud.slowness, poll_s=0.5)

    def remove_all(self) -> None:
        """Remove everything that was made, machines first."""
        for found in sorted(self.cloud.owned(self.labels), key=lambda found: found.kind is not Kind.MACHINE):
            settle(self.cloud, self.cloud.delete(found.kind, found.name))


def script_for(nonce: str) -> str:
    """Return the script of the contract's machines, filled for one boot."""
    text = Path(__file__).with_name("guest.sh").read_text(encoding="utf-8")
    text = text.replace("@IDENTITY@", IDENTITY.read_text(encoding="utf-8"))
    return text.replace("@NONCE_A@", nonce[:16]).replace("@NONCE_B@", nonce[16:])
