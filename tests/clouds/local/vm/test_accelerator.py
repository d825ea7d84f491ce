"""Which accelerator is used, why not KVM, and how long the answer is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clouds.driver import Base
from clouds.errors import MissingToolError, UsageError
from clouds.local.driver import LocalCloud
from clouds.local.host import files
from clouds.local.host.programs import which
from clouds.local.vm import accelerator
from clouds.local.vm.accelerator import KVM, KVM_NESTED, TCG, Accelerator, Choice, parse_version
from clouds.local.vm.probe import Ran, boot_sector, find_kvm

needs_qemu = pytest.mark.skipif(which("qemu-system-x86_64") is None, reason="QEMU is not installed")
BUSY = Choice(TCG, "another program uses it", "Close it.", is_final=False)
FINAL = Choice(TCG, "/dev/kvm not found", "Turn it on.")
# https://github.com/GNS3/gns3-server/issues/1512
ABORT = """qemu-system-x86_64: error: failed to set MSR 0x38d to 0x0
qemu-system-x86_64: ../../target/i386/kvm/kvm.c:2893: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed."""
# https://github.com/canonical/multipass/issues/475
HELD = """ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy
qemu-system-x86_64: -accel kvm: failed to initialize kvm: Device or resource busy"""


OLD = "QEMU emulator version 6.2.0 (Debian 1:6.2+dfsg-2ubuntu6.26)"
VERSION = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright"


def never() -> Choice:
    pytest.fail("probed again")


def choose(cache: Path, wanted: str = "", *, version: str = VERSION, now: float = 0, probe: Callable[[], Choice] = never) -> Choice:
    """Choose on a computer with a QEMU that prints this version, at this time."""
    return accelerator.choose(cache, wanted, probe=probe, version=lambda: version, now=lambda: now)


# The choice


def test_user_decides(tmp_path: Path) -> None:
    assert choose(tmp_path / "kept.json", "tcg") == Choice(TCG)


@needs_qemu
@pytest.mark.parametrize("found", [Choice(KVM), Choice(KVM_NESTED)])
def test_kvm_that_the_user_asks_for_is_the_variant_that_works(tmp_path: Path, found: Choice) -> None:
    assert choose(tmp_path / "kept.json", "kvm", probe=lambda: found) == found
    assert choose(tmp_path / "kept.json", "kvm") == found


@needs_qemu
def test_kvm_that_does_not_work_is_refused_with_the_reason(tmp_path: Path) -> None:
    for probe in (lambda: FINAL, never):
        with pytest.raises(UsageError) as refused:
            choose(tmp_path / "kept.json", "kvm", probe=probe)
        assert refused.value.message == "KVM does not work on this computer: /dev/kvm not found"
        assert refused.value.next_step.splitlines()[0] == "Omit --accelerator (or its setting), or use --accelerator tcg."


@needs_qemu
def test_kvm_that_was_busy_is_probed_again_if_the_user_asks_for_it(tmp_path: Path) -> None:
    assert choose(tmp_path / "kept.json", probe=lambda: BUSY) == BUSY
    assert choose(tmp_path / "kept.json", "kvm", probe=lambda: Choice(KVM)) == Choice(KVM)


@needs_qemu
def test_kvm_that_does_not_work_is_refused_before_a_base_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clouds.local.vm.probe.find_kvm", lambda: FINAL)
    monkeypatch.setattr(accelerator, "printed_version", lambda: VERSION)
    monkeypatch.setattr("clouds.local.driver.ensure_tools", lambda _folder, _say: None)  # it may install packages
    cloud = LocalCloud(tmp_path, "kvm")
    with pytest.raises(UsageError, match="KVM does not work"):
        cloud.check_computer()
    with pytest.raises(UsageError, match="KVM does not work"):
        cloud.resolve_base(Base("trixie", "amd64"))


def test_another_word_says_what_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hvf") as raised:
        choose(tmp_path / "kept.json", "hvf")
    assert "kvm or tcg" in raised.value.next_step


@needs_qemu
@pytest.mark.parametrize("found", [Choice(KVM), Choice(KVM_NESTED), FINAL])
def test_answer_is_kept(tmp_path: Path, found: Choice) -> None:
    assert choose(tmp_path / "kept.json", probe=lambda: found) == found
    assert choose(tmp_path / "kept.json") == found


@needs_qemu
def test_what_may_pass_is_probed_again_after_ten_minutes(tmp_path: Path) -> None:
    cache = tmp_path / "kept.json"
    choose(cache, probe=lambda: BUSY, now=1000)
    assert choose(cache, now=1500).reason == BUSY.reason
    assert choose(cache, probe=lambda: Choice(KVM), now=1600) == Choice(KVM)
    assert choose(cache, now=9999) == Choice(KVM)


@needs_qemu
def test_answer_of_another_host_or_boot_does_not_count(tmp_path: Path) -> None:
    choose(tmp_path / "kept.json", probe=lambda: FINAL)
    kept = files.read_json(tmp_path / "kept.json")
    assert kept
    files.write_json(tmp_path / "kept.json", {**kept, "host": "another"})
    assert choose(tmp_path / "kept.json", probe=lambda: Choice(KVM)) == Choice(KVM)


@needs_qemu
def test_wish_of_one_command_leaves_the_answer_for_the_next(tmp_path: Path) -> None:
    choose(tmp_path / "kept.json", probe=lambda: FINAL)
    choose(tmp_path / "kept.json", "tcg")
    assert choose(tmp_path / "kept.json") == FINAL


# Which QEMU


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        (VERSION, (7, 2)),
        (OLD, (6, 2)),
        ("QEMU emulator version 11.0.50", (11, 0)),
        ("something else", None),
        ("", None),
    ],
)
def test_version_is_read(printed: str, version: tuple[int, int] | None) -> None:
    assert parse_version(printed) == version


@needs_qemu
@pytest.mark.parametrize("wanted", ["", "tcg"])
def test_old_qemu_is_refused_before_anything_is_built(tmp_path: Path, wanted: str) -> None:
    for _ in range(2):  # a refusal is not kept for an answer
        with pytest.raises(MissingToolError, match=r"QEMU 6\.2 is too old: Bakehouse needs 7\.0") as raised:
            choose(tmp_path / "kept.json", wanted, version=OLD)
        assert "Ubuntu 24.04" in raised.value.next_step
    assert choose(tmp_path / "kept.json", wanted, probe=lambda: Choice(TCG)) == Choice(TCG)


# Why not KVM


def readable(tmp_path: Path) -> Path:
    (tmp_path / "kvm").touch()
    return tmp_path / "kvm"


def cpuinfo(tmp_path: Path, flags: str) -> Path:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse\n")
    return tmp_path / "cpuinfo"


@pytest.mark.parametrize(
    ("flags", "step"),
    [
        ("vmx", "modprobe kvm_intel"),
        ("svm hypervisor", "modprobe kvm_amd"),
        ("hypervisor", "nested virtualization"),
        ("", "firmware"),
    ],
)
def test_missing_device_is_explained_by_the_processor(tmp_path: Path, flags: str, step: str) -> None:
    found = find_kvm(tmp_path / "nosuch", cpuinfo(tmp_path, flags), lambda _: pytest.fail("ran a guest"))
    assert (found.accelerator, found.is_final) == (TCG, True)
    assert found.reason.startswith("/dev/kvm not found")
    assert step in found.fix


@pytest.mark.parametrize(("flags", "step"), [("hypervisor", r"nestedVirtualization=true"), ("vmx", "modprobe kvm_intel")])
def test_wsl_without_kvm_is_told_what_to_set_in_windows(tmp_path: Path, flags: str, step: str) -> None:
    kernel = tmp_path / "version"
    kernel.write_text("Linux version 6.6.87.2-microsoft-standard-WSL2 (root@439a258ad544)\n")
    found = find_kvm(tmp_path / "nosuch", cpuinfo(tmp_path, flags), lambda _: pytest.fail("ran a guest"), kernel=kernel)
    assert found.accelerator is TCG
    assert step in found.fix


def test_user_of_wsl_outside_of_the_group_restarts_wsl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "version").write_text("Linux version 6.6.87.2-microsoft-standard-WSL2\n")
    monkeypatch.setattr("os.access", lambda *_: False)  # root may open everything
    found = find_kvm(readable(tmp_path), run=lambda _: pytest.fail("ran a guest"), kernel=tmp_path / "version")
    assert found.fix.endswith("kvm; then run in Windows: wsl --shutdown")


def test_user_outside_of_the_group_is_told_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may open everything
    found = find_kvm(readable(tmp_path), run=lambda _: pytest.fail("ran a guest"))
    assert found.reason == "no permission to open /dev/kvm"
    assert "sudo adduser " in found.fix
    assert " kvm" in found.fix


def test_guest_that_runs_is_kvm(tmp_path: Path) -> None:
    assert find_kvm(readable(tmp_path), run=lambda _: Ran(True)) == Choice(KVM)


def test_qemu_that_aborts_on_a_register_is_tried_without_those_features(tmp_path: Path) -> None:
    tried: list[Accelerator] = []

    def run(accelerator: Accelerator) -> Ran:
        tried.append(accelerator)
        return Ran(accelerator is KVM_NESTED, ABORT)

    assert find_kvm(readable(tmp_path), run=run) == Choice(KVM_NESTED)
    assert tried == [KVM, KVM_NESTED]


@pytest.mark.parametrize(
    ("ran", "reason", "is_final"),
    [
        (Ran(False, timed_out=True), "did not start within", False),
        (Ran(False, HELD), "another program", False),
        (Ran(False, "Could not access KVM kernel module: Permission denied"), "no permission to open", True),
        (Ran(False, "qemu-system-x86_64: something new"), "something new", True),
        (Ran(False, ABORT), "does not run on KVM: failed to set MSR 0x38d to 0x0", True),
        (Ran(False), "without output", True),
    ],
)
def test_kvm_that_runs_no_guest_is_explained(tmp_path: Path, ran: Ran, reason: str, is_final: bool) -> None:
    found = find_kvm(readable(tmp_path), run=lambda _: ran)
    assert (found.accelerator, found.is_final) == (TCG, is_final)
    assert reason in found.reason
    assert found.fix


@needs_qemu
@pytest.mark.parametrize(("ran", "is_told"), [(Ran(False, ABORT), True), (Ran(False, HELD), False)])
def test_line_about_kvm_that_cannot_be_made_to_work_says_how_to_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Ran, is_told: bool
) -> None:
    found = find_kvm(readable(tmp_path), run=lambda _: ran)
    monkeypatch.setattr("clouds.local.vm.probe.find_kvm", lambda: found)
    monkeypatch.setattr(accelerator, "printed_version", lambda: VERSION)
    told = LocalCloud(tmp_path).notices()[-1]
    assert ('accelerator = "tcg" under [local]' in told) is is_told


@needs_qemu
@pytest.mark.parametrize(
    ("found", "says"),
    [(FINAL, ["KVM is not used: /dev/kvm not found; machines are emulated, about 8 times slower. Turn it on."]), (Choice(KVM), [])],
)
def test_cloud_says_it_in_one_line(tmp_path: Path, found: Choice, says: list[str]) -> None:
    choose(tmp_path / "accelerator.json", probe=lambda: found)
    cloud = LocalCloud(tmp_path)
    assert cloud.notices() == says
    assert cloud.accelerator_name == found.accelerator.name
    assert LocalCloud(tmp_path, "tcg").notices() == []


def test_boot_sector_is_one_that_a_bios_starts() -> None:
    sector = boot_sector(b"sign")
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector[0x1A:].startswith(b"sign\0")
