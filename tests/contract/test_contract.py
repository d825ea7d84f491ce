"""What every cloud does alike: the same verb, the same thing."""

import ipaddress
from dataclasses import replace
from pathlib import Path

import pytest

from clouds import names
from clouds.capabilities import KeepsFiles, ReadsDisks, ReceivesFiles
from clouds.driver import START, Base, BootSpec, Cloud, ConsoleText, Kind, State
from clouds.errors import CloudError, ConflictError, InvalidError, NotFoundError
from clouds.lifecycle import console_end, is_running, settle, stop_machine
from launcher.images import find_image
from tests.contract.bench import Bench

ABSENT = "contract-nosuch"
WITH_FILES = pytest.mark.parametrize("bench", ["fake", pytest.param("local", marks=pytest.mark.vm)], indirect=True)
"""The clouds whose images can be read from outside, and keep files."""


# Names, tokens, labels


def test_base_is_the_same_until_refreshed_and_has_an_owner(cloud: Cloud) -> None:
    base = Base("trixie", "amd64")
    first, second = cloud.resolve_base(base), cloud.resolve_base(base)
    assert first == second
    assert first.base == base
    assert first.owner


def test_booting_again_with_the_same_token_is_the_same_machine(bench: Bench, cloud: Cloud, running: BootSpec) -> None:
    before = cloud.find(Kind.MACHINE, running.name)
    settle(cloud, cloud.boot(running))
    assert cloud.find(Kind.MACHINE, running.name) == before
    assert [found.name for found in cloud.owned(bench.labels)].count(running.name) == 1


def test_booting_a_name_that_is_taken_is_a_conflict_and_harms_nobody(cloud: Cloud, other: BootSpec) -> None:
    before = cloud.find(Kind.MACHINE, other.name)
    with pytest.raises(ConflictError, match=other.name):
        settle(cloud, cloud.boot(other))
    assert cloud.find(Kind.MACHINE, other.name) == before


def test_booting_from_an_image_that_is_not_there_is_not_found_and_makes_nothing(bench: Bench, cloud: Cloud) -> None:
    spec = bench.spec("nosuch-1.0-1")
    with pytest.raises(NotFoundError, match=r"nosuch-1\.0-1"):
        settle(cloud, cloud.boot(spec))
    assert cloud.find(Kind.MACHINE, spec.name) is None


def test_machine_is_found_with_its_labels(cloud: Cloud, running: BootSpec) -> None:
    found = cloud.find(Kind.MACHINE, running.name)
    assert found
    assert (found.kind, found.name, found.state) == (Kind.MACHINE, running.name, State.RUNNING)
    assert running.labels.items() <= found.labels.items()
    assert found.created_at > 0


def test_what_is_not_there_is_not_found(cloud: Cloud, running: BootSpec) -> None:
    assert cloud.find(Kind.MACHINE, ABSENT) is None
    assert cloud.find(Kind.IMAGE, ABSENT) is None
    assert cloud.find(Kind.IMAGE, running.name) is None


def test_owned_lists_what_carries_all_the_labels(bench: Bench, cloud: Cloud, running: BootSpec) -> None:
    assert running.name in [found.name for found in cloud.owned(bench.labels)]
    assert cloud.owned({**bench.labels, "role": "other"}) == []
    assert cloud.owned({**bench.labels, "nosuch": "label"}) == []


def test_owned_lists_the_oldest_first(bench: Bench, cloud: Cloud, running: BootSpec, stopped: tuple[BootSpec, str]) -> None:
    times = [found.created_at for found in cloud.owned(bench.labels)]
    assert len(times) >= 2
    assert times == sorted(times)


def test_labels_are_laid_over_those_that_are_there(cloud: Cloud, running: BootSpec) -> None:
    cloud.label(Kind.MACHINE, running.name, {"colour": "blue", "size": "s"})
    cloud.label(Kind.MACHINE, running.name, {"colour": "red"})
    found = cloud.find(Kind.MACHINE, running.name)
    assert found
    assert found.labels == {**found.labels, **running.labels, "colour": "red", "size": "s"}


