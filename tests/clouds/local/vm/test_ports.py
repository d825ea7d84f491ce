"""Ports of this computer that are forwarded to a running machine; a server stands for its QEMU."""

from pathlib import Path
from typing import Any

import pytest

from clouds.errors import CloudError
from clouds.local.vm import qemu
from clouds.local.vm.ports import open_ports
from tests.clouds.local.vm.test_sockets import GREETING, Answer, serving


def refusing(*words: str) -> Answer:
    """Return a QEMU that refuses the first ports with these words, one each, and forwards those after them."""
    left = list(words)

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        is_forward = message["execute"] == "human-monitor-command"
        return {"return": left.pop(0) if is_forward and left else ""}

    return answer


def test_port_that_is_taken_by_now_is_replaced_by_a_free_one(tmp_path: Path) -> None:
    with serving(tmp_path, qemu.QMP, refusing("could not set up host forwarding rule"), greeting=GREETING) as asked:
        opened = open_ports(tmp_path, {"22": 4711})
    assert opened.keys() == {"22"}
    assert opened["22"] not in (0, 4711)
    lines = [message["arguments"]["command-line"] for message in asked if message["execute"] == "human-monitor-command"]
    assert "4711" in lines[0]
    assert str(opened["22"]) in lines[1]


def test_error_for_ports_that_qemu_always_refuses_contains_its_words(tmp_path: Path) -> None:
    always = refusing(*["invalid host forwarding rule"] * 99)
    with serving(tmp_path, qemu.QMP, always, greeting=GREETING), pytest.raises(CloudError, match="invalid host") as raised:
        open_ports(tmp_path, {"22": 0})
    assert "Run the command again" in raised.value.next_step
