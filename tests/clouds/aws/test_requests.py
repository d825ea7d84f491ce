"""Which requests a bake and a launch send, in order. Each that is repeated until something has happened is listed once."""

from __future__ import annotations

from itertools import groupby

import pytest

from clouds.aws import lookup
from clouds.driver import Base
from tests.clouds.aws.stage import Stage

pytestmark = pytest.mark.server

BAKE = """
    DescribeImages: is there an equal image; where does the builder start; which version is next
    DescribeSubnets
    CreateSecurityGroup RunInstances
    DescribeInstances: it runs, and no older machine has its name
    GetConsoleOutput
    StopInstances DescribeInstances: it is off
    CreateImage DescribeImages: it is finished and listed by its name
    TerminateInstances DeleteSecurityGroup: possible once it is gone
    CreateSecurityGroup AuthorizeSecurityGroupIngress RunInstances
    DescribeInstances: it runs, and no older machine has its name
    GetConsoleOutput: its host key
    DescribeInstances: the machines for the ssh config
    GetConsoleOutput: its tests
    DescribeInstances: is it ours, before it is removed
    TerminateInstances DeleteSecurityGroup: possible once it is gone
    CreateTags: the image is stable
"""
LAUNCH = """
    DescribeImages: the newest stable one
    DescribeInstances: is the name free
    DescribeSubnets
    CreateSecurityGroup AuthorizeSecurityGroupIngress RunInstances
    DescribeInstances: it runs, and no older machine has its name
    GetConsoleOutput: its host key
    DescribeInstances: the machines for the ssh config
    CreateTags: it is no longer in progress
"""


def actions(text: str) -> list[str]:
    return [word for line in text.splitlines() for word in line.partition(":")[0].split()]


def sent(stage: Stage) -> list[str]:
    """Return the requests since the last call, each once where it follows itself."""
    found = [action for action, _ in groupby(call.action for call in stage.server.calls)]
    stage.server.calls.clear()
    return found


def test_a_bake_and_a_launch_send_these_requests_and_no_others(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "FRESH_S", 3600.0)  # else a slow computer asks once more
    cloud = stage.connect()
    assert cloud.account
    cloud.resolve_base(Base("trixie", "amd64"))
    stage.server.calls.clear()
    stage.bake()
    assert stage.error is None, stage.told
    assert sent(stage) == actions(BAKE)
    stage.launch()
    assert stage.error is None, stage.told
    assert sent(stage) == actions(LAUNCH)