def test_label_of_63_characters_is_kept_whole(cloud: Cloud, running: BootSpec) -> None:
    cloud.label(Kind.MACHINE, running.name, {"long": "x" * 63})
    found = cloud.find(Kind.MACHINE, running.name)
    assert found
    assert found.labels["long"] == "x" * 63


@pytest.mark.parametrize("kind", [Kind.MACHINE, Kind.IMAGE])
def test_labelling_what_is_not_there_is_not_found(cloud: Cloud, kind: Kind) -> None:
    with pytest.raises(NotFoundError, match=ABSENT):
        cloud.label(kind, ABSENT, {"a": "b"})


# The console


def test_console_goes_on_exactly_where_the_last_read_ended(cloud: Cloud, running: BootSpec) -> None:
    first = cloud.console(running.name)
    second = cloud.console(running.name, first.position)
    whole = cloud.console(running.name)
    assert first.text
    assert whole.text.startswith(first.text + second.text)
    assert not (first.lost or second.lost or whole.lost)


def test_console_is_read_again_from_a_position_that_was_read_from_before(cloud: Cloud, running: BootSpec) -> None:
    first = cloud.console(running.name)
    second = cloud.console(running.name, first.position)
    again = cloud.console(running.name, first.position)
    assert again.text.startswith(second.text)
    assert (second.position == first.position) == (not second.text)


def test_position_is_plain_text(cloud: Cloud, running: BootSpec) -> None:
    position = cloud.console(running.name).position
    assert isinstance(position, str)
    assert position != START


def test_console_past_its_end_has_no_text_and_the_same_offset(cloud: Cloud, stopped: tuple[BootSpec, str]) -> None:
    end = cloud.console(stopped[0].name).position
    piece = cloud.console(stopped[0].name, end)
    assert (piece.text, piece.position, piece.lost) == ("", end, False)


def test_end_of_a_console_is_behind_all_that_was_printed(cloud: Cloud, stopped: tuple[BootSpec, str]) -> None:
    end = console_end(cloud, stopped[0].name)
    assert cloud.console(stopped[0].name, end) == ConsoleText("", end)
    assert console_end(cloud, stopped[0].name) == end


def test_console_of_a_machine_that_is_not_there_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=ABSENT):
        cloud.console(ABSENT)


# The way in


def test_ssh_answers_on_loopback_or_where_a_remote_machine_is(cloud: Cloud, running: BootSpec) -> None:
    endpoint = cloud.address(running.name, 22)
    assert ipaddress.ip_address(endpoint.host).is_loopback or cloud.is_remote
    assert 0 < endpoint.port < 65536
    assert cloud.address(running.name, 22) == endpoint


def test_address_of_a_machine_that_is_not_there_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=ABSENT):
        cloud.address(ABSENT, 22)


def test_ssh_server_of_a_builder_can_be_reached_between_open_and_close_alone(bench: Bench, cloud: Cloud) -> None:
    if not isinstance(cloud, ReceivesFiles):
        pytest.skip("builders of this cloud receive nothing")
    spec = replace(bench.spec(), ports=(), receives=True)
    bench.boot(spec)
    for _ in range(2):
        settle(cloud, cloud.close_ssh(spec.name))
        settle(cloud, cloud.open_ssh(spec.name))
        settle(cloud, cloud.open_ssh(spec.name))
        assert cloud.address(spec.name, 22).port > 0
    settle(cloud, cloud.close_ssh(spec.name))
    settle(cloud, cloud.open_ssh(spec.name))
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))  # with what was opened: `bench` checks that nothing is left
    settle(cloud, cloud.close_ssh(spec.name))
    with pytest.raises(NotFoundError, match=spec.name):
        cloud.open_ssh(spec.name)


# Stop and start


def test_machine_that_was_stopped_is_off(cloud: Cloud, stopped: tuple[BootSpec, str]) -> None:
    found = cloud.find(Kind.MACHINE, stopped[0].name)
    assert found
    assert found.state is State.STOPPED
    assert not is_running(cloud, stopped[0].name)


