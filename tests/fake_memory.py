"""The fake cloud as one whose images carry the memory of a machine: a restored one goes on at once, or as it is told to."""

from __future__ import annotations

from clouds.driver import BootSpec, Endpoint, Kind, State, Ticket
from clouds.errors import InvalidError, RestoreError
from tests.fake_cloud import now
from tests.fake_guest import marker, play, report_of_tls
from tests.fake_remote import SuspendingCloud
from tests.fake_world import Machine, World

MEMORY_BYTES = 77_000_000
NOBODY = Endpoint("127.0.0.1", 9)
"""Where nothing answers."""

AWAKENINGS = ("well", "refused", "half", "late", "mute", "dead")
"""How a restored machine comes to itself: well; not at all, told at once or when its ticket is asked after; never; with
services that never answer; or it goes off."""


class MemoryCloud(SuspendingCloud):
    """A client of a `World` that keeps memory; `awakening` is how the machines that are restored come to themselves."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.awakening = "well"
        self._mute: set[str] = set()

    def freeze(self, machine: str, image: str) -> Ticket:
        with self._operation("freeze", image):
            found = self._machine(machine)
            if not (found.spec.freezes and found.state is State.RUNNING and found.spec.source == image):
                raise InvalidError(f"machine {machine}: does not wait to be frozen for {image}")
            self._image(image).memory_of = found.spec
            found.state = State.STOPPED
            return Ticket("freeze", Kind.IMAGE, image)

    def unfit(self, spec: BootSpec) -> str:
        with self._operation("unfit", spec.source):
            memory_of = self._image(spec.source).memory_of
            if memory_of is None:
                return "its image has no memory"
            if spec.cpus != memory_of.cpus:
                return f"{spec.cpus} processors, and its memory was frozen with {memory_of.cpus}"
            if spec.memory_mb != memory_of.memory_mb:
                return f"{spec.memory_mb} MB, and its memory was frozen with {memory_of.memory_mb}"
            return ""

    def restore(self, spec: BootSpec) -> Ticket:
        with self._operation("restore", spec.name):
            if not self._is_there(spec):
                self.world.machines[spec.name] = self._gone_on(spec)
            if self.awakening == "refused":
                raise _not_awake(spec.name)
            return Ticket("restore", Kind.MACHINE, spec.name)

    def check(self, ticket: Ticket) -> bool:
        is_done = super().check(ticket)
        if ticket.verb == "restore" and self.awakening == "half":
            raise _not_awake(ticket.name)
        return is_done and not (ticket.verb == "restore" and self.awakening == "late")

    def memory_bytes(self, image: str) -> int:
        with self._operation("memory_bytes", image):
            return MEMORY_BYTES if self._image(image).memory_of else 0

    def address(self, machine: str, port: int) -> Endpoint:
        found = super().address(machine, port)
        return NOBODY if self._machine(machine).spec.token in self._mute else found

    def _gone_on(self, spec: BootSpec) -> Machine:
        """Return a machine that has booted nothing: its console shows what its script tells, and no more."""
        machine = Machine(spec, dict(spec.labels), dict(spec.facts), self._source_disk(spec.source), now())
        if self.awakening in ("mute", "dead"):
            self._mute.add(spec.token)
        if self.awakening == "dead":
            machine.state = State.STOPPED
        elif spec.script:
            played = play(self.world.guest_of(spec.name), name=spec.name, script=spec.script, facts={})
            machine.console = played.console.split("\r\n", 2)[2].encode()  # less the two lines of a boot
            machine.state = State.RUNNING if played.is_on else State.STOPPED
        elif "HTTPS_PORT" in spec.facts:
            machine.console = f"{report_of_tls(spec.facts['NONCE'])}\r\n".encode()
        return machine

    def _run_guest(self, name: str) -> None:
        """Boot a guest; one that is to be frozen is nobody, and says that it waits once its services are up."""
        machine = self.world.machines[name]
        if not machine.spec.freezes:
            return super()._run_guest(name)
        guest = self.world.guest_of(name)
        played = play(guest, name=name, script="", facts={})
        machine.console = played.console.encode()
        if guest.ending == "ok":
            machine.console += (marker(machine.facts["NONCE"], "fact ready memory") + "\r\n").encode()
        machine.state = State.RUNNING if played.is_on else State.STOPPED
        return None


def _not_awake(machine: str) -> RestoreError:
    return RestoreError(f"machine {machine}: has not come to itself")
