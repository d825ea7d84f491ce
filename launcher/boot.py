"""Watch the boot of a machine: read its identity from the console, wait for its services, and detect at once if it fails."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from clouds import markers
from clouds.driver import START, BootSpec, Cloud, Endpoint, Kind, Position, Tell
from clouds.errors import BakehouseError, CloudError, GuestError, KernelPanicError, NotFoundError, TimedOutError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine, is_running, remove
from clouds.names import new_nonce
from clouds.undo import Undo
from clouds.waiter import until
from launcher.clean import clean

IDENTITY_S = 90
"""How long a machine may take from power-on until it reports its host key, in seconds; multiplied by the cloud's slowness."""
ANSWER_S = 60
"""How long its services may take after that, in seconds; multiplied as well."""
QUICK_S, POLL_S = 0.02, 0.2
"""The first and the longest interval between polls, in seconds. Where requests count against a quota, POLL_S is the first one."""
TAIL_LINES = 40
NOTEBOOK_FAILED = "its Jupyter fails whenever it starts; its last lines are below"


@dataclass(slots=True)
class Boot:
    """The state of a boot as read from the console: its reported `facts`; `ended` is the reason why it failed, else ""."""

    cloud: Cloud
    machine: str
    nonce: str
    at: Position = START
    is_spot: bool = False
    answer_s: float = ANSWER_S
    facts: dict[str, str] = field(default_factory=dict)
    has_spoken: bool = False
    ended: str = ""
    has_panicked: bool = False
    last: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _rest: str = ""

    @property
    def host_key(self) -> str:
        """Its SSH host key, such as `ssh-ed25519 AAAA`; "" until it is reported."""
        return self.facts.get("host-key", "")

    @property
    def certificate(self) -> str:
        """The SHA-256 fingerprint of the certificate of its reverse proxy; "" until it is reported, and without TLS."""
        return self.facts.get("certificate", "")

    def poll(self) -> bool:
        """Read new console output, and return whether the machine has ended.

        If there is none, check whether the machine is running; if it is not, read what it wrote before it powered off.
        """
        try:
            if not self._read() and not is_running(self.cloud, self.machine) and not self._read():
                self.ended = self.ended or "it powered off while it was starting"
        except NotFoundError:
            self.ended = self.ended or "it was deleted while it was starting"
        return bool(self.ended)

    def _read(self) -> bool:
        """Read new console output, and return whether there was any."""
        piece = self.cloud.console(self.machine, self.at)
        before, self.at = self.at, piece.position
        lines, self._rest = markers.split_lines("" if piece.lost else self._rest, piece.text)
        for line in lines:
            self._take(line)
        return self.at != before

    def _take(self, line: str) -> None:
        self.last.append(clean(line))
        if reason := markers.panic(line):
            self.ended, self.has_panicked = f"kernel panic: {clean(reason)}", True
        marker = markers.parse(line, self.nonce)
        self.has_spoken = self.has_spoken or marker is not None
        if isinstance(marker, markers.Fact):
            self.facts[marker.key] = marker.value
            if (marker.key, marker.value) == ("notebook", "failed"):
                self.ended = self.ended or NOTEBOOK_FAILED

    def await_identity(self) -> None:
        """Wait until the machine has reported its host key, or has ended."""
        self._await(lambda: self.poll() or bool(self.host_key), what="its SSH host key", timeout_s=IDENTITY_S)

    def await_memory(self) -> None:
        """Wait until the machine is ready to have its memory saved, or has ended."""
        self._await(
            lambda: self.poll() or self.facts.get("ready") == "memory",
            what="ready to save its memory",
            timeout_s=IDENTITY_S + ANSWER_S,
        )

    def await_answer(self, answers: Callable[[], bool], *, what: str) -> None:
        """Wait until a service of the machine responds, or raise an error if the machine has ended first."""
        self._await(lambda: answers() or self.poll(), what=what, timeout_s=self.answer_s)
        self.check()

    def check(self) -> None:
        """Raise the error of a machine that has ended, with the last lines of its console: GuestError if only its Jupyter fails."""
        if not self.ended:
            return
        message, next_step = f"machine {self.machine!r}: {self.ended}", "Try again; if it repeats, with more --memory-mb."
        if self.ended == NOTEBOOK_FAILED:
            fix = "Fix Jupyter's configuration: in the recipe, or in ~/.jupyter of the machine."
            raise GuestError(message, step="notebook", log=tuple(self.last), next_step=fix)
        if self.is_spot:
            next_step = "Spot capacity can be reclaimed at any time: try again, in another --zone, or without --spot."
        if self.has_panicked:
            raise KernelPanicError(message, log=tuple(self.last), next_step=next_step)
        raise self._with_console(CloudError(message, next_step=next_step))

    def _await(self, probe: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        timeout_s *= self.cloud.slowness
        try:
            until(
                probe,
                what=f"machine {self.machine!r}: {what}",
                timeout_s=timeout_s,
                poll_s=POLL_S if self.cloud.limits.poll_max_s else QUICK_S,
                poll_max_s=self.cloud.limits.poll_max_s or POLL_S,
                last_seen=self._last_line,
            )
        except TimedOutError as error:
            error.next_step = "Try again; more --cpus or --memory-mb make it faster."
            raise self._with_console(error) from None

    def _last_line(self) -> str:
        return self.last[-1] if self.last else "nothing on its console"

    def _with_console(self, error: BakehouseError) -> BakehouseError:
        if self.last:
            error.add_note("the end of its console:\n" + "\n".join(self.last))
        return error


def boot_machine(
    cloud: Cloud,
    ledger: Ledger,
    undo: Undo,
    spec: BootSpec,
    tell: Tell,
    *,
    come_up: Callable[[Boot], None] = Boot.await_identity,
) -> Boot:
    """Create a machine and return its boot once it has started; its removal stays registered with `undo`."""

    def begin(order: BootSpec = spec) -> Boot:
        create_machine(cloud, ledger, undo, order, tell)
        return Boot(cloud, order.name, order.facts["NONCE"], is_spot=order.wishes.spot)

    def again(_failed: Boot) -> Boot:
        remove(cloud, ledger, Kind.MACHINE, spec.name)
        return begin(replace(spec, token=new_nonce()))

    return bring_up(begin, again, tell, come_up=come_up)


def bring_up(
    begin: Callable[[], Boot],
    again: Callable[[Boot], Boot],
    tell: Tell,
    *,
    come_up: Callable[[Boot], None] = Boot.await_identity,
) -> Boot:
    """Start a boot and return it once `come_up` is done (by default: it has reported its identity).

    One that ends before its first marker is repeated once, and `tell` receives a line about that: under emulation some kernels
    occasionally crash during boot.
    """
    boot = begin()
    come_up(boot)
    if boot.ended and not boot.has_spoken:
        tell(f"machine {boot.machine!r}: {boot.ended}; starting it once more")
        boot = again(boot)
        come_up(boot)
    boot.check()
    return boot


def ssh_answers(endpoint: Endpoint, *, timeout_s: float = 5.0) -> bool:
    """Return whether an SSH server sends its banner; a forwarded port accepts connections long before its guest does."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
