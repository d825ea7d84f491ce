"""What `doctor` finds of this computer as a cloud."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from clouds.errors import MissingToolError
from clouds.findings import Health
from clouds.local import diagnosis
from clouds.mirrors import Mirrors

KVM = "KVM is not used: no permission to open /dev/kvm; machines are emulated, about 8 times slower. Run: sudo adduser me kvm"


class Computer:
    """As much of the local cloud as its checks ask for."""

    accelerator_name = "kvm"
    told: tuple[str, ...] = ()
    error: Exception | None = None

    def check_computer(self) -> None:
        if self.error:
            raise self.error

    def notices(self) -> list[str]:
        return list(self.told)

    logout_notices = notices


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder of an archive on loopback, which is this computer's mirror."""
    (tmp_path / "dists/trixie").mkdir(parents=True)
    (tmp_path / "dists/trixie/InRelease").touch()
    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *words: Quiet(*words, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://me:hidden@127.0.0.1:{server.server_port}"
        monkeypatch.setattr(diagnosis, "host_mirrors", lambda: Mirrors(debian=mirror))
        yield tmp_path
        server.shutdown()


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch, archive: Path) -> Any:
    """Give a computer on which nothing is wrong."""
    assert archive
    monkeypatch.setattr(diagnosis, "missing_packages", lambda: [])
    return Computer()


def test_computer_on_which_nothing_is_wrong(computer: Any) -> None:
    found = [one for check in diagnosis.checks(computer).values() for one in check()]
    assert {one.state for one in found} == {Health.OK}
    assert "machines run on kvm" in [one.text for one in found]


def test_archive_that_does_not_answer_is_a_warning(computer: Any, archive: Path) -> None:
    (archive / "dists/trixie/InRelease").unlink()
    [found] = diagnosis.checks(computer)["archive"]()
    assert (found.state, found.text.endswith("(HTTPError): no base can be built")) == (Health.WARNING, True)
    assert "hidden" not in found.text


def test_packages_that_the_first_bake_installs_are_a_warning(computer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "missing_packages", lambda: ["mtools"])
    [found] = diagnosis.checks(computer)["computer"]()
    assert (found.state, found.text.partition(";")[0]) == (Health.WARNING, "not installed: mtools")
    assert "apt-get install --no-install-recommends mtools" in found.next_step


def test_computer_that_cannot_run_machines_raises_why(computer: Any) -> None:
    computer.error = MissingToolError("needs Linux")
    with pytest.raises(MissingToolError):
        diagnosis.checks(computer)["computer"]()


def test_reason_why_kvm_is_not_used_and_its_fix_are_apart(computer: Any) -> None:
    computer.told = (KVM,)
    [found] = diagnosis.checks(computer)["accelerator"]()
    assert (found.state, found.next_step) == (Health.WARNING, "Run: sudo adduser me kvm")
    assert found.text == KVM.partition(". ")[0]
