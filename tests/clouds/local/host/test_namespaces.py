"""Whether a user may build a base without root, and the command that is named where not."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from clouds.errors import DeniedError
from clouds.local.host import namespaces
from clouds.local.host.namespaces import forbidding_switch, missing_ranges

ME = "me:100000:65536\n"
OTHERS = "you:100000:65536\nothers:165536:65536\n"


def test_user_with_both_ranges_lacks_nothing() -> None:
    assert missing_ranges("me", f"you:0:1\n{ME}", ME) == ("", "")


def test_missing_ranges_are_named_together_with_one_command_that_gives_both() -> None:
    problem, fix = missing_ranges("me", "", "")
    assert "/etc/subuid and /etc/subgid" in problem
    assert fix == "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 me"


def test_proposed_range_is_behind_those_of_others() -> None:
    _, fix = missing_ranges("me", ME, OTHERS)
    assert fix == "sudo usermod --add-subgids 231072-296607 me"


@pytest.mark.parametrize("line", ["me:100000:1000", "me:x:65536", "# me:100000:65536", "me2:100000:65536", "me"])
def test_line_that_gives_too_little_is_none(line: str) -> None:
    assert "/etc/subuid" in missing_ranges("me", line, ME)[0]


def test_kernel_setting_that_forbids_namespaces_is_named_with_the_command() -> None:
    problem, fix = forbidding_switch({"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "9"})
    assert problem == "kernel.apparmor_restrict_unprivileged_userns is 1"
    line = "kernel.apparmor_restrict_unprivileged_userns=0"
    assert fix == f"echo {line} | sudo tee -a /etc/sysctl.d/60-bakehouse.conf && sudo sysctl --system"  # also after a reboot


def test_kernel_settings_that_allow_namespaces_are_not_named() -> None:
    allowed = {"kernel.apparmor_restrict_unprivileged_userns": "", "kernel.unprivileged_userns_clone": "1"}
    assert forbidding_switch(allowed) == ("", "")


def test_user_who_may_not_build_is_told_everything_before_anything_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(namespaces, "_lacking_ranges", lambda: ("user me has no range", "sudo usermod me"))
    monkeypatch.setattr(namespaces, "_failed", lambda _: [("kernel.x is 0", "sudo sysctl kernel.x=1")])
    monkeypatch.setattr(namespaces, "which", lambda _: None)
    with pytest.raises(DeniedError, match=r"user me has no range; kernel\.x is 0") as raised:
        namespaces.check_namespaces(tmp_path / "profile")
    assert raised.value.next_step == "sudo usermod me && sudo sysctl kernel.x=1"


def test_where_no_command_is_known_another_computer_is_named() -> None:
    assert "container that permits user namespaces" in namespaces.advice(["sudo usermod me", ""])


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand for another computer: its programs are those in the folder, no setting forbids anything, the user has ranges."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(namespaces, "which", lambda name: str(tmp_path / name) if (tmp_path / name).exists() else None)
    monkeypatch.setattr(namespaces, "_lacking_ranges", lambda: ("", ""))
    monkeypatch.setattr(namespaces, "_switch", lambda _: "")
    return tmp_path


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def install_helper(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a program that stands for mmdebstrap, which a fast test may not run."""
    for name in ("newuidmap", "newgidmap", "mmdebstrap"):
        install(folder, name, "exit 1")
    install(folder, "helper", script)
    monkeypatch.setattr(namespaces, "_MOUNT", ["helper", *namespaces._MOUNT[1:]])


def test_mmdebstrap_makes_the_namespace_that_is_checked_and_mounts_in_it(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert namespaces._MOUNT[0] == "mmdebstrap"
    install(computer, "unshare", "exit 1")
    install_helper(computer, 'test "$*" = "--unshare-helper mount -t tmpfs tmpfs /mnt"', monkeypatch)
    assert namespaces.obstacles(computer / "profile") == []


def test_mount_that_is_refused_in_it_is_reported_in_one_line(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = ("W: a warning", "mount: /mnt: permission denied.", "E: system failed: 8192", "E: unshared command failed")
    install_helper(computer, f"printf '%s\\n' {shlex.join(said)} >&2; exit 1", monkeypatch)
    [(problem, fix)] = namespaces.obstacles(computer / "profile")
    assert problem == "this user may not create user namespaces (W: a warning; mount: /mnt: permission denied.)"
    assert fix == ""


def test_refusal_by_apparmor_names_the_setting_and_the_command(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_helper(computer, "echo E: setgid failed >&2; exit 1", monkeypatch)
    monkeypatch.setattr(namespaces, "_switch", lambda name: "1" if "apparmor" in name else "")
    with pytest.raises(DeniedError) as raised:
        namespaces.check_namespaces()
    assert "(kernel.apparmor_restrict_unprivileged_userns is 1)" in str(raised.value)
    assert "kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee" in raised.value.next_step


@pytest.mark.parametrize("permits", [True, False])
def test_before_mmdebstrap_is_installed_its_profile_decides(computer: Path, permits: bool) -> None:
    install(computer, "unshare", "echo unshare: write failed >&2; exit 1")
    if permits:
        (computer / "profile").write_text("profile mmdebstrap /usr/bin/mmdebstrap flags=(unconfined) { userns, }")
    problems = [problem for problem, _ in namespaces.obstacles(computer / "profile")]
    assert problems == ([] if permits else ["this user may not create user namespaces (unshare: write failed)"])


def test_lacking_range_is_not_reported_as_a_refusal_too(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_helper(computer, "exit 1", monkeypatch)
    install(computer, "unshare", "exit 0")
    monkeypatch.setattr(namespaces, "_lacking_ranges", lambda: ("user me has no range", "sudo usermod me"))
    assert namespaces.obstacles(computer / "profile") == [("user me has no range", "sudo usermod me")]


def test_command_that_fails_in_a_namespace_is_reported_with_its_message() -> None:
    [(problem, _)] = namespaces._failed(["sh", "-c", "echo no such luck >&2; exit 1"])
    assert "no such luck" in problem or "kernel." in problem or "user." in problem
    assert namespaces._failed(["true"]) == []
