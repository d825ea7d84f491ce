"""What waits in a builder, and in a machine whose memory is to be frozen, until the host says how to go on."""

from __future__ import annotations

import base64
import io
import json
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from bakery.script.render import Part, frame
from tests.bash_guest import NONCE, SYSTEM_PATH, Guest
from tests.machine_code import HASH, LIBRARY, facts_told, identity_text, load_code, log_to_console, tell_facts

pytestmark = pytest.mark.program

SEED = bytes(range(64))
ORDER = {"clock": 1.9e9, "seed": base64.b64encode(SEED).decode(), "facts": None, "script": None, "build": None, "grow": False}
FACTS = {"MACHINE": "it's mine", "NONCE": NONCE, "PASSWORD_HASH": HASH, "EXPIRES": "0"}


class Kernel:
    """Records its calls, and which files of the order exist when the disk is frozen."""

    def __init__(self, run: Path) -> None:
        self.asked: list[object] = []
        self._run = run

    def freeze(self) -> None:
        """Freeze nothing."""
        self.asked.append(["frozen", *sorted({"build", "facts", "script"} & {path.name for path in self._run.iterdir()})])

    def thaw(self) -> None:
        """Thaw nothing."""
        self.asked.append("thawed")

    def add_seed(self, seed: bytes) -> None:
        """Take no seed."""
        self.asked.append(seed)

    def set_clock(self, seconds: float) -> None:
        """Set no clock."""
        self.asked.append(seconds)

    def grow(self) -> None:
        """Grow nothing."""
        self.asked.append("grown")


class Host:
    """The other end of the port, and the guest that serves it in a thread."""

    def __init__(self, machine: Guest, code: ModuleType) -> None:
        self.machine, self.code = machine, code
        self.run = machine.root / "run/bakehouse"
        self.run.mkdir(parents=True, exist_ok=True)
        self.kernel = Kernel(self.run)
        self._socket, self._guest_socket = socket.socketpair()
        self._socket.settimeout(10)
        self._lines = self._socket.makefile("r")
        self._status: list[int] = []
        self._orders = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        port = self.code.Port(self._guest_socket.fileno())
        library = self.machine.root / "usr/lib/bakehouse"
        self._status.append(self.code.serve(port, self.kernel, str(self.run), str(library)))

    def power_on(self) -> None:
        """Let the guest begin."""
        self._thread.start()

    def say(self, line: str) -> None:
        """Write a line for the guest."""
        self._socket.sendall(f"{line}\n".encode())

    def order(self, **values: object) -> str:
        """Give an order; return the guest's answer, without the number of the order."""
        self._orders += 1
        self.say(f"\norder {self._orders} {json.dumps({**ORDER, **values})}")
        word, number, *more = self.heard().split(" ", 2)
        assert int(number) == self._orders
        return " ".join([word, *more])

    def heard(self) -> str:
        """Return the next line of the guest."""
        return self._lines.readline().rstrip("\n")

    def ping(self, number: int) -> str:
        """Ask whether the guest waits; return its answer."""
        self.say(f"ping {number}")
        return self.heard()

    def status(self) -> int:
        """Return with which exit status the guest's program ends."""
        self._thread.join(10)
        return self._status[0]

    def power_off(self) -> None:
        """Let the guest end, if it waits."""
        if self._thread.is_alive():
            self.order(script="exit 0")
            self._thread.join(10)
        for end in (self._lines, self._socket, self._guest_socket):
            end.close()


@pytest.fixture
def code(machine: Guest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the program, in whose scripts the system's programs are stubs."""
    log_to_console(machine, monkeypatch)
    for name, value in machine.environ().items():
        monkeypatch.setenv(name, value)
    machine.write("bin/journalctl", '#!/bin/bash\nprintf "%s\\n" "journalctl $*" >>"$CALLS"\n')
    (machine.root / "bin/journalctl").chmod(0o755)
    machine.write("console", "")
    loaded = load_code("await", (LIBRARY / "await").read_text())
    loaded.ENVIRONMENT = machine.environ()
    return loaded


@pytest.fixture
def host(machine: Guest, code: ModuleType) -> Iterator[Host]:
    """Give a guest that is off, and the host to which its port leads."""
    made = Host(machine, code)
    yield made
    made.power_off()


def test_a_guest_that_is_told_nothing_waits_at_once(host: Host) -> None:
    host.power_on()
    assert host.ping(1) == "waiting 1"
    assert host.ping(2) == "waiting 2"
    assert host.kernel.asked == [["frozen"]]


def test_a_disk_that_has_become_larger_is_filled(host: Host) -> None:
    host.power_on()
    host.order(grow=True)
    assert "grown" in host.kernel.asked
    host.order()
    assert host.kernel.asked.count("grown") == 1


def test_it_runs_the_script_of_its_boot_and_waits_when_that_wants_to_go_on_later(host: Host) -> None:
    host.machine.write("run/bakehouse/script", f"until [[ -e {host.run}/go ]]; do /bin/sleep 0.01; done; exit 75\n")
    host.power_on()
    host.say("ping 1")
    assert host.kernel.asked == []
    (host.run / "go").touch()
    assert host.heard() == "waiting 1"


@pytest.mark.parametrize(("text", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)])
def test_it_ends_as_its_script_does(host: Host, text: str, status: int) -> None:
    host.machine.write("run/bakehouse/script", text)
    host.power_on()
    assert host.status() == status
    assert host.kernel.asked == []