def test_stopping_what_is_stopped_is_a_success(cloud: Cloud, stopped: tuple[BootSpec, str]) -> None:
    stop_machine(cloud, stopped[0].name)


def test_stopping_what_is_not_there_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=ABSENT):
        settle(cloud, cloud.stop(ABSENT))


def test_starting_what_is_not_there_is_not_found(cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=ABSENT):
        settle(cloud, cloud.start(ABSENT, deadline_s=0, facts={}))


def test_starting_what_is_on_is_a_success_and_boots_nothing(cloud: Cloud, running: BootSpec) -> None:
    settle(cloud, cloud.start(running.name, deadline_s=running.deadline_s, facts={}))
    assert is_running(cloud, running.name)
    assert cloud.console(running.name).text.count(" checkpoint 1/") == 1


def test_console_of_a_boot_follows_that_of_the_boot_before(bench: Bench, cloud: Cloud, stopped: tuple[BootSpec, str]) -> None:
    spec, nonce = stopped
    before = cloud.console(spec.name)
    settle(cloud, cloud.start(spec.name, deadline_s=spec.deadline_s, facts={}))
    bench.await_script(spec.name, nonce, since=before.position)
    stop_machine(cloud, spec.name)
    assert cloud.console(spec.name).text.startswith(before.text)


# Images


def test_snapshot_of_a_running_machine_is_refused(bench: Bench, cloud: Cloud, running: BootSpec) -> None:
    with pytest.raises(InvalidError, match=running.name):
        settle(cloud, cloud.snapshot(running.name, ABSENT, bench.labels))
    assert cloud.find(Kind.IMAGE, ABSENT) is None


def test_snapshot_of_a_machine_that_is_not_there_is_not_found(bench: Bench, cloud: Cloud) -> None:
    with pytest.raises(NotFoundError, match=ABSENT):
        settle(cloud, cloud.snapshot(ABSENT, "contract-1.0-1", bench.labels))
    assert cloud.find(Kind.IMAGE, "contract-1.0-1") is None


def test_image_is_ready_and_carries_its_labels(bench: Bench, cloud: Cloud, image: str) -> None:
    found = cloud.find(Kind.IMAGE, image)
    assert found
    assert found.state is State.READY
    assert {**bench.labels, "version": "1.0-1"}.items() <= found.labels.items()
    assert found.size_bytes > 0
    assert image in [owned.name for owned in cloud.owned(bench.labels) if owned.kind is Kind.IMAGE]


def test_image_is_labelled_like_a_machine(cloud: Cloud, image: str) -> None:
    cloud.label(Kind.IMAGE, image, {"state": "candidate"})
    cloud.label(Kind.IMAGE, image, {"state": "stable"})
    found = cloud.find(Kind.IMAGE, image)
    assert found
    assert (found.labels["state"], found.labels["version"]) == ("stable", "1.0-1")


def test_snapshot_under_a_name_that_is_taken_is_a_conflict_and_harms_nobody(
    bench: Bench, cloud: Cloud, stopped: tuple[BootSpec, str], image: str
) -> None:
    before = cloud.find(Kind.IMAGE, image)
    with pytest.raises(ConflictError, match=image):
        settle(cloud, cloud.snapshot(stopped[0].name, image, {**bench.labels, "version": "other"}))
    assert cloud.find(Kind.IMAGE, image) == before


def test_machine_stays_after_a_snapshot(cloud: Cloud, stopped: tuple[BootSpec, str], image: str) -> None:
    found = cloud.find(Kind.MACHINE, stopped[0].name)
    assert found
    assert found.state is State.STOPPED


