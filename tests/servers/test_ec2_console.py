"""The EC2 server: what GetConsoleOutput returns, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2_asking import STATE_S, boot, launch, refusal
from tests.servers.vm import READ, ScriptedVms

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def _latest(api: Any, instance_id: str) -> str:
    return str(api.get_console_output(InstanceId=instance_id, Latest=True).get("Output", ""))


def _posted(api: Any, instance_id: str) -> str:
    return str(api.get_console_output(InstanceId=instance_id).get("Output", ""))


def test_latest_is_the_output_now(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["one\n", 5.0, "two\n"]
    one = boot(ec2, api)
    assert _latest(api, one) == "one\n"
    ec2.advance(5)
    assert _latest(api, one) == "one\ntwo\n"


def test_without_latest_it_is_what_was_posted_after_the_last_change(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    ec2.switches.console_post_s = 3.0
    vms.play = lambda vm: ["one\n", 5.0, "two\n"]
    one = boot(ec2, api)
    assert "Output" not in api.get_console_output(InstanceId=one)
    ec2.advance(3)
    assert _posted(api, one) == "one\n"
    ec2.advance(10)
    assert _posted(api, one) == "one\n"
    api.stop_instances(InstanceIds=[one])
    assert _posted(api, one) == "one\ntwo\n"


def test_the_output_of_a_terminated_instance_is_kept(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["failed\n"]
    one = boot(ec2, api)
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert (_posted(api, one), _latest(api, one)) == ("failed\n", "failed\n")


def test_only_the_last_64_kib_are_kept(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api)
    vms.write(one, b"a" + b"b" * 65_536)
    assert _latest(api, one) == "b" * 65_536
    vms.write(one, b"c")
    assert _latest(api, one) == "b" * 65_535 + "c"


def test_a_pending_instance_has_no_output(ec2: Ec2, api: Any) -> None:
    assert "Output" not in api.get_console_output(InstanceId=launch(api), Latest=True)


def test_latest_is_for_nitro_only(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["one\n"]
    one = boot(ec2, api, InstanceType="t2.small")
    code, message, _ = refusal(api.get_console_output, InstanceId=one, Latest=True)
    assert (code, message) == ("UnsupportedOperation", "This instance type does not support retrieving the latest console logs")
    assert _posted(api, one) == "one\n"


def test_minutes_may_pass_before_the_first_byte(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    ec2.switches.console_delay_s = 180.0
    vms.play = lambda vm: ["one\n"]
    one = boot(ec2, api)
    ec2.advance(179)
    assert _latest(api, one) == ""
    ec2.advance(1)
    assert _latest(api, one) == "one\n"


def test_a_read_need_not_be_complete(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["one\n", READ, "two\n"]
    one = boot(ec2, api)
    vms.serial(one, 1)
    assert _latest(api, one) == "one\ntwo\n"


def test_a_restart_begins_a_new_output(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    vms.play = lambda vm: [f"boot {len(vms.boots)}\n"]
    one = boot(ec2, api)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    api.start_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert _latest(api, one) == "boot 2\n"


def test_output_that_is_no_text_passes(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api)
    vms.write(one, b"\x1b[0m\xff\n")
    import base64

    from tests.servers.ec2_asking import ask

    answer = ask(ec2, "GetConsoleOutput", {"InstanceId": one, "Latest": "true"})
    assert base64.b64decode(answer.text("output")) == b"\x1b[0m\xff\n"
