"""Check the packages of an image: which lack a fix, and which could not be checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from clouds.errors import BakehouseError, NotFoundError
from launcher.packages import Package, is_newer
from launcher.security import pypi
from launcher.security.updates import Updates

_ALL = "all"
"""The architecture of a Debian package that fits every one."""
_NO_API = ", which may be a mirror without PyPI's API for vulnerabilities, as it has none of these packages"


@dataclass(frozen=True, slots=True)
class Lack:
    """A package that lacks a fix. `fixed` are the versions that have it, `ids` those of the vulnerability, if they are known."""

    type: str
    name: str
    installed: str
    fixed: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.installed} → {', '.join(self.fixed)}"


@dataclass(frozen=True, slots=True)
class Unchecked:
    """How many packages of a type could not be checked, and why. `failed`: a server did not answer as it should."""

    type: str
    packages: int
    why: str
    failed: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `checked` has the number of checked packages by type."""

    lacks: Sequence[Lack]
    checked: dict[str, int]
    not_checked: Sequence[Unchecked]

    def to_json(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "lacks": [asdict(one) for one in self.lacks],
            "checked": self.checked,
            "not_checked": [asdict(one) for one in self.not_checked],
        }


def check(packages: Iterable[Package], updates: Updates, *, address: str = pypi.ADDRESS) -> Report:
    """Check all packages of an image; `address` is PyPI's. What a server does not answer is part of the report, not an error."""
    packages = list(packages)
    reports = [check_distribution(packages, updates), _check_python(packages, address)]
    others = Counter(one.type for one in packages if one.type not in ("deb", "pypi"))
    unknown = [Unchecked(kind, count, "no list of their vulnerabilities", failed=False) for kind, count in others.items()]
    return Report(
        [lack for one in reports for lack in one.lacks],
        {kind: count for one in reports for kind, count in one.checked.items()},
        [*(missing for one in reports for missing in one.not_checked), *unknown],
    )


def check_distribution(packages: Iterable[Package], updates: Updates) -> Report:
    """Compare the packages of Debian and Ubuntu with the security updates of the suites that they were installed on."""
    found, checked, failed = set[Lack](), 0, Counter[str]()
    debs = [one for one in packages if one.type == "deb"]
    archs = {one.suite: one.arch for one in debs if one.arch != _ALL}  # those for all architectures are in the list of each
    for one in debs:
        try:
            lack = _lacking(one, updates, archs.get(one.suite, "") if one.arch == _ALL else one.arch)
        except BakehouseError as error:
            failed[error.message] += 1
            continue
        checked += 1
        found |= {lack} if lack else set()
    return Report(
        sorted(found, key=lambda one: (one.name, one.installed, one.fixed)),
        {"deb": checked} if checked else {},
        [Unchecked("deb", count, why) for why, count in failed.items()],
    )


def _lacking(package: Package, updates: Updates, arch: str) -> Lack | None:
    if not (package.suite and arch):
        raise BakehouseError("the list of packages names no suite or architecture")
    source = package.source.partition("@")[0] or package.name
    fixed = updates.of(package.suite, arch).get((source, package.name, package.arch), "")
    is_open = fixed and is_newer("deb", package.version, fixed)
    return Lack("deb", package.name, package.version, (fixed,)) if is_open else None


def _check_python(packages: Iterable[Package], address: str) -> Report:
    """Look up each Python package once, though several environments may have it.

    One that PyPI does not have may be private; if it has none of them, something else answers in its place.
    """
    wanted = sorted({(one.name, one.version) for one in packages if one.type == "pypi"})
    results = list(zip(wanted, pypi.vulnerabilities(wanted, address=address), strict=True))
    absent = Counter(one.message for _, one in results if isinstance(one, NotFoundError))
    failed = Counter(one.message for _, one in results if isinstance(one, BakehouseError) and not isinstance(one, NotFoundError))
    known = [(package, one) for package, one in results if not isinstance(one, BakehouseError)]
    return Report(
        [Lack("pypi", *package, fixed, ids) for package, one in known for ids, fixed in one],
        {"pypi": len(known)} if known else {},
        [
            *(Unchecked("pypi", count, why if known else why + _NO_API, failed=not known) for why, count in absent.items()),
            *(Unchecked("pypi", count, why) for why, count in failed.items()),
        ],
    )
