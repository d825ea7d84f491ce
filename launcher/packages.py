"""The packages of images: Debian's, Python's and conda's, as the bake of each image has listed them.

The seal writes the list into the image (`IN_IMAGE`, templates/machine/packages.py.j2), as CycloneDX 1.6. The bake reads it from the
finished disk, and keeps it on this computer: BAKEHOUSE_HOME/packages/BAKE.cdx.json.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, quote, urlsplit

from clouds.errors import CloudError, NotFoundError
from clouds.home import write_private

if TYPE_CHECKING:
    from launcher.images import ImageView

IN_IMAGE = "/usr/lib/bakehouse/packages.cdx.json"
"""Where an image has the list of its packages."""
BYTES_MAX = 16 * 2**20
_NAME_MAX = 200
"""The longest part of a label in a file's name, in bytes: Linux allows 255 for the whole name (NAME_MAX, limits.h)."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package. `type` is that of its purl: deb, pypi or conda.

    Of a Debian package, `source` is its source package as NAME@VERSION, `arch` its architecture, and `suite` the distribution
    that it was installed on, as debian/trixie. `location` is the folder that has the others' records.
    """

    type: str
    name: str
    version: str
    source: str = ""
    location: str = ""
    arch: str = ""
    suite: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the fields that are not empty, for `--json`."""
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a package from one image to another. `changed`: which version is newer cannot be said."""

    change: Literal["added", "removed", "up", "down", "changed"]
    type: str
    name: str
    old: str = ""
    new: str = ""


def parse(text: str) -> list[Package]:
    """Read a list of packages. ValueError: it is none."""
    try:
        return [_package(component) for component in json.loads(text)["components"]]
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"no list of packages: {error!r}") from error


def _package(component: dict[str, Any]) -> Package:
    purl = urlsplit(component["purl"])
    type_, namespace = purl.path.split("/")[:2]
    more = {key: values[0] for key, values in parse_qs(purl.query).items()}
    places = component.get("evidence", {}).get("occurrences", [])
    return Package(
        type=type_,
        name=str(component["name"]),
        version=str(component["version"]),
        source=more.get("upstream", ""),
        location=str(places[0]["location"]) if places else "",
        arch=more.get("arch", ""),
        suite=f"{namespace}/{more['distro']}" if "distro" in more else "",
    )


def keep(home: Path, bake: str, text: str) -> bool:
    """Keep the list of the image that a bake has created; return False, and keep nothing, if it is none."""
    try:
        parse(text)
    except ValueError:
        return False
    path = place(home, bake)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, text)
    return True


def forget(home: Path, bake: str) -> None:
    """Remove the files of an image that is deleted."""
    place(home, bake).unlink(missing_ok=True)
    place(home, bake, "open").unlink(missing_ok=True)


def place(home: Path, bake: str, what: Literal["cdx", "open"] = "cdx") -> Path:
    """Return the file of a bake's image; `bake` is from a label, which may be anything.

    `cdx` is the list of its packages, `open` the security updates that its bake did not bring (`bakery.rebuild.security`).
    """
    return home / "packages" / f"{quote(bake, safe='')[:_NAME_MAX]}.{what}.json"


def known(home: Path, bake: str) -> list[Package] | None:
    """Return the packages of the image that a bake has created; None if this computer has no list of them that it can read."""
    try:
        return parse(place(home, bake).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read(home: Path, image: ImageView) -> str:
    """Return the list of an image's packages, as CycloneDX. NotFoundError: this computer does not have it."""
    by_ssh = f"Print the list on a machine of that image: ./inv ssh NAME -- cat {IN_IMAGE}"
    try:
        text = place(home, image.labels.get("bake", "")).read_text(encoding="utf-8")
        parse(text)
    except FileNotFoundError:
        missing = f"no list of the packages of image {image.name!r} on {image.cloud} found here"
        raise NotFoundError(f"{missing}: the computer that bakes an image keeps it", next_step=by_ssh) from None
    except ValueError as error:
        raise CloudError(f"the list of packages of image {image.name!r} on {image.cloud} is damaged", next_step=by_ssh) from error
    return text


def diff(old: Iterable[Package], new: Iterable[Package]) -> list[Change]:
    """Return what differs, sorted by type and name. The folders of environments are not compared: they may have new names."""
    before, after = _versions(old), _versions(new)
    keys = sorted({*before, *after})
    return [change for key in keys if before[key] != after[key] for change in _changes(*key, before[key], after[key])]


def _versions(packages: Iterable[Package]) -> defaultdict[tuple[str, str], set[str]]:
    found = defaultdict[tuple[str, str], set[str]](set)
    for package in packages:
        found[package.type, package.name].add(package.version)
    return found


def _changes(type_: str, name: str, old: set[str], new: set[str]) -> Iterator[Change]:
    """Yield the changes of a package. Of several versions, in several environments, the highest are compared with each other."""
    gone, come = (_sorted(type_, versions) for versions in (old - new, new - old))
    for before, after in zip_longest(gone, come, fillvalue=""):
        if before and after:
            yield Change(_direction(type_, before, after), type_, name, before, after)
        else:
            yield Change("removed" if before else "added", type_, name, before, after)


def is_newer(type_: str, old: str, new: str) -> bool:
    """Return whether a version is newer than another by the rules of a type of package; False if that cannot be said."""
    return _direction(type_, old, new) == "up"


def _sorted(type_: str, versions: set[str]) -> list[str]:
    try:
        return sorted(versions, key=_key(type_), reverse=True)
    except ValueError:
        return sorted(versions)


def _direction(type_: str, old: str, new: str) -> Literal["up", "down", "changed"]:
    try:
        before, after = (_key(type_)(version) for version in (old, new))
    except ValueError:
        return "changed"
    return "up" if before < after else "down" if after < before else "changed"


@cache
def _key(type_: str) -> Callable[[str], Any]:
    """Return what orders the versions of a type of package by its own rules; it raises ValueError for what is no version."""
    if type_ == "deb":
        from debian_inspector.version import Version as DebianVersion  # type: ignore[import-untyped]

        parse: Callable[[str], Any] = DebianVersion.from_string
        return parse
    if type_ == "conda":
        return _conda_version
    from packaging.version import Version

    return Version


def _conda_version(text: str) -> Any:
    from rattler import Version
    from rattler.exceptions import InvalidVersionError

    try:
        return Version(text)
    except InvalidVersionError as error:
        raise ValueError(str(error)) from error
