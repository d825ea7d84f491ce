"""The bakery's verbs: from their flags to a call, and from its result to what the user reads. One table, `VERBS`.

What a verb needs is loaded when it runs: `./inv --list` reads this table and nothing else.
"""

from __future__ import annotations

import clouds
from clouds.home import home
from clouds.locks import reporting
from launcher.command.flags import Flag, Values, Verb, positive
from launcher.command.machine_options import ACCELERATOR, NO_PUBLIC_IP, PLACE_FLAGS, SERVICE_ACCOUNT, TYPE, check_type, given
from launcher.command.terminal import Terminal, table
from launcher.command.verbs import CLOUD, JSON

RECIPE = Flag("recipe", "the recipe: a name in images/, or the path of a TOML file (default: jupyter)", default="jupyter")


def _bake(values: Values, terminal: Terminal) -> int:
    from bakery.bake import bake
    from bakery.events import Note
    from bakery.order import BakeOptions
    from bakery.recipe.recipe import load
    from bakery.view import choose_view

    check_type(values)
    recipe = load(values["recipe"])
    options = BakeOptions(
        force=values["force"],
        refresh=values["refresh"],
        keep=values["keep"],
        no_cache=values["no_cache"],
        from_step=values["from_"] or "",
        cpus=values["cpus"],
        memory_mb=values["memory_mb"],
        machine_type=values["type"] or "",
        no_public_ip=values["no_public_ip"],
    )
    cloud = clouds.connect(values["cloud"], given(values, (*PLACE_FLAGS, SERVICE_ACCOUNT, ACCELERATOR)))
    stream = terminal.stdout if values["json"] else terminal.stderr
    showing = choose_view(stream, as_json=values["json"], verbose=values["verbose"])
    with showing as view, reporting(lambda line: view.show(Note(line))):
        baked = bake(cloud, recipe, options, home=home(), on_event=view.show)
    if values["json"]:
        keys = ("image", "recipe", "version", "cloud", "seconds", "reused")
        terminal.out_json({key: getattr(baked, key) for key in keys})
    elif baked.reused:
        terminal.out(f"{baked.image} is there already: nothing has changed ({baked.seconds:.1f} s; to bake anyway: --force)")
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

    cloud = clouds.connect(values["cloud"], given(values, (ACCELERATOR,)))
    for line in plan(cloud, load(values["recipe"]), home=home()):
        terminal.out(line)
    return 0


VERBS = (
    Verb(
        "bake",
        "Bake the image of a recipe (--recipe NAME), test it and publish it; nothing to do when nothing has changed.",
        _bake,
        flags=(
            RECIPE,
            Flag("force", "bake although nothing has changed", parse=None),
            Flag("refresh", "resolve the base and the packages anew", parse=None),
            Flag("no-cache", "repeat every step, also where a layer of it is kept", parse=None),
            Flag("from", "repeat every step from this one on"),
            Flag("keep", "keep the builder of a bake that fails, for a look", parse=None),
            Flag("verbose", "show the log of the current step", parse=None),
            Flag("json", "write events as JSON lines; the last line is the result", parse=None),
            Flag("cpus", "processors of the builder (default: as the recipe says)", positive),
            Flag("memory-mb", "memory of the builder (default: as the recipe says)", positive),
            TYPE,
            NO_PUBLIC_IP,
            *PLACE_FLAGS,
            SERVICE_ACCOUNT,
            ACCELERATOR,
            CLOUD,
        ),
    ),
    Verb("recipes", "List the recipes.", _recipes, flags=(JSON,)),
    Verb("render", "Print the script that a bake of a recipe (--recipe NAME) would run in its builder.", _render, flags=(RECIPE,)),
    Verb(
        "plan",
        "Say what a bake and a launch of a recipe (--recipe NAME) would do, and why; do nothing.",
        _plan,
        flags=(RECIPE, ACCELERATOR, CLOUD),
    ),
)
