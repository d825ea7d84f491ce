"""Names and labels on Compute Engine: spelled so that it takes them, read back as they were."""

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds import names
from clouds.driver import Kind
from clouds.gcp import naming
from tests.clouds.gcp.stub import Stub

NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
VALUE = re.compile(r"[a-z0-9_-]{0,63}")


def test_an_image_is_named_without_dots() -> None:
    assert naming.image_name("jupyter-1.4.0-7") == "jupyter-1-4-0-7"


@given(release=st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)), build=st.integers(1, 9999))
def test_labels_of_a_version_come_back_as_they_were(release: tuple[int, int, int], build: int) -> None:
    version = names.ImageVersion(".".join(map(str, release)), build)
    labels = {"version": str(version), "image": names.image_name("data-science", version), "owner": "a_b", "state": "stable"}
    spelled = naming.to_labels(labels)
    assert all(VALUE.fullmatch(value) for value in spelled.values())
    assert naming.from_labels(spelled) == labels


@given(st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=30))
def test_a_rule_knows_its_machine(name: str) -> None:
    machine = f"m{name}-x"
    rule = naming.rule_name(machine, "ssh")
    assert NAME.fullmatch(rule)
    assert naming.machine_of_rule(rule) == machine


def test_the_longest_name_of_a_machine_has_room_for_its_rules() -> None:
    assert NAME.fullmatch(naming.rule_name(names.check_machine_name("m" * 40), "https"))


def test_a_description_holds_labels() -> None:
    labels = {"project": "bakehouse", "machine": "lab"}
    assert naming.from_description(naming.to_description(labels)) == labels
    assert naming.from_description("Allow SSH from anywhere") == {}


def test_a_request_id_is_the_same_for_the_same_request_only() -> None:
    assert naming.request_id("token", "z-a") == naming.request_id("token", "z-a")
    assert naming.request_id("token", "z-a") != naming.request_id("token", "z-b")


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.MACHINE])
@pytest.mark.parametrize("name", ["", "../x", "a/b", "x/", "\udcff", 'x" OR name="y', "x" * 300])
def test_what_no_name_can_be_is_not_found_without_a_request(kind: Kind, name: str, tmp_path: Path) -> None:
    stub = Stub({})
    assert stub.cloud(tmp_path).find(kind, name) is None
    assert stub.asked == []
