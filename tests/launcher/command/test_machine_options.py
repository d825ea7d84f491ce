import os
from pathlib import Path

import pytest

from clouds.driver import End, Gpu, Wishes
from clouds.errors import UsageError
from clouds.ledger import Ledger
from launcher.command.flags import Values, dollars, end, gpu, port, read
from launcher.command.launching import checked_launch
from launcher.command.machine_options import PLACE_FLAGS, SOURCE, check_granted, given, wishes
from launcher.command.verbs import VERBS
from launcher.launch import LaunchOptions, launch
from tests.fake_cloud import FakeCloud

(LAUNCH,) = (verb for verb in VERBS if verb.name == "launch")


def values(**typed: str | bool) -> Values:
    """Return the values of a launch with these flags."""
    nothing: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in LAUNCH.flags}
    return read(LAUNCH, nothing | typed)


def test_without_flags_no_option_is_set() -> None:
    assert wishes(values()) == Wishes()
    assert given(values(), (*PLACE_FLAGS, SOURCE)) == {}


def test_each_flag_sets_an_option() -> None:
    typed = {"type": "big-8", "disk_type": "fast", "static_ip": "mine", "on_preempt": "delete", "port": "8443"}
    wished = wishes(values(**typed, spot=True, https=True))
    expected = Wishes(machine_type="big-8", spot=True, on_preempt=End.DELETE, disk_type="fast", static_ip="mine", https_port=8443)
    assert wished == expected
    assert wishes(values(no_public_ip=True)).no_public_ip
    assert wishes(values(keep_disk=True)).keep_disk


@pytest.mark.parametrize(
    ("typed", "wished"), [("t4", Gpu("t4")), ("A10G:4", Gpu("a10g", 4)), ("h100:16", Gpu("h100", 16)), ("t4:100", Gpu("t4", 100))]
)
def test_gpus_are_a_model_and_a_number(typed: str, wished: Gpu) -> None:
    assert wishes(values(gpu=typed)).gpu == wished


@pytest.mark.parametrize("typed", ["", "4", "t4:", "t4:0", "t4:1e9", "t 4", "t4:x", "a100,t4"])
def test_invalid_gpu_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="write its model"):
        gpu(typed)


def test_the_highest_price_of_spot_capacity_is_in_dollars_per_hour() -> None:
    assert wishes(values(spot=True, max_price="0.05")).max_price_usd == 0.05


@pytest.mark.parametrize(
    ("typed", "told"),
    [(typed, "not a price in US dollars per hour") for typed in ("", "cheap", "$0.05", "1e3", "nan", "0,05")]
    + [("0", "too small"), ("-1", "too small"), ("0.0009", "too small"), ("99999999", "too large")],
)
def test_invalid_price_is_refused(typed: str, told: str) -> None:
    with pytest.raises(ValueError, match=rf"is {told} \(write one from 0\.001 to 10000\)"):
        dollars(typed)


def test_https_is_on_its_usual_port_by_default() -> None:
    assert wishes(values(https=True)).https_port == 443


def test_where_a_machine_runs_is_a_setting() -> None:
    typed = {"zone": "z", "region": "r", "network": "n", "subnet": "s", "source": "203.0.113.7/32"}
    assert given(values(**typed), (*PLACE_FLAGS, SOURCE)) == typed


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"max_price": "0.05", "no_spot": True}, "--max-price: cannot be combined with --no-spot"),
        ({"port": "8443", "no_https": True}, "--port: cannot be combined with --no-https"),
        ({"spot": True, "no_spot": True}, "--spot: cannot be combined with --no-spot"),
        ({"https": True, "no_https": True}, "--https: cannot be combined with --no-https"),
        ({"on_preempt": "delete", "no_spot": True}, "--on-preempt: cannot be combined with --no-spot"),
        ({"type": "big-8", "gpu": "t4"}, "--gpu: cannot be combined with --type"),
        ({"type": "big-8", "cpus": "2"}, "--type: cannot be combined with --cpus or --memory-mb"),
        ({"no_public_ip": True, "static_ip": "mine"}, "--static-ip: cannot be combined with --no-public-ip"),
    ],
)
def test_flags_that_make_no_sense_together_are_refused(typed: dict[str, str | bool], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        wishes(values(**typed))


@pytest.mark.parametrize("typed", ["Bad Name!", "My_Address", "1st", "ends-", "-a", "a" * 64])
def test_invalid_name_of_an_address_is_refused_with_the_rule(typed: str) -> None:
    with pytest.raises(UsageError, match=r"--static-ip: .* is not a name for an address \(write at most 63 of a-z, 0-9 and '-'"):
        values(static_ip=typed)


def test_name_of_an_address_may_have_63_characters() -> None:
    assert wishes(values(static_ip="a" * 63)).static_ip == "a" * 63


@pytest.mark.parametrize("typed", ["", "0", "65536", "https", "-1", "8443 "])
def test_invalid_port_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="write a number"):
        port(typed)


def test_a_machine_that_is_taken_back_is_stopped_or_deleted_and_nothing_else() -> None:
    assert {end("stop"), end("delete")} == set(End)
    with pytest.raises(ValueError, match="write stop or delete"):
        end("suspend")


def test_a_check_reads_files_but_leaves_pipes_for_the_launch(tmp_path: Path) -> None:
    end, other = os.pipe()
    os.write(other, b"a good password")
    os.close(other)
    assert checked_launch(values(password_file=f"/dev/fd/{end}"))[1].password is None
    assert os.read(end, 100) == b"a good password"
    os.close(end)
    (tmp_path / "short").write_text("short")
    with pytest.raises(UsageError, match="password"):
        checked_launch(values(password_file=str(tmp_path / "short")))


def test_every_unsupported_option_is_refused_before_anything_is_created(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    fake.grants = frozenset({"disk_type"})
    options = LaunchOptions(wishes=Wishes(spot=True, disk_type="fast", https_port=443))
    with pytest.raises(UsageError) as raised:
        launch(fake, ledger, options)
    assert raised.value.message.splitlines() == [
        "--spot: not supported by cloud 'fake' (leave it out, or choose another --cloud)",
        "--https: not supported by cloud 'fake' (leave it out, or choose another --cloud)",
    ]
    assert (fake.world.machines, ledger.entries("fake")) == ({}, [])


def test_each_option_has_a_flag(fake: FakeCloud) -> None:
    wished = Wishes(
        machine_type="x", spot=True, on_preempt=End.DELETE, disk_type="x", static_ip="x", no_public_ip=True, https_port=1
    )
    with pytest.raises(UsageError) as raised:
        check_granted(fake, wished)
    assert len(raised.value.message.splitlines()) == 7
