"""Machines on spot capacity that AWS stops, and accounts that have never used it."""

from __future__ import annotations

import pytest

from clouds.driver import End, Kind, Wishes
from clouds.errors import DeniedError, InvalidError
from clouds.lifecycle import settle
from tests.clouds.aws.stage import Stage
from tests.servers.ec2 import ApiError

pytestmark = pytest.mark.server


def test_a_machine_that_aws_has_stopped_is_not_started_and_can_be_deleted(stage: Stage) -> None:
    """Only AWS starts it again: docs.aws.amazon.com/AWSEC2/latest/UserGuide/interruption-behavior.html."""
    stage.server.switches.notice_s, stage.server.switches.respawn_s = 0, 600
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(spot=True, on_preempt=End.STOP))
    stage.server.interrupt("mine")
    stage.server.advance(1)
    stage.server.advance(1)
    assert stage.instance()["State"]["Name"] == "stopped"
    with pytest.raises(InvalidError, match="AWS has reclaimed its spot capacity") as caught:
        cloud.start("mine", deadline_s=0, facts={})
    assert "AWS starts it again when there is capacity" in caught.value.next_step
    assert stage.server.count("StartInstances") == 0
    assert cloud.was_reclaimed("mine")
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    stage.server.advance(1200)
    assert stage.left() == []


def test_the_first_spot_machine_of_an_account_says_which_role_is_missing(stage: Stage) -> None:
    """dstackai/dstack#886."""
    message = "The provided credentials do not have permission to create the service-linked role for EC2 Spot Instances."
    missing = ApiError("AuthFailure.ServiceLinkedRoleCreationNotPermitted", message, status=403)
    stage.server.fault("RunInstances", error=missing, nth=None)
    with pytest.raises(DeniedError) as caught:
        stage.boot(wishes=Wishes(spot=True))
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in caught.value.next_step
    assert stage.left() == []
