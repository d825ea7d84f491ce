"""The Compute Engine server: what the serial ports tell."""

from __future__ import annotations

from collections.abc import Iterable

from tests.fake_guest import OK, play
from tests.servers.asking import ZONE, boot, done, get
from tests.servers.gce import Gce
from tests.servers.vm import OFF, RING_BYTES, Ring, ScriptedVms, Step, Vm

PORT = f"{ZONE}/instances/one/serialPort"


def _ring(*pieces: bytes) -> Ring:
    ring = Ring(8)
    for piece in pieces:
        ring.write(piece)
    return ring


def test_a_ring_keeps_the_newest_bytes_and_counts_all() -> None:
    assert _ring(b"0123456", b"789").read(0) == (2, b"23456789")


def test_a_ring_is_read_on_from_a_position() -> None:
    assert _ring(b"0123456", b"789").read(7) == (7, b"789")


def test_a_negative_position_counts_from_the_end() -> None:
    assert _ring(b"0123456", b"789").read(-3) == (7, b"789")


def test_a_negative_position_past_the_ring_begins_with_what_is_kept() -> None:
    assert _ring(b"0123456", b"789").read(-100) == (2, b"23456789")


def test_a_position_past_the_end_gives_nothing() -> None:
    assert _ring(b"0123").read(9) == (4, b"")


def test_the_text_comes_with_the_position_to_read_on_from(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: [f"{vm.name} boots\n"]
    boot(gce, "one")
    first = get(gce, PORT)
    assert (first["contents"], first["start"], first["next"]) == ("one boots\n", "0", "10")
    vms.write("projects/demo/" + PORT.removesuffix("/serialPort"), b"more\n")
    assert get(gce, PORT, start=first["next"])["contents"] == "more\n"


def test_output_that_was_lost_shows_in_start(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: [b"x" * 100, b"y" * RING_BYTES]
    boot(gce, "one")
    answer = get(gce, PORT, start=50)
    assert (answer["start"], answer["next"], len(answer["contents"])) == ("100", str(RING_BYTES + 100), RING_BYTES)


def test_text_in_pieces_comes_with_time(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["a", 60.0, "b", 60.0, "c"]
    boot(gce, "one")
    seen = [get(gce, PORT)["contents"]]
    for _ in range(2):
        gce.advance(61)
        seen.append(get(gce, PORT)["contents"])
    assert seen == ["a", "ab", "abc"]


def test_a_suspended_guest_says_nothing_until_it_is_resumed(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["a", 60.0, "b"]
    boot(gce, "one")
    done(gce, "POST", f"{ZONE}/instances/one/suspend")
    gce.advance(100)
    assert gce.serial("one") == b"a"
    done(gce, "POST", f"{ZONE}/instances/one/resume")
    assert gce.serial("one") == b"ab"


def test_the_other_ports_are_silent(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["a"]
    boot(gce, "one")
    assert get(gce, PORT, port=2)["contents"] == ""


def test_a_new_start_begins_the_output_anew(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: [f"boot {len(vms.boots)}\n"]
    boot(gce, "one")
    for verb in ("stop", "start"):
        done(gce, "POST", f"{ZONE}/instances/one/{verb}")
    assert get(gce, PORT)["contents"] == "boot 2\n"


def test_the_guests_of_the_fake_cloud_play_here_too(gce: Gce, vms: ScriptedVms) -> None:
    def boots(vm: Vm) -> Iterable[Step]:
        played = play(OK, name=vm.name, script=vm.metadata.get("startup-script", ""), facts={"NONCE": "0123456789abcdef"})
        return [played.console] if played.is_on else [played.console, OFF]

    vms.play = boots
    boot(gce, "one")
    assert "fact ready identity" in get(gce, PORT)["contents"]
