"""The bakery's verbs, in one table, `VERBS`: parse flags, call, print the result.

Imports happen when a verb runs: `./inv --list` only reads this table.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import clouds
from clouds.errors import UsageError
from clouds.home import home
from clouds.locks import reporting
from launcher.command.common_flags import CLOUD, CLOUDS, JSON, YES
from launcher.command.flags import Flag, Values, Verb, cpus, memory_mb, text, whole
from launcher.command.launching import checked_launch
from launcher.command.machine_options import (
    ACCELERATOR,
    NO_PUBLIC_IP,
    PLACE_FLAGS,
    SERVICE_ACCOUNT,
    SPOT_BUILDER,
    TYPE,
    check_granted,
    check_type,
    given,
)
from launcher.command.multi_cloud import ALL
from launcher.command.places import connect
from launcher.command.terminal import Terminal, table

if TYPE_CHECKING:
    from bakery.order import BakeOptions

RECIPE = Flag("recipe", "the recipe: a name in images/, or the path of a TOML file (default: jupyter)", default="jupyter")
REGION_OF_PLAN = Flag("region", "the region of the bake and the launch (default: from your settings)")
REGION_OF_CHECKS = Flag("region", "the region to check (default: from your settings)")
_FLAGS_OF_ORDER = (
    RECIPE,
    Flag("force", "bake even if nothing has changed", parse=None),
    Flag("refresh", "use the newest base and packages", parse=None),
    Flag("no-cache", "run every step of the recipe, even if its cached layer is valid", parse=None),
    Flag("from", "run this step and all later ones, even if they are cached"),
    Flag("keep", "keep the builder of a failed bake for inspection", parse=None),
    Flag("cpus", "processors of the builder (default: from the recipe)", cpus),
    Flag("memory-mb", "memory of the builder, in MB (default: from the recipe)", memory_mb),
    TYPE,
    NO_PUBLIC_IP,
    SPOT_BUILDER,
)
"""The flags that decide what a bake does, so that a resumed one cannot follow them."""
_SETTINGS_OF_BAKE = (*PLACE_FLAGS, SERVICE_ACCOUNT, ACCELERATOR)


def _check_bake(values: Values) -> None:
    from bakery.recipe.recipe import load

    check_type(values)
    if values["resume"]:
        _check_resume(values)
        return
    load(values["recipe"])
    check_granted(clouds.connect(values["cloud"], given(values, _SETTINGS_OF_BAKE)), _options(values).wishes)


def check_launch(values: Values) -> None:
    """Check a launch of an image that is not baked yet. UsageError: an image of its recipe will not fit the options.

    Sends a request only to look up the disk of the base for a `--disk-gb`, and whether a `--type` has the GPU of the recipe.
    """
    from bakery.order import known_base
    from bakery.recipe.recipe import load
    from launcher.images import view_of
    from launcher.launch import fitted

    cloud, options = checked_launch(values)
    recipe = load(values["recipe"])
    base = known_base(cloud, recipe) if options.disk_gb else None
    disk_gb = max(recipe.machine.disk_gb, base.disk_gb if base else 0)
    fitted(cloud, options, view_of(cloud, recipe.name, recipe.labels | {"disk-gb": str(disk_gb)}), lambda _line: None)


def _check_resume(values: Values) -> None:
    """Raise UsageError for flags that a resumed bake cannot follow: its order was placed when it began."""
    given = [f"--{flag.name}" for flag in _FLAGS_OF_ORDER if values[flag.key] not in (flag.default, False)]
    if values["resume"] and given:
        raise UsageError(f"--resume: cannot be combined with {', '.join(given)}", next_step="Leave out all but --resume.")


def _options(values: Values) -> BakeOptions:
    from bakery.order import BakeOptions

    return BakeOptions(
        force=values["force"],
        refresh=values["refresh"],
        keep=values["keep"],
        no_cache=values["no_cache"],
        from_step=values["from_"] or "",
        cpus=values["cpus"],
        memory_mb=values["memory_mb"],
        machine_type=values["type"] or "",
        no_public_ip=values["no_public_ip"],
        spot=values["spot"],
    )


def _bake(values: Values, terminal: Terminal) -> int:
    from bakery.bake import bake
    from bakery.events import Note
    from bakery.recipe.recipe import load
    from bakery.resume import resume
    from bakery.view import choose_view

    check_type(values)
    _check_resume(values)
    recipe = None if values["resume"] else load(values["recipe"])
    cloud = connect(values, terminal, _SETTINGS_OF_BAKE)
    stream = terminal.stdout if values["json"] else terminal.stderr
    showing = choose_view(stream, as_json=values["json"], verbose=values["verbose"])
    with showing as view, reporting(lambda line: view.show(Note(line))):
        if recipe:
            baked = bake(cloud, recipe, _options(values), home=home(), on_event=view.show)
        else:
            confirm = partial(terminal.confirm, yes=values["yes"], declined=f"{values['resume']} was not resumed")
            baked = resume(cloud, values["resume"], home=home(), confirm=confirm, on_event=view.show)
    if values["json"]:
        keys = ("image", "recipe", "version", "cloud", "seconds", "reused")
        terminal.out_json({key: getattr(baked, key) for key in keys})
    elif baked.reused:
        terminal.out(f"{baked.image} is up to date ({baked.seconds:.1f} s; to bake anyway: --force)")
    else:
        log = terminal.hint(f"./inv log {baked.id}")
        terminal.out(f"{baked.image} is baked and tested ({baked.seconds:.1f} s; its log: {log})")
    return 0


def _recipes(values: Values, terminal: Terminal) -> int:
    from bakery.recipe.recipe import available, load

    found = [load(name) for name in available()]
    if values["json"]:
        terminal.out_json([{"name": recipe.name, "description": recipe.description} for recipe in found])
        return 0
    for line in table([{"name": recipe.name, "description": recipe.description} for recipe in found]):
        terminal.out(line)
    return 0


def _render(values: Values, terminal: Terminal) -> int:
    from bakery.recipe.recipe import load
    from bakery.script.render import render
    from bakery.script.resolve import resolve

    recipe = load(values["recipe"])
    script = render(recipe, resolve(recipe, home() / "resolved", refresh=False), cloud=clouds.default())
    terminal.out_exactly(script.text.rstrip("\n"))
    return 0


def _plan(values: Values, terminal: Terminal) -> int:
    from bakery.plan import plan
    from bakery.recipe.recipe import load

    cloud = connect(values, terminal, (REGION_OF_PLAN, ACCELERATOR))
    for line in plan(cloud, load(values["recipe"]), home=home()):
        terminal.out(line)
    return 0


def _doctor(values: Values, terminal: Terminal) -> int:
    from bakery.doctor import HERE, examine
    from clouds.findings import Health
    from launcher.command import hints

    name = values["cloud"]
    if name and name != ALL:
        clouds.check(name)
    found, shown = [], []

    def chosen() -> list[str]:
        return clouds.configured() if name == ALL else [name or clouds.default()]

    for row in examine(chosen, values["region"] or ""):
        place = "" if row.cloud == HERE else f"{row.cloud}: "
        next_step = hints.write(row.finding.next_step, row.cloud if name and place else "", row.region)
        found.append(row)
        shown.append({**row.to_json(), "next": next_step})
        if not values["json"]:
            terminal.out(f"{row.finding.state:<8} {place}{row.check}: {row.finding.text}")
            for line in next_step.splitlines():
                terminal.out(f"         next: {line}")
    if values["json"]:
        terminal.out_json(shown)
    return int(any(row.finding.state is Health.PROBLEM for row in found))


def _rebuild(values: Values, terminal: Terminal) -> int:
    from bakery.rebuild.rebuild import rebuild

    return rebuild(values, terminal)


def _names(typed: str) -> list[str]:
    found = [name for name in map(str.strip, text(typed).split(",")) if name]
    if not found:
        raise ValueError("has no name (write one or more, separated by commas, or leave the flag out)")
    return list(dict.fromkeys(found))


VERBS = (
    Verb(
        "bake",
        "Bake, test and publish the image of a recipe (--recipe NAME), unless it is up to date.",
        _bake,
        flags=(
            *_FLAGS_OF_ORDER,
            Flag("resume", "continue this bake, whose command was killed (its id is in: ./inv bakes)"),
            Flag("verbose", "show the log of each step while it runs", parse=None),
            Flag("json", "print events as JSON lines; the last line is the result", parse=None),
            YES,
            *PLACE_FLAGS,
            SERVICE_ACCOUNT,
            ACCELERATOR,
            CLOUD,
        ),
        check=_check_bake,
    ),
    Verb(
        "rebuild",
        "Bake the images that are due, several at once; delete those that they replace, and clean up. For schedules.",
        _rebuild,
        flags=(
            Flag("recipe", "the recipes, separated by commas (default: those with a table [rebuild])", _names),
            Flag("cloud", "the clouds or accounts, separated by commas, or all (default: all that you use)", _names),
            Flag("jobs", "how many bakes run at the same time (default: 4)", whole(1, 100), default=4),
            Flag("dry-run", "print which images are due, and why, without baking or deleting any", parse=None),
            JSON,
        ),
    ),
    Verb("recipes", "List the recipes.", _recipes, flags=(JSON,)),
    Verb("render", "Print the script that a bake of a recipe (--recipe NAME) would run.", _render, flags=(RECIPE,)),
    Verb(
        "plan",
        "Print what a bake and a launch of a recipe (--recipe NAME) would do, and why, without doing it.",
        _plan,
        flags=(RECIPE, REGION_OF_PLAN, ACCELERATOR, CLOUD),
    ),
    Verb(
        "doctor",
        "Check what bakes and launches need, and print what is wrong and how to fix it; exit with 1 if there is a problem.",
        _doctor,
        flags=(JSON, REGION_OF_CHECKS, CLOUDS),
    ),
)
