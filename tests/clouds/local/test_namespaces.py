"""Whether a user may build a base without root, and the command that is named where not."""

from __future__ import annotations

import pytest

from clouds.errors import DeniedError
from clouds.local import namespaces
from clouds.local.namespaces import forbidding_switch, missing_ranges

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


@pytest.mark.parametrize(
    ("words", "switch", "has_profile", "problem", "fix"),
    [
        ("mount: /tmp: permission denied.", "0", True, "unshare-userns-restrict", "apparmor_parser -R"),
        ("mount: /tmp: permission denied.", "1", True, "userns is 1", "sysctl --system"),
        ("mount: /tmp: permission denied.", "0", False, "mount: /tmp: permission denied.", ""),
        ("unshare: write failed", "0", True, "unshare: write failed", ""),
    ],
)
def test_refused_mount_is_explained(words: str, switch: str, has_profile: bool, problem: str, fix: str) -> None:
    switches = {"kernel.apparmor_restrict_unprivileged_userns": switch}
    found = namespaces.explain(words, switches, has_profile=has_profile)
    assert problem in found[0]
    assert fix in found[1]
    assert bool(found[1]) == bool(fix)


def test_user_who_may_not_build_is_told_everything_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_lacking_ranges", lambda: ("user me has no range", "sudo usermod me"))
    monkeypatch.setattr(namespaces, "_failed", lambda _: [("kernel.x is 0", "sudo sysctl kernel.x=1")])
    with pytest.raises(DeniedError, match=r"user me has no range; kernel\.x is 0") as raised:
        namespaces.check_namespaces()
    assert raised.value.next_step == "sudo usermod me && sudo sysctl kernel.x=1"


def test_where_no_command_is_known_another_computer_is_named() -> None:
    assert "container that permits user namespaces" in namespaces.advice(["sudo usermod me", ""])


def test_command_that_fails_in_a_namespace_is_reported_with_its_message() -> None:
    [(problem, _)] = namespaces._failed(["sh", "-c", "echo no such luck >&2; exit 1"])
    assert "no such luck" in problem or "kernel." in problem or "user." in problem
    assert namespaces._failed(["true"]) == []
