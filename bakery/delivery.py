"""Give a builder its scripts: at the boot and at its checkpoints where the cloud takes them so, else over SSH.

Over SSH: the builder boots with a short script (templates/receive.sh.j2), which starts an SSH server and prints its host key as a
marker. Only then the cloud lets the caller's address in; the files are sent, nobody is let in any more, and the builder runs the
script that it has received.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from bakery.order import Order
from bakery.record import Record
from bakery.script.render import receiver
from bakery.sending import KEY, KNOWN_HOSTS, MANIFEST, Sending
from bakery.shipment import SCRIPT, Shipment, archives_for, carry, file_name, fits, transfer_s
from clouds.capabilities import ReceivesFiles
from clouds.driver import Cloud, Tell
from clouds.errors import CloudError, ThrottledError, TimedOutError
from clouds.home import names_file, write_private
from clouds.ledger import Ledger
from clouds.lifecycle import perform
from clouds.partial import partial_folder
from clouds.undo import Undo
from launcher.access.identity import SSH_PORT, make_host_key

_GUEST_S = 300
"""How much longer than the client the builder waits for its files, in seconds: what the client reports says more."""


class KeyLostError(CloudError):
    """A builder waits for files that only its dead client could have sent: the key for that was in its memory."""


@dataclass(slots=True)
class Delivery:
    """The scripts of one builder. `keep`: it stays on after a failure. `seconds` learns how long sending took.

    `is_followed`: another client, which is dead, has started it.
    """

    cloud: Cloud
    ledger: Ledger
    order: Order
    record: Record
    tell: Tell
    seconds: dict[str, float]
    keep: bool = False
    is_followed: bool = False
    _key: tuple[str, str] | None = None
    _served: set[str] = field(default_factory=set)

    def script(self, done: int) -> str:
        """Return the script to start a builder with that has `done` checkpoints behind it: its own, or one that receives that."""
        order, limits = self.order, self.cloud.limits
        carried = carry(archives_for(self.cloud, order.script, done), limits)
        if carried is not None and (fits(text := self._text(done, carried), limits) or not order.sent_bytes):
            return text
        size_bytes = sum((sizes := self._shipment(done).sizes).values())
        deadline_s = int(transfer_s(self.cloud, size_bytes)) + _GUEST_S
        return receiver(len(order.script.checkpoints), order.nonce, self._keys[1], sizes, deadline_s=deadline_s)

    def on_fact(self, key: str, value: str, reached: int) -> None:
        """Send the script and its files to a builder that has told its host key; `reached` checkpoints are behind it.

        CloudError: that failed. Whatever happens, nobody is let into the builder afterwards. Why a builder ends meanwhile is
        for whoever reads its console.
        """
        if key != "host-key" or value in self._served or not isinstance(self.cloud, ReceivesFiles):
            return
        if self.is_followed:
            raise KeyLostError("it waits for files, and the key for them is lost")
        self._served.add(value)  # it is printed again until the builder has everything
        try:
            self._send(value, reached)
        except (ThrottledError, TimedOutError) as error:
            raise _ending(error) from error

    def _send(self, host_key: str, reached: int) -> None:
        """Open the builder's SSH port, send the script and its files, and close the port."""
        began, shipment = time.monotonic(), self._shipment(reached)
        folder = partial_folder(self.record.folder, "send")  # gc removes that of a bake that is killed
        try:
            self._lay_out(folder, shipment, host_key)
            with Undo() as undo:
                machine = self.order.id
                undo.add(f"access to {machine} over SSH", self._close, by_hand=f"./inv delete {machine} --yes")
                self._open()
                endpoint = self.cloud.address(machine, SSH_PORT)
                sending = Sending(self.cloud, machine, endpoint, folder, shipment.sizes, self.tell, self._reopen)
                sending.run(transfer_s(self.cloud, sum(shipment.sizes.values())))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self.seconds["send"] = self.seconds.get("send", 0.0) + time.monotonic() - began

    @property
    def _keys(self) -> tuple[str, str]:
        """The private and the public half of a key for this builder alone."""
        if self._key is None:
            self._key = make_host_key(self.record.folder, self.order.id)
        return self._key

    def _text(self, done: int, carried: dict[str, str]) -> str:
        deadline_s = int(self.order.deadline_s)
        return self.order.script.for_boot(self.order.nonce, deadline_s=deadline_s, keep=self.keep, done=done, carried=carried)

    def _shipment(self, done: int) -> Shipment:
        return Shipment(self._text(done, {}), archives_for(self.cloud, self.order.script, done))

    def _lay_out(self, folder: Path, shipment: Shipment, host_key: str) -> None:
        """Write what is to be sent, and what sftp needs for it, into a private folder."""
        write_private(folder / KEY, self._keys[0])
        write_private(folder / KNOWN_HOSTS, f"{self.order.id} {host_key}\n")
        write_private(folder / SCRIPT, shipment.script)
        sums = [f"{hashlib.sha256(shipment.script.encode()).hexdigest()}  {SCRIPT}\n"]
        for archive in shipment.archives:
            path = folder / file_name(archive)
            with names_file(path), path.open("wb") as file:
                archive.write(file.write)
            sums.append(f"{archive.sha256}  {file_name(archive)}\n")
        write_private(folder / MANIFEST, "".join(sums))

    def _open(self) -> None:
        if isinstance(self.cloud, ReceivesFiles):
            perform(self.cloud, self.ledger, self.cloud.open_ssh(self.order.id))

    def _reopen(self) -> None:
        """Let the address that this computer has now into the builder, in place of the one before."""
        self._close()
        self._open()

    def _close(self) -> None:
        if isinstance(self.cloud, ReceivesFiles):
            perform(self.cloud, self.ledger, self.cloud.close_ssh(self.order.id))


def _ending(error: ThrottledError | TimedOutError) -> CloudError:
    """Return an error that ends the bake at once.

    `Watch` continues after a ThrottledError, and takes a TimedOutError for the deadline of the bake. But files are sent only once.
    """
    found = CloudError(error.message, next_step=error.next_step or "Bake again.")
    for note in getattr(error, "__notes__", ()):
        found.add_note(note)
    return found
