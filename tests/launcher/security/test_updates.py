"""The security updates of a distribution, from an archive on this computer: what is affected, and what an archive may get wrong."""

from __future__ import annotations

import lzma
from collections.abc import Iterator

import pytest

from clouds.errors import BakehouseError
from clouds.mirrors import Mirrors
from launcher.packages import Package
from launcher.security import updates
from launcher.security.check import Lack, Unchecked, check_distribution
from launcher.security.updates import Updates
from tests.fake_archive import Archive, deb, serving

SUITE = "debian/trixie"


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serving() as archive:
        yield archive


def installed(name: str, version: str, *, source: str = "", arch: str = "amd64", suite: str = SUITE) -> Package:
    return Package("deb", name, version, source=f"{source or name}@{version}", arch=arch, suite=suite)


def lacks(archive: Archive, *packages: Package) -> list[Lack]:
    report = check_distribution(packages, Updates(archive.mirrors))
    assert report.not_checked == []
    assert report.checked == {"deb": len(packages)}
    return list(report.lacks)


def why(archive: Archive, **options: float) -> str:
    """Return why the updates of the suite are not known."""
    report = check_distribution([installed("openssl", "3.5.1-1")], Updates(archive.mirrors, **options))
    [unchecked] = report.not_checked
    assert (unchecked.type, unchecked.packages, unchecked.failed, report.lacks, report.checked) == ("deb", 1, True, [], {})
    return unchecked.why


@pytest.mark.parametrize(
    ("version", "fixed", "is_open"),
    [
        ("3.5.1-1", "3.5.1-1+deb13u1", True),
        ("3.5.1-1+deb13u1", "3.5.1-1+deb13u1", False),
        ("3.5.4-1", "3.5.1-1+deb13u1", False),
        ("3.9-1", "3.10-1", True),
        ("1:1.0-1", "2.0-1", False),
        ("2.0-1", "1:1.0-1", True),
        ("1.0~rc1-1", "1.0-1", True),
        ("1.0-1", "1.0~rc1-1", False),
        ("1.0-1", "1.0-1~deb13u1", False),
    ],
)
def test_package_is_affected_if_the_security_suite_has_a_newer_version(
    archive: Archive, version: str, fixed: str, *, is_open: bool
) -> None:
    archive.publish(SUITE, deb("openssl", fixed))
    assert lacks(archive, installed("openssl", version)) == ([Lack("deb", "openssl", version, (fixed,))] if is_open else [])


def test_packages_are_compared_by_source_and_architecture(archive: Archive) -> None:
    archive.publish(
        SUITE,
        deb("libssl3", "9", source="openssl (9-0)"),
        deb("tzdata", "9", arch="all"),
        deb("docker", "9", source="of-debian"),
        deb("other", "9"),
    )
    found = lacks(
        archive,
        installed("libssl3", "8", source="openssl"),
        installed("tzdata", "8", arch="all"),
        installed("docker", "8", source="of-another-repository"),
        installed("not-in-the-security-suite", "1"),
    )
    assert [one.name for one in found] == ["libssl3", "tzdata"]


def test_of_several_versions_the_newest_counts(archive: Archive) -> None:
    archive.publish(SUITE, deb("linux", "6.10"), deb("linux", "6.12"), deb("linux", "6.9"))
    assert [one.fixed for one in lacks(archive, installed("linux", "6.9"))] == [("6.12",)]


def test_each_suite_is_fetched_once_and_each_architecture_has_its_own_list(archive: Archive) -> None:
    path = archive.publish(SUITE, deb("a", "2"))
    archive.publish("ubuntu/noble", deb("a", "3"))
    updates = Updates(archive.mirrors)
    for _ in range(2):
        packages = [installed("a", "1"), installed("b", "1"), installed("a", "1", suite="ubuntu/noble")]
        assert [one.fixed for one in check_distribution(packages, updates).lacks] == [("2",), ("3",)]
    assert archive.asked[:2] == [path.replace("main/binary-amd64/Packages.xz", "InRelease"), path]
    assert len(archive.asked) == 4
    report = check_distribution([installed("a", "1", arch="i386")], updates)
    assert report.not_checked == [Unchecked("deb", 1, "InRelease names no lists of packages for i386, or too large ones")]


def test_list_is_fetched_by_its_digest_where_the_archive_has_that(archive: Archive) -> None:
    path = archive.publish(SUITE, deb("a", "2"), fields="Acquire-By-Hash: yes\n")
    digest = archive.files[path.replace("main/binary-amd64/Packages.xz", "InRelease")].split()[-6].decode()
    archive.files[path.replace("Packages.xz", f"by-hash/SHA256/{digest}")] = archive.files.pop(path)
    assert len(lacks(archive, installed("a", "1"))) == 1


