"""QEMU's command line, and the process that runs it."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import BootSpec
from clouds.errors import CloudError, ConflictError, HostFullError
from clouds.local.host import files
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import KVM, TCG
from clouds.local.vm.record import MachineRecord, new_record
from clouds.waiter import until
from tests.clouds.local.small import so_called_qemu

BOOT = {"vmlinuz": "vmlinuz", "initrd": "initrd", "cmdline": "root=/dev/x quiet"}
SECRET = "hunter2"


def record(*, ports: tuple[int, ...] = (22, 8888), build_settings: bool = False) -> MachineRecord:
    spec = BootSpec(
        name="one",
        token="t",
        source="base-1",
        cpus=3,
        memory_mb=1536,
        disk_gb=8,
        labels={},
        deadline_s=60,
        script=f"echo {SECRET}",
        facts={"PASSWORD_HASH": SECRET},
        ports=ports,
        build_settings=build_settings,
    )
    return new_record(spec, created_at=1.0)


def test_guest_gets_the_shape_that_was_ordered() -> None:
    argv = qemu.arguments(record(), TCG, BOOT)
    assert argv[argv.index("-smp") + 1] == "3"
    assert argv[argv.index("-m") + 1] == "1536"


def test_everything_listens_on_loopback_only() -> None:
    (network,) = [word for word in qemu.arguments(record(), TCG, BOOT) if word.startswith("user,")]
    rules = [part for part in network.split(",") if part.startswith("hostfwd=")]
    assert len(rules) == 2
    assert all(rule.startswith("hostfwd=tcp:127.0.0.1:") for rule in rules)


def test_list_of_processes_shows_nothing_that_the_guest_is_told() -> None:
    assert SECRET not in " ".join(qemu.arguments(record(), TCG, BOOT))


def test_guest_is_told_only_what_there_is() -> None:
    def told(argv: list[str]) -> list[str]:
        return [word.split("/")[2].split(",")[0] for word in argv if word.startswith("name=opt/bakehouse/")]

    assert told(qemu.arguments(record(), TCG, BOOT)) == ["facts", "script"]
    assert told(qemu.arguments(record(build_settings=True), TCG, BOOT)) == ["facts", "script", "build", "await"]


def test_disk_of_a_machine_keeps_what_the_guest_has_flushed() -> None:
    assert ",cache=writeback," in " ".join(qemu.arguments(record(), TCG, BOOT))
    assert ",cache=unsafe," in " ".join(qemu.arguments(record(build_settings=True), TCG, BOOT))


def test_machine_that_goes_on_waits_for_its_memory_and_nothing_leads_into_it() -> None:
    argv = qemu.arguments(replace(record(), memory="../x/memory", maps_memory=True), TCG, BOOT)
    assert argv[-2:] == ["-incoming", "defer"]
    assert "hostfwd" not in " ".join(argv)
    assert "memory-backend-file,id=ram,size=1536M,mem-path=../x/memory/ram,share=off" in argv


def test_machine_that_is_to_be_frozen_has_its_ram_in_a_file_and_waits_for_an_order() -> None:
    argv = qemu.arguments(replace(record(), freezes=True, waits=True), TCG, BOOT)
    assert "memory-backend-file,id=ram,size=1536M,mem-path=ram,share=on" in argv
    assert "name=opt/bakehouse/await,string=1" in argv


def test_all_machines_have_the_same_devices_whatever_they_are_for() -> None:
    forms = (record(), replace(record(), freezes=True, waits=True), replace(record(), memory="m"), record(build_settings=True))
    for form in forms:
        assert " ".join(qemu.devices()) in " ".join(qemu.arguments(form, TCG, BOOT))


def test_kernel_is_told_more_without_an_accelerator() -> None:
    def cmdline(argv: list[str]) -> str:
        return argv[argv.index("-append") + 1]

    assert cmdline(qemu.arguments(record(), KVM, BOOT)) == BOOT["cmdline"]
    assert cmdline(qemu.arguments(record(), TCG, BOOT)).startswith(BOOT["cmdline"] + " tsc=reliable")


def test_builder_keeps_nothing_in_memory_that_is_free() -> None:
    assert "init_on_free=1" in " ".join(qemu.arguments(record(build_settings=True), KVM, BOOT))
    assert "init_on_free=1" not in " ".join(qemu.arguments(record(), KVM, BOOT))


# Ports


def test_port_that_is_wanted_is_given_when_it_is_free() -> None:
    (port,) = qemu.free_ports([0])
    assert qemu.free_ports([port]) == [port]


def test_port_that_is_taken_is_replaced() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        (other,) = qemu.free_ports([port])
    assert other not in (0, port)


def test_ports_differ_from_each_other() -> None:
    assert len(set(qemu.free_ports([0] * 20))) == 20


# Processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process in a machine's folder that calls itself QEMU."""
    with so_called_qemu(folder) as started:
        yield started


