"""The public DNS names of machines on AWS."""

from __future__ import annotations

import json

import pytest

import clouds
from clouds.driver import Wishes
from launcher.machines import machines
from tests.cli.verbs import run
from tests.clouds.aws.stage import Stage

pytestmark = pytest.mark.server


def test_a_launch_and_the_list_show_the_public_dns_name_without_a_request_for_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: stage.connect())
    stage.bake()
    code, stdout, stderr = run("launch", recipe="tiny", name="mine", json=True)
    assert code == 0, stderr
    dns = stage.instance()["PublicDnsName"]
    assert dns
    assert json.loads(stdout)["dns"] == dns
    stage.server.calls.clear()
    assert json.loads(run("machines", json=True)[1])[0]["dns"] == dns
    assert [call.action for call in stage.server.calls if call.service == "ec2"] == ["DescribeInstances"]


def test_a_machine_without_a_public_address_has_none(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(no_public_ip=True))
    assert cloud.dns_name("mine") == ""
    assert "dns" not in machines(cloud)[0].to_json()
