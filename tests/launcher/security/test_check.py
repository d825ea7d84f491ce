"""Python packages with known vulnerabilities, from a PyPI on this computer; and what of an image is not checked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clouds.errors import BakehouseError, TimedOutError
from clouds.mirrors import Mirrors
from launcher.packages import Package
from launcher.security.check import Lack, Report, Unchecked, check
from launcher.security.pypi import vulnerabilities
from launcher.security.updates import Updates
from tests.fake_archive import Archive, deb, serving

FIXED = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fixed_in": ["3.1.5", "3.2.1"], "withdrawn": None}


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serving() as archive:
        yield archive


def python(name: str, version: str, folder: str = "/opt/notebook") -> Package:
    return Package("pypi", name, version, location=folder)


def checked(archive: Archive, *packages: Package) -> Report:
    return check(packages, Updates(archive.mirrors), address=archive.pypi)


def test_vulnerable_packages_are_listed_with_their_ids_and_what_fixes_them(archive: Archive) -> None:
    withdrawn = FIXED | {"id": "PYSEC-2026-2", "withdrawn": "2026-11-02T00:00:00Z"}
    unfixed = {"id": "PYSEC-2026-3", "aliases": None, "fixed_in": None}
    archive.put_python("jinja2", "3.1.2", FIXED, withdrawn, unfixed)
    archive.put_python("numpy", "2.1.0")
    report = checked(archive, python("jinja2", "3.1.2"), python("numpy", "2.1.0"), python("jinja2", "3.1.2", "/home/notebook/env"))
    assert report.lacks == [
        Lack("pypi", "jinja2", "3.1.2", ("3.1.5", "3.2.1"), ("PYSEC-2026-1", "CVE-2026-1")),
        Lack("pypi", "jinja2", "3.1.2", (), ("PYSEC-2026-3",)),
    ]
    assert (report.checked, report.not_checked, len(archive.asked)) == ({"pypi": 2}, [], 2)


def test_build_for_a_cpu_has_the_vulnerabilities_of_its_version(archive: Archive) -> None:
    archive.put_python("torch", "2.8.0", FIXED)
    assert [one.installed for one in checked(archive, python("torch", "2.8.0+cpu")).lacks] == ["2.8.0+cpu"]


def test_package_that_pypi_does_not_have_may_be_private(archive: Archive) -> None:
    archive.put_python("numpy", "2.1.0")
    report = checked(archive, python("numpy", "2.1.0"), python("../ours", "1!1.0"))
    [missing] = report.not_checked
    assert (missing.packages, missing.failed, missing.why) == (1, False, f"not found on {archive.url.removeprefix('http://')}")
    assert "/pypi/..%2Fours/1%211.0/json" in archive.asked


def test_where_pypi_has_no_package_at_all_something_else_answers(archive: Archive) -> None:
    [missing] = checked(archive, python("numpy", "2.1.0"), python("six", "1.17")).not_checked
    assert (missing.packages, missing.failed) == (2, True)
    assert "may be a mirror without PyPI's API for vulnerabilities" in missing.why


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"<html>", b"{}", b'{"vulnerabilities": 3}', b'{"vulnerabilities": [{}]}', b"[" * 10**5]
)
def test_answer_that_cannot_be_read(archive: Archive, answer: bytes) -> None:
    archive.files["/pypi/numpy/2.1.0/json"] = answer
    report = checked(archive, python("numpy", "2.1.0"))
    assert (report.checked, report.not_checked) == ({}, [Unchecked("pypi", 1, "PyPI's answer cannot be read")])


def test_pypi_that_hangs_is_left_at_the_deadline_and_asked_no_more(archive: Archive) -> None:
    wanted = [(f"package-{number}", "1") for number in range(40)]
    archive.hangs |= {f"/pypi/{name}/1/json" for name, _ in wanted}
    found = vulnerabilities(wanted, address=archive.pypi, deadline_s=0.2)
    assert all(isinstance(one, TimedOutError) for one in found)
    assert len(archive.asked) <= 8


def test_nobody_listens() -> None:
    with serving() as archive:
        pass
    [found] = vulnerabilities([("numpy", "1")], address=archive.pypi)
    assert isinstance(found, BakehouseError)
    assert found.message.endswith("did not answer (ConnectionError)")


def test_each_kind_is_checked_by_itself_and_conda_is_not(archive: Archive) -> None:
    archive.publish("debian/trixie", deb("openssl", "2"))
    archive.put_python("jinja2", "3.1.2", FIXED)
    openssl = Package("deb", "openssl", "1", source="openssl@1", arch="amd64", suite="debian/trixie")
    conda = Package("conda", "numpy", "2.1.0", location="/opt/conda/conda-meta")
    report = checked(archive, openssl, python("jinja2", "3.1.2"), conda)
    assert [one.name for one in report.lacks] == ["openssl", "jinja2"]
    assert report.not_checked == [Unchecked("conda", 1, "no list of their vulnerabilities", failed=False)]
    alone = check([openssl, conda], Updates(Mirrors()), address=archive.pypi)
    assert [one.type for one in alone.not_checked] == ["deb", "conda"]