@WITH_FILES
def test_files_of_an_image_are_read_from_outside(cloud: Cloud, image: str, tmp_path: Path) -> None:
    assert isinstance(cloud, ReadsDisks)
    files = cloud.files(image, tmp_path)
    [(path, content)] = files.read(["/usr/lib/os-release", "/nosuch"]).items() or [("", b"")]
    assert (path, b"debian" in content.lower()) == ("/usr/lib/os-release", True)
    assert files.list()["/usr/lib/os-release"] == len(content)
    assert files.read(["/usr/lib/os-release"], 4) == {"/usr/lib/os-release": content[:4]}


@WITH_FILES
def test_files_are_kept_beside_an_image(cloud: Cloud, image: str, tmp_path: Path) -> None:
    assert isinstance(cloud, KeepsFiles)
    for text in ("old", "new"):
        (tmp_path / "result.json").write_text(text)
        cloud.attach(image, {"result.json": tmp_path / "result.json", "other.log": tmp_path / "result.json"})
    kept = cloud.attached(image, "result.json")
    assert kept
    assert kept.read_text() == "new"
    assert cloud.attached(image, "nosuch") is None
    assert cloud.attached(ABSENT, "result.json") is None


def test_image_boots_and_deleting_it_harms_no_machine_of_it(bench: Bench, cloud: Cloud, stopped: tuple[BootSpec, str]) -> None:
    image, nonce = "contract-3.0-1", names.new_nonce()
    bench.snapshot(stopped[0].name, image, version="3.0-1")
    spec = bench.spec(image, nonce=nonce)
    spec = replace(spec, disk_gb=spec.disk_gb + 1)
    bench.run(spec, nonce)
    try:
        settle(cloud, cloud.delete(Kind.IMAGE, image))
    except ConflictError as refused:  # where its disk overlays the image's; elsewhere it is a copy
        assert spec.name in refused.message
        found = cloud.find(Kind.IMAGE, image)
        assert found
        assert found.state is State.READY
    assert is_running(cloud, spec.name)
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))
    assert cloud.find(Kind.MACHINE, spec.name) is None


# Deleting


@pytest.mark.parametrize("kind", [Kind.MACHINE, Kind.IMAGE])
def test_deleting_what_is_not_there_is_a_success(cloud: Cloud, kind: Kind) -> None:
    settle(cloud, cloud.delete(kind, ABSENT))


def test_running_machine_is_deleted_at_once_and_its_name_is_free_again(bench: Bench, cloud: Cloud) -> None:
    spec = bench.spec()
    bench.boot(spec)
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))
    assert cloud.find(Kind.MACHINE, spec.name) is None
    again = replace(spec, token=names.new_nonce())
    bench.boot(again)
    assert is_running(cloud, spec.name)
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))


def test_deleted_image_is_gone_with_its_files_and_its_name_is_free_again(
    bench: Bench, cloud: Cloud, stopped: tuple[BootSpec, str], tmp_path: Path
) -> None:
    name = "contract-2.0-1"
    (tmp_path / "a.log").write_text("text")
    for _ in range(2):
        bench.snapshot(stopped[0].name, name, version="2.0-1")
        if isinstance(cloud, KeepsFiles):
            assert cloud.attached(name, "a.log") is None
            cloud.attach(name, {"a.log": tmp_path / "a.log"})
        settle(cloud, cloud.delete(Kind.IMAGE, name))
        assert cloud.find(Kind.IMAGE, name) is None


def test_image_that_is_not_sealed_is_refused_until_its_label_is_empty(bench: Bench, cloud: Cloud, image: str) -> None:
    found = {"recipe": "contract", "project": names.PROJECT, "cpus": "1", "memory-mb": "1024", "disk-gb": "10"}
    cloud.label(Kind.IMAGE, image, {**found, "role": "image", "state": names.CANDIDATE, names.FINDINGS: "2"})
    try:
        with pytest.raises(CloudError, match="is not sealed: findings of its bake: 2 "):
            find_image(cloud, recipe="contract", version="1.0-1")
        cloud.label(Kind.IMAGE, image, {"state": names.STABLE, names.FINDINGS: ""})
        assert find_image(cloud, recipe="contract").name == image
    finally:
        cloud.label(Kind.IMAGE, image, {"role": bench.labels["role"]})
