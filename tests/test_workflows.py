"""What CI runs on GitHub: that an ordinary user's own home is used, and what is said of KVM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EACH = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


@EACH
def test_home_of_the_runners_user_is_used(workflow: Path) -> None:
    """That of GitHub's user is closed to others (0750), as are those of most people."""
    text = workflow.read_text(encoding="utf-8")
    assert "BAKEHOUSE_HOME" not in text
    assert "~/.local/share/bakehouse/bakes/" in text


@EACH
def test_kvm_is_opened_by_a_rule_before_anything_is_installed_and_checked_at_the_end(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    job = text[text.index("/etc/udev/rules.d/") :]
    assert job.index("udevadm settle") < min(job.index(word) for word in ("./inv", ".ci/run") if word in job)
    assert "run: .ci/check-kvm" in job
    assert "chmod" not in text


# The check of KVM


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/check-kvm", tmp_path / ".ci")
    return tmp_path


def check(project: Path, plan: str, device: str) -> subprocess.CompletedProcess[str]:
    """Run the check beside an `inv` that prints a plan."""
    (project / "inv").write_text(f"#!/bin/sh\n[ \"$*\" = 'plan --recipe minimal' ] || exit 9\ncat <<'END'\n{plan}\nEND\n")
    (project / "inv").chmod(0o755)
    return subprocess.run([project / ".ci/check-kvm", device], capture_output=True, text=True, timeout=30, check=False)


def test_runner_without_kvm_passes_and_says_so(project: Path) -> None:
    done = check(project, "accelerator: tcg", str(project / "nosuch"))
    assert done.returncode == 0
    assert done.stdout.startswith("::notice title=No KVM::")


def test_runner_with_kvm_passes_where_machines_run_on_it(project: Path) -> None:
    done = check(project, "bake: would run\naccelerator: kvm", "/dev/null")
    assert (done.returncode, done.stdout) == (0, "bake: would run\naccelerator: kvm\n")


def test_runner_with_kvm_fails_where_machines_are_emulated_and_shows_why(project: Path) -> None:
    done = check(project, "accelerator: tcg\n  KVM is not used: no permission to open /dev/kvm", "/dev/null")
    assert done.returncode == 1
    assert "KVM is not used: no permission to open /dev/kvm" in done.stdout
    assert "::error title=KVM is not used::" in done.stdout


def test_plan_that_fails_is_a_failure(project: Path) -> None:
    assert check(project, "", "/dev/null").returncode == 1
