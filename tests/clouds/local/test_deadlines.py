"""What waits for the disk or the network of this computer is given the same time with KVM and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.local.driver import LocalCloud
from clouds.local.vm.accelerator import KVM, Choice, choose
from clouds.local.vm.sockets import DISK_S

QEMU = "QEMU emulator version 8.2.2"


def local_cloud(folder: Path, accelerator: str) -> LocalCloud:
    """Return a local cloud with that accelerator; its QEMU is not run."""
    choose(folder / "accelerator.json", accelerator, version=lambda: QEMU, probe=lambda: Choice(KVM))
    return LocalCloud(folder, accelerator)


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
@pytest.mark.parametrize("verb", ["delete", "freeze", "keep-layer", "go-on"])
def test_slow_disk_has_ten_minutes(tmp_path: Path, accelerator: str, verb: str) -> None:
    cloud = local_cloud(tmp_path, accelerator)
    assert cloud.limits.operation_s(verb) * cloud.slowness == pytest.approx(DISK_S)


def test_guest_on_kvm_may_write_for_minutes_before_it_is_off(tmp_path: Path) -> None:
    kvm, tcg = local_cloud(tmp_path, "kvm"), local_cloud(tmp_path, "tcg")
    assert kvm.limits.operation_s("stop") * kvm.slowness == 300
    assert tcg.limits.operation_s("stop") * tcg.slowness == 480
