"""Which accelerator is used, and how long the answer is kept."""

from pathlib import Path

import pytest

from clouds.errors import UsageError
from clouds.local import files
from clouds.local.accelerator import KVM, TCG, VARIABLE, accelerator, boot_sector
from clouds.local.host import which

needs_qemu = pytest.mark.skipif(which("qemu-system-x86_64") is None, reason="QEMU is not installed")


def never() -> bool:
    pytest.fail("probed again")


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize("chosen", [KVM, TCG])
def test_variable_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: object) -> None:
    monkeypatch.setenv(VARIABLE, chosen.name)  # type: ignore[attr-defined]
    assert accelerator(tmp_path / "kept.json", probe=never) is chosen


def test_variable_with_another_word_says_what_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "hvf")
    with pytest.raises(UsageError, match="hvf") as raised:
        accelerator(tmp_path / "kept.json", probe=never)
    assert "kvm or tcg" in raised.value.next_step


@needs_qemu
@pytest.mark.parametrize(("works", "found"), [(True, KVM), (False, TCG)])
def test_answer_is_kept(tmp_path: Path, works: bool, found: object) -> None:
    assert accelerator(tmp_path / "kept.json", probe=lambda: works) is found
    assert accelerator(tmp_path / "kept.json", probe=never) is found


@needs_qemu
def test_answer_of_another_host_or_boot_does_not_count(tmp_path: Path) -> None:
    accelerator(tmp_path / "kept.json", probe=lambda: False)
    kept = files.read_json(tmp_path / "kept.json")
    assert kept
    files.write_json(tmp_path / "kept.json", {**kept, "host": "another"})
    assert accelerator(tmp_path / "kept.json", probe=lambda: True) is KVM


def test_boot_sector_is_one_that_a_bios_starts() -> None:
    sector = boot_sector(b"sign")
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector[0x1A:].startswith(b"sign\0")