def test_archive_that_does_not_answer_is_asked_once_and_said(archive: Archive) -> None:
    archive.statuses[f"/debian-security/dists/{SUITE.split('/')[1]}-security/InRelease"] = 503
    updates = Updates(archive.mirrors)
    for _ in range(2):
        report = check_distribution([installed("a", "1"), installed("b", "1")], updates)
        assert report.not_checked == [Unchecked("deb", 2, f"{archive.url.removeprefix('http://')} answered with status 503")]
    assert len(archive.asked) == 1


def test_suite_that_the_archive_does_not_have(archive: Archive) -> None:
    assert why(archive).startswith("not found on 127.0.0.1:")


def test_archive_that_hangs_is_left_at_the_deadline(archive: Archive) -> None:
    path = archive.publish(SUITE, deb("openssl", "9"))
    archive.hangs.add(path)
    assert why(archive, deadline_s=0.2) == "no answer within 0.2 s"


def test_nobody_listens() -> None:
    with serving() as archive:
        archive.publish(SUITE, deb("openssl", "9"))
    assert why(archive).endswith(" did not answer (ConnectionError)")


def test_password_of_a_mirror_is_not_printed(archive: Archive) -> None:
    url = archive.url.replace("//", "//me:secret@")
    with pytest.raises(BakehouseError) as raised:
        Updates(Mirrors(security=url)).of(SUITE, "amd64")
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[:-8] + b"\0" * 8, "main/binary-amd64/Packages.xz differs from its SHA-256"),
        (lambda content: content[: len(content) // 2], "main/binary-amd64/Packages.xz differs from its SHA-256"),
        (lambda content: content + b"\0" * 1000, " sent more than "),
    ],
)
def test_list_that_is_damaged(archive: Archive, damage: object, told: str) -> None:
    path = archive.publish(SUITE, deb("openssl", "9"))
    archive.files[path] = damage(archive.files[path])  # type: ignore[operator]
    assert told in why(archive)


def test_list_with_the_right_digest_that_is_not_xz(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lzma, "compress", lambda text: text)
    archive.publish(SUITE, deb("openssl", "9"))
    assert why(archive).startswith("main/binary-amd64/Packages.xz cannot be unpacked")


def test_list_that_is_too_large_when_it_is_unpacked(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "_UNPACKED_BYTES_MAX", 1000)
    archive.publish(SUITE, "x" * 2000)
    assert why(archive) == "main/binary-amd64/Packages.xz is incomplete, or larger than 1000 bytes"


@pytest.mark.parametrize(
    "release",
    [b"", b"\xff\0", b"<html>log in</html>", b" " + b"0" * 64 + b" 99999999999 main/binary-amd64/Packages.xz\n"],
    ids=["empty", "binary", "of a network", "too large"],
)
def test_inrelease_without_lists_that_can_be_fetched(archive: Archive, release: bytes) -> None:
    archive.files["/debian-security/dists/trixie-security/InRelease"] = release
    assert why(archive) == "InRelease names no lists of packages for amd64, or too large ones"


@pytest.mark.parametrize("date", ["Wed, 02 Dec 2020 22:33:13 UTC", "tomorrow", "Wed, 99 Dec 2999 22:33:13 UTC"])
def test_mirror_that_is_out_of_date(archive: Archive, date: str) -> None:
    archive.publish(SUITE, deb("openssl", "9"), fields=f"Valid-Until: {date}\n")
    assert why(archive) == f"the mirror's list of security updates has expired ({date})"


def test_inrelease_that_has_not_expired(archive: Archive) -> None:
    archive.publish(SUITE, deb("openssl", "9"), fields="Valid-Until: Wed, 02 Dec 2999 22:33:13 UTC\n")
    assert len(lacks(archive, installed("openssl", "8"))) == 1


def test_garbage_in_a_list_is_no_package(archive: Archive) -> None:
    archive.publish(SUITE, "Package: openssl\n", "\0\0:: garbage\n", deb("openssl", "???"), "Package:\nVersion:\nArchitecture:\n")
    assert lacks(archive, installed("openssl", "8")) == []


def test_list_without_a_suite_and_distribution_without_an_archive(archive: Archive) -> None:
    old = Package("deb", "curl", "8", source="curl@8")
    report = check_distribution([old, installed("curl", "8", suite="arch/rolling")], Updates(archive.mirrors))
    assert {one.why for one in report.not_checked} == {
        "the list of packages names no suite or architecture",
        "the archive of arch is not known",
    }
    assert archive.asked == []