def test_process_is_found_though_nobody_noted_it(folder: Path, process: subprocess.Popen[bytes]) -> None:
    assert qemu.processes(folder) == [process.pid]
    assert qemu.is_alive(folder)


def test_process_elsewhere_is_not_this_machines(folder: Path, process: subprocess.Popen[bytes]) -> None:
    other = folder / "other"
    other.mkdir()
    assert qemu.processes(other) == []
    assert not qemu.is_alive(other)


def test_machine_whose_folder_is_gone_has_no_process(folder: Path) -> None:
    assert qemu.processes(folder / "gone") == []
    assert not qemu.is_alive(folder / "gone")


def test_process_that_ends_before_it_is_killed_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "processes", lambda folder: [4194999])  # more than there can be: it has ended
    assert qemu.are_gone(qemu.kill(folder))


def test_other_process_in_the_folder_is_left_alone(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=folder) as other:
        assert qemu.kill(folder) == ""
        assert other.poll() is None
        other.kill()


def test_number_of_a_process_that_is_used_again_is_not_this_machine(folder: Path, process: subprocess.Popen[bytes]) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    files.write_json(elsewhere / "process.json", {"pid": process.pid, "start": 1})
    assert not qemu.is_alive(elsewhere)


def test_killed_process_is_gone_even_before_it_is_waited_for(folder: Path, process: subprocess.Popen[bytes]) -> None:
    killed = qemu.kill(folder)
    assert killed.startswith(f"{process.pid}:")
    until(lambda: qemu.are_gone(killed), what="end of the process", timeout_s=10, poll_s=0.01)
    assert not qemu.is_alive(folder)


def test_nothing_that_was_killed_is_gone() -> None:
    assert qemu.are_gone("")


# The last words of a QEMU that ended


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("qemu-system-x86_64: -netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:1-:22'", ConflictError),
        ("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory", CloudError),
        ("qemu-system-x86_64: write failed: No space left on device", HostFullError),
        ("qemu-system-x86_64: -device nosuch: 'nosuch' is not a valid device model name", CloudError),
    ],
)
def test_why_qemu_could_not_run_is_told_apart(folder: Path, words: str, kind: type[CloudError]) -> None:
    (folder / "qemu.log").write_text(f"qemu-system-x86_64: warning: something\n{words}\n")
    error = qemu.death(folder)
    assert type(error) is kind
    assert error.next_step


def test_too_many_processors_for_this_qemu_are_answered_with_the_most_it_can_have(folder: Path) -> None:
    said = "qemu-system-x86_64: current -smp configuration requires kernel irqchip and X2APIC API support."  # QEMU 7.2, -smp 256
    (folder / "qemu.log").write_text(f"{said}\n")
    error = qemu.death(folder)
    assert error
    assert (error.message, error.next_step) == (f"QEMU: {said}", "Use at most 255 processors (--cpus 255).")


@pytest.mark.parametrize(
    "words", ["", "qemu-system-x86_64: warning: x\n", "qemu-system-x86_64: terminating on signal 15 from pid 7 (timeout)\n"]
)
def test_machine_that_ended_as_guests_do_is_no_error(folder: Path, words: str) -> None:
    (folder / "qemu.log").write_text(words)
    assert qemu.death(folder) is None
