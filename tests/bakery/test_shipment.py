"""Whether a cloud takes what a builder needs at a boot: at its limit, one byte over, and far over; and what is sent then."""

from __future__ import annotations

import gzip
import random
from base64 import decodebytes
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.recipe.recipe import Copy, Recipe, Step
from bakery.script.render import Script, digest, render
from bakery.script.resolve import Resolution
from bakery.shipment import Shipment, archives_for, carry, described, fits, sent_bytes, transfer_s
from clouds.driver import Base, BaseImage, Limits
from tests.fake_cloud import FakeCloud
from tests.fake_layers import LayeredCloud
from tests.fake_world import World

MIB = 2**20


def script_of(folder: Path, *sizes: int) -> Script:
    """Return a script that copies files of these sizes, each in a step of its own."""
    steps = []
    for number, size_bytes in enumerate(sizes):
        (folder / f"large{number}").write_bytes(random.Random(number).randbytes(size_bytes))
        copy = Copy(**{"from": f"large{number}", "to": "/opt/"})
        steps.append(Step(name=f"copy{number}", copy=(copy,)))
    return render(Recipe(name="large", folder=folder, steps=tuple(steps)), Resolution({}, ""))


def cloud_with(limits: Limits, folder: Path, kind: type[FakeCloud] = FakeCloud) -> FakeCloud:
    cloud = kind(World(folder))
    cloud.limits = limits
    return cloud


def boot_text(script: Script, limits: Limits) -> str:
    carried = carry(script.archives(0), limits)
    assert carried is not None
    return script.for_boot("0" * 32, deadline_s=1800, carried=carried)


def test_a_script_at_the_limit_is_taken_at_a_boot_and_one_byte_more_is_sent(tmp_path: Path) -> None:
    script = script_of(tmp_path, 1000)
    size_bytes = len(boot_text(script, Limits()).encode())
    at, over = (cloud_with(Limits(script_bytes=limit), tmp_path) for limit in (size_bytes, size_bytes - 1))
    assert sent_bytes(at, script, deadline_s=1800) == 0
    sent = sent_bytes(over, script, deadline_s=1800)
    (archive,) = script.archives(0)
    assert sent == archive.size_bytes + len(script.for_boot("0" * 32, deadline_s=1800).encode())


def test_a_limit_of_compressed_scripts_counts_them_so(tmp_path: Path) -> None:
    script = script_of(tmp_path)
    plain = script.for_boot("0" * 32, deadline_s=1800)
    limits = Limits(script_bytes=len(gzip.compress(plain.encode())) + 100, compresses_script=True)
    assert sent_bytes(cloud_with(limits, tmp_path), script, deadline_s=1800) == 0
    assert sent_bytes(cloud_with(replace(limits, compresses_script=False), tmp_path), script, deadline_s=1800) > 0
    small = replace(limits, script_bytes=limits.script_bytes - 200)
    assert sent_bytes(cloud_with(small, tmp_path), script, deadline_s=1800) == len(plain.encode())


def test_without_a_limit_everything_is_taken(tmp_path: Path) -> None:
    assert sent_bytes(cloud_with(Limits(), tmp_path), script_of(tmp_path, MIB), deadline_s=1800) == 0


def test_a_file_of_20_mib_is_sent_whole(tmp_path: Path) -> None:
    script = script_of(tmp_path, 20 * MIB)
    cloud = cloud_with(Limits(script_bytes=256 * 1024), tmp_path)
    assert 20 * MIB < sent_bytes(cloud, script, deadline_s=1800) < 20.1 * MIB


def test_what_is_carried_is_the_archive(tmp_path: Path) -> None:
    (archive,) = script_of(tmp_path, 5000).archives(0)
    packed = bytearray()
    archive.write(packed.extend)
    carried = carry([archive], Limits())
    assert carried is not None
    assert gzip.decompress(decodebytes(carried[archive.sha256].encode())) == packed
    assert carry([archive], Limits(script_bytes=4000)) is None


def test_a_cloud_with_layers_gets_the_files_of_the_next_step_alone(tmp_path: Path) -> None:
    """The checkpoints are boot, prepare, copy0, copy1, seal."""
    script = script_of(tmp_path, 3000, 50_000)
    first, second = script.archives(0)
    layered, plain = (cloud_with(Limits(script_bytes=60_000), tmp_path, kind) for kind in (LayeredCloud, FakeCloud))
    assert [archives_for(layered, script, done) for done in range(5)] == [(), (), (first,), (second,), ()]
    assert [archives_for(plain, script, done) for done in range(5)] == [(first, second)] * 3 + [(second,), ()]
    assert second.size_bytes < sent_bytes(layered, script, deadline_s=1800) < sent_bytes(plain, script, deadline_s=1800)


@pytest.mark.parametrize("kind", [FakeCloud, LayeredCloud])
def test_the_way_of_a_script_changes_no_digest(tmp_path: Path, kind: type[FakeCloud]) -> None:
    base = BaseImage("base", "somebody", Base("trixie", "amd64"))
    script = script_of(tmp_path, 3000)
    before = digest(script, None, base)
    for limits in (Limits(), Limits(script_bytes=100)):
        sent_bytes(cloud_with(limits, tmp_path, kind), script, deadline_s=1800)
        assert digest(script_of(tmp_path, 3000), None, base) == before


def test_the_time_for_a_transfer_grows_with_its_size_and_only_its_beginning_with_slowness(tmp_path: Path) -> None:
    cloud = cloud_with(Limits(), tmp_path)
    assert transfer_s(cloud, 0) == 0
    assert transfer_s(cloud, 25_000_000) == 120 + 100
    cloud.slowness = 10.0
    assert transfer_s(cloud, 25_000_000) == 1200 + 100


def test_the_reason_names_size_and_limit(tmp_path: Path) -> None:
    cloud = cloud_with(Limits(script_bytes=16384, compresses_script=True), tmp_path)
    expected = "script and files (20.0 MB) are sent to the builder over SSH: fake accepts 16 KiB compressed at boot"
    assert described(cloud, 20_000_000) == expected


def test_a_shipment_names_its_files_as_the_steps_ask_for_them(tmp_path: Path) -> None:
    script = script_of(tmp_path, 10)
    (archive,) = script.archives(0)
    assert Shipment("echo\n", (archive,)).sizes == {f"{archive.sha256}.tar": archive.size_bytes, "script": 5}
    assert fits("abc", Limits(script_bytes=3))
    assert not fits("abc", Limits(script_bytes=3), spare_bytes=1)