def test_an_order_is_carried_out_in_its_order(host: Host) -> None:
    host.power_on()
    assert host.order(script=f'echo "$0" >{host.run}/ran; exit 3') == "taken"
    assert host.status() == 3
    assert host.kernel.asked == [["frozen"], "thawed", SEED, 1.9e9]
    assert (host.run / "ran").read_text() == f"{host.run}/script\n"
    assert (host.run / "script").stat().st_mode & 0o777 == 0o600


def test_what_an_order_brings_is_gone_when_the_disk_is_frozen_again(host: Host) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        folder, file = tarfile.TarInfo("build"), tarfile.TarInfo("build/env")
        folder.type, folder.mode, file.size = tarfile.DIRTYPE, 0o755, 6
        tar.addfile(folder)
        tar.addfile(file, io.BytesIO(b"secret"))
    host.power_on()
    script = f"cd {host.run}; ln build/env kept; ln script kept-script; exit 75"
    assert host.order(script=script, build=base64.b64encode(packed.getvalue()).decode()) == "taken"
    assert host.ping(1) == "waiting 1"
    assert host.kernel.asked[-1] == ["frozen"]
    assert (host.run / "kept").read_bytes() == bytes(6)  # their content is overwritten in memory, too
    assert (host.run / "kept-script").read_bytes() == bytes(len(script))


def test_a_script_of_megabytes_arrives(host: Host) -> None:
    host.power_on()
    assert host.order(script="exit 4\n" + "# long\n" * 500_000) == "taken"
    assert host.status() == 4


def test_what_is_no_order_is_ignored_or_refused_and_the_next_one_is_heard(host: Host) -> None:
    host.power_on()
    for line in ("go on!", json.dumps(ORDER), "order", "order x {}", "ping", "", "rder 7 {}"):
        host.say(line)
    host.say("order 7 {")
    assert host.heard().startswith("refused 7 Expecting")
    assert host.order(seed="").startswith("refused seed: 0 bytes")
    assert host.kernel.asked == [["frozen"]]
    assert host.order(script="exit 0") == "taken"
    assert host.status() == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"more": 1}, "keys"),
        ({"clock": "now"}, "clock"),
        ({"clock": True}, "clock"),
        ({"clock": float("nan")}, "clock"),
        ({"clock": -1}, "clock"),
        ({"seed": None}, "seed"),
        ({"seed": "?" * 88}, "seed"),
        ({"facts": []}, "facts"),
        ({"facts": {"lower": "x"}}, "facts"),
        ({"facts": {"A B": "x"}}, "facts"),
        ({"facts": {"A": "x\ny"}}, "facts"),
        ({"facts": {"A": 1}}, "facts"),
        ({"script": 1}, "script"),
        ({"build": "?"}, "build"),
        ({"grow": 1}, "grow"),
    ],
)
def test_every_part_of_an_order_is_checked(code: ModuleType, wrong: dict[str, object], said: str) -> None:
    code.read_order(json.dumps(ORDER).encode())
    with pytest.raises(ValueError, match=said):
        code.read_order(json.dumps({**ORDER, **wrong}).encode())


def test_an_order_that_cannot_be_carried_out_is_refused_and_it_waits_again(host: Host) -> None:
    host.power_on()
    assert host.order(build=base64.b64encode(b"no archive").decode()).startswith("refused CalledProcessError")
    assert host.order(facts=FACTS).startswith("refused LookupError")  # nothing takes an identity yet
    assert host.ping(1) == "waiting 1"
    assert host.kernel.asked.count(["frozen"]) == 3


@pytest.fixture
def machine_to_freeze(host: Host) -> Host:
    """Return a machine without a notebook whose memory is to be frozen."""
    host.machine.write("usr/lib/bakehouse/identity.py", identity_text(host.machine))
    host.machine.write("usr/lib/bakehouse/memory", (LIBRARY / "memory").read_text())
    tell_facts(host.machine, FREEZE="1", MACHINE="", AUTHORIZED_KEY="", PASSWORD_HASH="")
    return host


