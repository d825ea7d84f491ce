"""Whether a user may build a base without root, and the command that is named where not."""

from __future__ import annotations

import pytest

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
    assert fix == "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"


def test_kernel_settings_that_allow_namespaces_are_not_named() -> None:
    allowed = {"kernel.apparmor_restrict_unprivileged_userns": "", "kernel.unprivileged_userns_clone": "1"}
    assert forbidding_switch(allowed) == ("", "")
