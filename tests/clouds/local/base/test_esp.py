"""The EFI system partition and the boot files that are taken from it."""

import subprocess
from pathlib import Path

import pytest

from clouds.errors import CloudError
from clouds.local.base import esp
from tests.clouds.local.small import make_disk, needs_tools


@needs_tools
def test_kernel_that_needs_one_driver_starts_with_the_small_initrd(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, direct=True)
    (tmp_path / "beside").mkdir()
    esp.take_boot_files(disk, tmp_path / "beside")
    assert sorted(path.name for path in (tmp_path / "beside").iterdir()) == ["cmdline", "initrd", "vmlinuz"]
    assert (tmp_path / "beside/initrd").read_text() == "one driver"


@needs_tools
def test_any_other_kernel_starts_with_its_initrd(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, direct=False)
    (tmp_path / "beside").mkdir()
    esp.take_boot_files(disk, tmp_path / "beside")
    assert esp.boot_arguments(tmp_path / "beside") == {
        "vmlinuz": "vmlinuz",
        "initrd": "initrd",
        "cmdline": "root=LABEL=bakehouse rw quiet",
    }
    assert (tmp_path / "beside/initrd").read_text() == "initrd"


@needs_tools
def test_boot_files_of_another_disk_replace_those_that_are_there_and_harm_no_link(tmp_path: Path) -> None:
    disk = make_disk(tmp_path, direct=True)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    for name in esp.BOOT_FILES:
        (first / name).write_text("old")
    esp.link_boot_files(first, second)
    esp.take_boot_files(disk, second)
    assert (second / "vmlinuz").read_text() == "kernel"
    assert (first / "vmlinuz").read_text() == "old"


@needs_tools
def test_disk_without_an_esp_is_an_error_with_a_cause(tmp_path: Path) -> None:
    raw, disk = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(b"\0" * 2**20)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    with pytest.raises(CloudError):
        esp.take_boot_files(disk, tmp_path)
    assert not (tmp_path / "esp.raw").exists()