def test_a_machine_that_is_to_be_frozen_tells_when_it_is_ready(machine_to_freeze: Host) -> None:
    machine_to_freeze.power_on()
    assert machine_to_freeze.ping(1) == "waiting 1"
    console = machine_to_freeze.machine.read("console")
    assert facts_told(console) == {"ready": "memory"}
    assert console.count("memory") == 2
    calls = machine_to_freeze.machine.read("calls").splitlines()
    assert calls == ["systemctl start ssh.socket", "systemctl is-system-running --wait", "journalctl --sync"]
    assert machine_to_freeze.kernel.asked == [["frozen"]]


def test_it_is_somebody_before_it_says_so(machine_to_freeze: Host) -> None:
    machine_to_freeze.power_on()
    assert machine_to_freeze.order(facts=FACTS) == "taken"
    root = machine_to_freeze.machine
    assert root.read("var/lib/bakehouse/machine") == "it's mine\n"
    assert root.read("run/bakehouse/facts").startswith("MACHINE='it'\"'\"'s mine'\n")
    assert machine_to_freeze.status() == 0
    assert root.read("calls").endswith("systemctl restart systemd-journald.service\n")


def test_it_runs_a_script_besides(machine_to_freeze: Host) -> None:
    machine_to_freeze.power_on()
    assert machine_to_freeze.order(facts=FACTS, script="exit 5") == "taken"
    assert machine_to_freeze.status() == 5
    assert "systemctl restart systemd-journald.service\n" in machine_to_freeze.machine.read("calls")


def test_a_machine_that_cannot_become_somebody_waits_again(machine_to_freeze: Host) -> None:
    machine_to_freeze.power_on()
    assert machine_to_freeze.order(facts={**FACTS, "HOST_KEY": "?"}).startswith("refused ")
    assert machine_to_freeze.ping(1) == "waiting 1"
    assert not (machine_to_freeze.machine.root / "var/lib/bakehouse/password-hash").exists()


def test_what_ends_the_wait_thaws_the_disk(host: Host) -> None:
    def ends() -> Iterator[bytes]:
        raise SystemExit(0)
        yield b""

    with pytest.raises(SystemExit):
        host.code.hear(SimpleNamespace(lines=ends), host.kernel)
    assert host.kernel.asked == [["frozen"], "thawed"]


def test_nothing_of_a_line_is_lost_when_the_kernel_says_late_that_another_host_has_gone(code: ModuleType, tmp_path: Path) -> None:
    """At its end a file reads like a port without a connection."""
    (tmp_path / "port").write_text("ping 1\npi")

    def more_comes(_seconds: float) -> None:
        with (tmp_path / "port").open("a") as port:
            port.write("ng 2\n")

    code.time = SimpleNamespace(sleep=more_comes)
    with (tmp_path / "port").open("rb") as port:
        lines = code.Port(port.fileno()).lines()
        assert [next(lines), next(lines)] == [b"ping 1", b"ping 2"]


def test_what_a_host_had_begun_to_say_that_has_gone_is_ignored(host: Host) -> None:
    host.power_on()
    host._socket.sendall(b'order 99 {"clock": 1')
    host.say(f"\norder 5 {json.dumps({**ORDER, 'script': 'exit 75'})}")
    assert host.heard().startswith("refused 99 ")  # which the next host does not take for its answer: the number is another
    assert host.heard() == "taken 5"
    host._socket.sendall(b"pi")
    assert host.order(script="exit 0") == "taken"
    assert host.status() == 0


def test_a_port_that_never_comes_is_told(code: ModuleType, tmp_path: Path) -> None:
    code._PORT_S = 0
    with pytest.raises(TimeoutError, match="so the host cannot send an order"):
        code.open_port(str(tmp_path / "port"))


def test_a_bake_goes_on_step_by_step_and_nothing_is_done_twice(host: Host) -> None:
    script = frame("a test", [Part(name, f"echo {name}\n") for name in ("one", "two", "seal")], is_bake=True)
    text = SYSTEM_PATH.sub(str(host.machine.root), script.for_boot(NONCE, deadline_s=9))
    host.machine.write("run/bakehouse/await", "")
    host.machine.write("run/bakehouse/script", text)
    host.power_on()
    waits: list[tuple[int, str]] = []
    for number in range(3):  # after boot, one and two; the last step does not wait
        assert host.ping(number) == f"waiting {number}"
        progress = host.machine.progress(script, host.machine.read("console"))
        waits.append((progress.reached, host.machine.read("run/bakehouse/bake.log")))
        assert host.order(script=text) == "taken"
    assert host.status() == 0
    assert waits == [(1, ""), (2, "=== 02-one\none\n"), (3, "=== 02-one\none\n=== 03-two\ntwo\n")]
    assert host.machine.progress(script, host.machine.read("console")).done
