import contextlib
import json
import os
import pwd
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds import names
from clouds.client import Fate, process_start
from clouds.errors import UsageError
from clouds.names import ImageVersion

releases = st.lists(st.integers(0, 99), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
versions = st.builds(ImageVersion, releases, st.integers(0, 10_000))


@given(versions)
def test_version_survives_a_round_trip(version: ImageVersion) -> None:
    assert names.parse_version(str(version)) == version


def test_versions_sort_by_number_and_not_by_text() -> None:
    texts = ["1.10.0-1", "1.9.0-12", "1.9.0-2", "2.0.0-1", "1.9.0-10"]
    assert [str(v) for v in sorted(map(names.parse_version, texts), key=lambda v: v.key)] == [
        "1.9.0-2",
        "1.9.0-10",
        "1.9.0-12",
        "1.10.0-1",
        "2.0.0-1",
    ]


@given(versions, versions)
def test_key_orders_by_release_then_build(a: ImageVersion, b: ImageVersion) -> None:
    def plain(version: ImageVersion) -> tuple[tuple[int, ...], int]:
        parts = [int(part) for part in version.release.split(".")]
        return tuple(parts + [0] * (3 - len(parts))), version.build

    assert (a.key < b.key) == (plain(a) < plain(b))


@pytest.mark.parametrize(
    "text", ["", "1.4.0", "1.4.0-", "-7", "1.4.0-x", "1.4.0-7-8", "v1.4.0-7", "01.4-1", "1.4.0-\u0667", "latest", "1.4.0 -7"]
)
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="invalid image version") as refused:
        names.parse_version(text)
    assert "1.4.0-7" in refused.value.next_step


@given(st.text())
def test_any_text_is_a_version_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert str(names.parse_version(text)) == text


def test_first_build_of_a_release_is_one() -> None:
    assert names.next_version("1.4.0", []) == ImageVersion("1.4.0", 1)


def test_next_build_is_past_the_highest_taken_one_of_the_same_release() -> None:
    taken = [ImageVersion("1.4.0", 2), ImageVersion("1.4.0", 9), ImageVersion("1.3.0", 40)]
    assert names.next_version("1.4.0", taken) == ImageVersion("1.4.0", 10)


@given(st.text())
def test_label_value_is_one_that_every_cloud_takes(text: str) -> None:
    value = names.label_value(text)
    assert len(value) <= 63
    assert all(character in "abcdefghijklmnopqrstuvwxyz0123456789-_" for character in value)


@pytest.mark.parametrize("name", ["a", "mine", "jupyter-k7m2", "a" * 40, "x1", "baker", "bakery-1", "testing"])
def test_good_machine_name_is_taken(name: str) -> None:
    assert names.check_machine_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "-a", "a" * 41, "a b", "a.b", "ü", "a\n", "../a", "a/b"])
def test_bad_machine_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid machine name"):
        names.check_machine_name(name)


@pytest.mark.parametrize("name", ["bake-k7m2px9a", "test-k7m2px9a"])
def test_names_of_the_bakery_are_kept_from_users(name: str) -> None:
    with pytest.raises(UsageError, match="are reserved"):
        names.check_machine_name(name)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,60}", fullmatch=True))
def test_fresh_machine_name_is_a_good_one(recipe: str) -> None:
    name = names.new_machine_name(recipe)
    if not recipe.startswith(("bake-", "test-")):
        assert names.check_machine_name(name) == name


def test_ids_of_bakes_are_told_from_names_of_machines() -> None:
    bake_id = names.new_bake_id()
    assert names.is_bake_id(bake_id)
    assert not names.is_bake_id(names.new_machine_name("jupyter"))
    assert not names.is_bake_id(names.test_machine_name(bake_id))
    assert len({bake_id, names.test_machine_name(bake_id), names.memory_machine_name(bake_id)}) == 3


def test_nonces_are_128_random_bits() -> None:
    nonces = {names.new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 32 and int(nonce, 16) >= 0 for nonce in nonces)


def test_this_process_is_not_dead() -> None:
    assert not names.client_is_dead(names.client_labels())


def test_client_that_has_ended_is_dead() -> None:
    script = "import json; from clouds.names import client_labels; print(json.dumps(client_labels())); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdin and client.stdout
        labels = json.loads(client.stdout.readline())
        assert not names.client_is_dead(labels)
        client.stdin.write("\n")
    assert names.client_is_dead(labels)


def test_killed_client_is_dead_even_before_its_parent_has_waited_for_it() -> None:
    client = subprocess.Popen(["sleep", "60"])
    labels = names.client_labels() | {"client-pid": str(client.pid), "client-start": str(process_start(client.pid))}
    client.kill()
    os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)
    assert names.client_is_dead(labels)
    client.wait()


def test_client_whose_pid_now_belongs_to_another_process_is_dead() -> None:
    labels = names.client_labels()
    assert names.client_is_dead(labels | {"client-start": str(int(labels["client-start"]) - 1)})


ENDED = {"client-pid": "4194999"}


def test_client_on_another_computer_is_never_called_dead() -> None:
    elsewhere = {"client-computer": "h" + 24 * "0"}
    assert names.client_fate(names.client_labels() | elsewhere | ENDED) is Fate.UNKNOWN
    assert names.client_fate(names.client_labels() | ENDED) is Fate.DEAD


def test_client_of_an_older_release_is_not_judged_by_its_host_name() -> None:
    older = {key: value for key, value in (names.client_labels() | ENDED).items() if key != "client-computer"}
    assert names.client_fate(older) is Fate.UNKNOWN


@pytest.mark.parametrize("bad", ["", "x", "-1", "1.5", "9" * 40, "9" * 5000])
def test_labels_that_make_no_sense_call_nobody_dead_on_another_computer_and_raise_nothing(bad: str) -> None:
    for key in ("client-pid", "client-start", "created"):
        names.client_fate(names.client_labels() | {key: bad})


def test_nothing_is_known_of_a_resource_without_client_labels() -> None:
    assert not names.client_is_dead({})


def test_owner_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_OWNER", "Team A")
    assert names.client_labels()["owner"] == "team-a"


def test_owner_is_the_login_name_of_the_user_database_where_no_variable_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BAKEHOUSE_OWNER", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    assert names.client_labels()["owner"] == names.label_value(pwd.getpwuid(os.getuid()).pw_name)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_001)
    assert names.client_labels()["owner"] == "uid-4000000001"
