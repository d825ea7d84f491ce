"""The verbs for images, as `launcher.command.verbs` has those for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clouds.errors import UsageError
from clouds.home import home
from launcher.command.common_flags import CLOUD, CLOUDS, JSON, REGIONS, YES
from launcher.command.flags import Flag, Positional, Values, Verb, count, days
from launcher.command.places import REGION_OF_NAME, connect_to, ledger
from launcher.command.terminal import Terminal, table

if TYPE_CHECKING:
    from launcher.images import ImageView

IMAGE = Positional("image", "name of the image")


def _find_image(values: Values, terminal: Terminal, key: str) -> ImageView:
    from launcher.images import find_image

    return find_image(connect_to("", values, terminal), recipe="", name=values[key])


def _check_packages(values: Values) -> None:
    for other in ("json", "security"):
        if values[other] and values["cdx"]:
            raise UsageError(f"--{other}: cannot be combined with --cdx", next_step="Leave one of them out.")


def _packages(values: Values, terminal: Terminal) -> int:
    from launcher import packages

    _check_packages(values)
    image = _find_image(values, terminal, "image")
    text = packages.read(home(), image)
    found = packages.parse(text)
    if values["security"]:
        from launcher.command.security import show

        return show(image, found, terminal, as_json=values["json"])
    if values["cdx"]:
        terminal.out_exactly(text.rstrip("\n"))
    elif values["json"]:
        terminal.out_json([one.to_json() for one in found])
    else:
        for line in table([{"type": one.type, "name": one.name, "version": one.version} for one in found]):
            terminal.out(line)
    return 0


def _diff(values: Values, terminal: Terminal) -> int:
    from dataclasses import asdict

    from launcher import packages

    old, new = (packages.parse(packages.read(home(), _find_image(values, terminal, key))) for key in ("old", "new"))
    changes = [asdict(change) for change in packages.diff(old, new)]
    if values["json"]:
        terminal.out_json(changes)
        return 0
    if not changes:
        terminal.tell("the same packages")
    for line in table(changes):
        terminal.out(line)
    return 0


def _pin(values: Values, terminal: Terminal) -> int:
    from launcher.images import pin

    pin(connect_to("", values, terminal), values["image"], pinned=True)
    terminal.tell(f"image {values['image']!r} is pinned; to unpin it: ./inv unpin {values['image']}")
    return 0


def _unpin(values: Values, terminal: Terminal) -> int:
    from launcher.images import pin

    pin(connect_to("", values, terminal), values["image"], pinned=False)
    terminal.tell(f"image {values['image']!r} is no longer pinned")
    return 0


def _check_prune(values: Values) -> None:
    if values["keep"] is None:
        raise UsageError("--keep is missing", next_step="Write how many stable images of each recipe to keep, such as: --keep 3")


def _prune(values: Values, terminal: Terminal) -> int:
    from launcher.command.pruning import prune
    from launcher.images import recipe_name
    from launcher.prune import DAY_S, Rules

    _check_prune(values)
    recipe = recipe_name(values["recipe"]) if values["recipe"] else ""
    rules = Rules(keep=values["keep"], older_than_s=(values["older_than"] or 0) * DAY_S, recipe=recipe)
    return prune(values["cloud"], rules, ledger(terminal), terminal, yes=values["yes"], region=values["region"])


def _delete_image(values: Values, terminal: Terminal) -> int:
    from launcher.images import check_unused, delete_image

    cloud, name = connect_to("", values, terminal), values["image"]
    check_unused(cloud, name)
    terminal.confirm(f"Delete image {name!r}?", yes=values["yes"])
    delete_image(cloud, ledger(terminal), name)
    terminal.tell(f"image {name!r} deleted")
    return 0


VERBS = (
    Verb(
        "packages",
        "List the packages of an image with their versions: Debian's, Python's and conda's.",
        _packages,
        (IMAGE,),
        (
            Flag(
                "security",
                "list those that lack a security fix of Debian, Ubuntu or PyPI; fail if any do",
                parse=None,
            ),
            JSON,
            Flag("cdx", "print the list as CycloneDX (JSON), for other tools", parse=None),
            REGION_OF_NAME,
            CLOUD,
        ),
        check=_check_packages,
    ),
    Verb(
        "diff",
        "List the packages that differ from one image to another: added, removed, up or down.",
        _diff,
        (Positional("old", "name of the old image"), Positional("new", "name of the new image")),
        (JSON, REGION_OF_NAME, CLOUD),
    ),
    Verb("pin", "Keep an image: neither prune nor delete-image deletes it.", _pin, (IMAGE,), (REGION_OF_NAME, CLOUD)),
    Verb("unpin", "Let prune and delete-image delete an image again.", _unpin, (IMAGE,), (REGION_OF_NAME, CLOUD)),
    Verb(
        "prune",
        "Delete old images (--keep N), after confirmation; never one that is pinned, in use, or the newest stable one.",
        _prune,
        flags=(
            Flag("keep", "how many of the newest stable images of each recipe to keep", count),
            Flag("older-than", "delete only images that are at least this many days old", days),
            Flag("recipe", "only images of this recipe: its name, or the path of its file"),
            YES,
            REGIONS,
            CLOUDS,
        ),
        check=_check_prune,
    ),
    Verb(
        "delete-image",
        "Delete an image, after confirmation.",
        _delete_image,
        (IMAGE,),
        (YES, REGION_OF_NAME, CLOUD),
    ),
)
