"""The launcher's verbs: each turns flags into a call, and prints the result. The table of all is `VERBS`.

A verb imports what it needs when it runs, so that `./inv --list` loads only this table.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clouds.errors import UsageError
from clouds.home import home
from launcher.command import hints
from launcher.command.bake_list import show_bakes
from launcher.command.common_flags import CLOUD, CLOUDS, JSON, REGIONS, YES
from launcher.command.flags import (
    Flag,
    Positional,
    Values,
    Verb,
    cpus,
    days,
    disk_gb,
    env_file,
    gigabytes,
    git_url,
    hours,
    image_version,
    machine_name,
    memory_mb,
    password_file,
)
from launcher.command.hints import Command
from launcher.command.image_verbs import VERBS as IMAGE_VERBS
from launcher.command.launching import checked_launch, labelled, run_launch
from launcher.command.machine_options import (
    ACCELERATOR,
    NEW_SOURCE,
    PLACE_FLAGS,
    SOURCE,
    WISH_FLAGS,
)
from launcher.command.multi_cloud import ALL, visit
from launcher.command.places import REGION, REGION_OF_NAME, connect_to, ledger
from launcher.command.tables import hours_shown, image_row, machine_row
from launcher.command.terminal import Terminal, table

if TYPE_CHECKING:
    from launcher.images import ImageView
    from launcher.machines import MachineView

RECIPE = Flag(
    "recipe",
    "the recipe whose image to launch: its name, or the path of its file (default: jupyter; after bake: its recipe)",
    default="jupyter",
)
LIFETIME = Flag(
    "lifetime-h", "hours until the machine stops automatically (default: from the recipe, else 24; at most 8760; 0: never)", hours
)
NEW_LIFETIME = Flag(
    "lifetime-h", "hours from now until the machine stops automatically (default: 24; at most 8760; 0: never)", hours
)
PASSWORD_FILE = Flag("password-file", "file whose first line is the new password; '-' prompts for it", password_file)
ENV_FILE = Flag(
    "env-file", "file of lines NAME=VALUE: variables for the machine's user, sent over SSH; '-' reads standard input", env_file
)
GIT_CONFIG = Flag("git-config", "set user.name and user.email of the machine's git as on this computer", parse=None)
GIT = Flag("git", "clone this repository into the machine's home: an https URL, or an SSH URL with your SSH agent", git_url)
SUSPEND = Flag("suspend", "save its memory too, so that start resumes it where it was (if the cloud supports this)", parse=None)
COLD = Flag("cold", "boot from the disk, even if the image has saved memory", parse=None)
NAME = Positional("name", "name of the machine")


def _machines(values: Values, terminal: Terminal) -> int:
    from launcher.machines import machines

    errors: list[str] = []
    lists, complete = visit(values["cloud"], machines, errors.append, region=values["region"])
    found = [machine for one in lists for machine in one]
    if values["json"]:
        terminal.out_json([machine.to_json() for machine in found])
        return _finish(errors, terminal, complete=complete)
    if not found and complete:
        terminal.tell("no machines; to launch one: ./inv launch")
    for line in table([machine_row(machine, names_cloud=bool(values["cloud"])) for machine in found]):
        terminal.out(line)
    errors += [_broken("machine", one, "delete") for one in found if one.state == "broken"]
    return _finish(errors, terminal, complete=complete)


def _images(values: Values, terminal: Terminal) -> int:
    from launcher.images import images, recipe_name

    wanted = recipe_name(values["recipe"]) if values["recipe"] else None
    errors: list[str] = []
    lists, complete = visit(values["cloud"], images, errors.append, region=values["region"])
    listed = [image for one in lists for image in one]
    found = [image for image in listed if wanted in (None, image.recipe)]
    old = _old(found, listed, values) if values["max_age_days"] and (found or complete) else []
    if values["json"]:
        terminal.out_json([image.to_json() for image in found])
        return _finish([*errors, *old], terminal, complete=complete and not old)
    if not found and complete and not old:
        terminal.tell(_no_images(values["recipe"], listed))
    for line in table([image_row(image) for image in found]):
        terminal.out(line)
    errors += [_broken("image", one, "delete-image") for one in found if one.state == "broken"]
    return _finish([*errors, *old], terminal, complete=complete and not old)


def _old(found: list[ImageView], listed: list[ImageView], values: Values) -> list[str]:
    """Return the errors for recipes whose newest stable image is too old, or that have none; no image at all is an error, too.

    `found` are the images of the wanted recipe, `listed` those of all.
    """
    from launcher.images import age_days, bake_command, has_stable, outdated, recipe_meant, recipe_name

    if not found and (recipe := values["recipe"]):
        meant = recipe_meant(recipe, [image.recipe for image in listed])
        return [f"error: no images of {recipe_name(recipe)!r} found", f"next: {meant or f'Bake one: {bake_command(recipe)}'}"]
    if not found:
        return ["error: no images found", "next: Bake one: ./inv bake"]
    now = time.time()
    old, never = outdated(found, values["max_age_days"], now=now), [one for one in found if not has_stable(found, one)]
    whys = {f"{one.name} on {one.cloud} is {age_days(one, now)} days old": one for one in old}
    whys |= {f"{one.recipe} has no stable image on {one.cloud}": one for one in never}
    lines: list[str] = []
    for why, one in whys.items():
        cloud, region = one.cloud if values["cloud"] == ALL else "", one.location if values["region"] == ALL else ""
        lines += [f"error: {why}", hints.write(f"next: Bake it anew: {bake_command(one.recipe)} --refresh", cloud, region)]
    return lines


def _no_images(recipe: str | None, others: list[ImageView]) -> str:
    from launcher.images import bake_command, recipe_meant, recipe_name

    if recipe is None:
        return "no images; to bake one: ./inv bake"
    meant = recipe_meant(recipe, [image.recipe for image in others])
    what = f"no images of {recipe_name(recipe)!r}"
    return f"{what}. {meant}" if meant else f"{what}; to bake one: {bake_command(recipe)}"


def _broken(kind: str, found: MachineView | ImageView, verb: str) -> str:
    command = Command(verb, (found.name,), found.cloud)
    return f"{kind} {found.name!r} on {found.cloud} is broken: its record cannot be read; to delete it: {command}"


def _finish(errors: list[str], terminal: Terminal, *, complete: bool) -> int:
    """Print the errors below the rows that were found, and return the exit code."""
    for line in errors:
        terminal.tell(line)
    return 0 if complete else 1


def _ssh(values: Values, terminal: Terminal) -> int:
    from launcher.access.ssh import ssh

    return ssh(connect_to(values["name"], values, terminal), values["name"], values["command"])


def _check_machine(values: Values, terminal: Terminal) -> int:
    from launcher.check_machine import Outcome, check_machine

    failed = False
    for test in check_machine(connect_to(values["name"], values, terminal), values["name"]):
        terminal.out(f"{test.outcome:<8}{test.name} ({test.seconds:.1f} s)" + (f": {test.why}" if test.why else ""))
        for line in test.log:
            terminal.quote(f"  | {line}")
        failed = failed or test.outcome is Outcome.FAILED
    return 1 if failed else 0


def _open(values: Values, terminal: Terminal) -> int:
    from launcher.access.notebook import open_url
    from launcher.machines import notebook_url

    terminal.out(open_url(notebook_url(connect_to(values["name"], values, terminal), values["name"], terminal.tell)))
    return 0


def _copy(values: Values, terminal: Terminal) -> int:
    from launcher.access.copy import copy, machine_of

    cloud = connect_to(machine_of(values["source"], values["destination"]), values, terminal)
    copy(cloud, values["source"], values["destination"], tell=terminal.tell, transient=terminal.transient)
    return 0


def _password(values: Values, terminal: Terminal) -> int:
    from launcher.access import password

    file = values["password_file"]
    new = password.read_password(file) if file else password.generate()
    password.set_password(connect_to(values["name"], values, terminal), values["name"], new)
    terminal.tell(f"machine {values['name']!r} has a new password; all sessions are logged out")
    if not file:
        terminal.out(new)
    return 0


def _stop(values: Values, terminal: Terminal) -> int:
    from clouds.driver import State  # costs 10 ms, which `./inv --list` need not spend
    from launcher import power
    from launcher.command.unsaved_work import show_unsaved
    from launcher.machines import find_machine

    name = values["name"]
    cloud = connect_to(name, values, terminal)
    view = find_machine(cloud, name)
    discards = view.state == State.SUSPENDED and not values["suspend"]
    if discards and not values["yes"]:
        terminal.tell(f"machine {name!r} is suspended: its saved memory, and everything that runs in it, would be discarded")
    if not values["yes"] and (discards or show_unsaved(cloud, view, terminal)):
        terminal.confirm(f"Stop machine {name!r}?", yes=False, declined=f"machine {name!r} was not stopped")
    if values["suspend"]:
        power.suspend(cloud, name)
        state, costs = "suspended; its disk and memory are kept", f"{cloud.stopped_costs}, its saved memory"
    else:
        was_suspended = power.stop(cloud, name)
        already = "already " if view.state == State.STOPPED else ""
        state, costs = f"{already}stopped; its disk is kept", cloud.stopped_costs
        if was_suspended:
            state += ", its saved memory and everything that ran in it is discarded"
    billed = f" Still billed: {costs}." if cloud.stopped_costs else ""
    terminal.tell(f"machine {name!r} is {state}.{billed} To start it again: ./inv start {name}")
    return 0


def _start(values: Values, terminal: Terminal) -> int:
    from launcher.power import start

    cloud = connect_to(values["name"], values, terminal, (ACCELERATOR,))
    machine = start(cloud, values["name"], lifetime_h=values["lifetime_h"], source=values["source"] or "", tell=terminal.tell)
    stops = f"; it stops in {hours_shown(machine.left_s)}" if machine.left_s else ""
    terminal.tell(f"machine {machine.name!r} is running{stops}")
    if machine.url:
        terminal.out(labelled("url", machine.url))
    return 0


def _delete(values: Values, terminal: Terminal) -> int:
    from launcher.command.unsaved_work import show_unsaved
    from launcher.machines import delete, find_machine, spare_bakes

    name = values["name"]
    cloud = connect_to(name, values, terminal)
    view = spare_bakes(find_machine(cloud, name))
    question = (
        f"Delete machine {name!r}? Its disk is kept." if view.keeps_disk else f"Delete machine {name!r} and everything on its disk?"
    )
    if not values["yes"]:
        show_unsaved(cloud, view, terminal)
    terminal.confirm(question, yes=values["yes"])
    delete(cloud, ledger(terminal), name)
    terminal.tell(f"machine {name!r} deleted")
    if view.static_ip:
        released = f"./inv delete-address {view.static_ip}"
        terminal.tell(f"its address {view.static_ip!r} stays reserved, and billed; to release it: {released}")
    if view.keeps_disk:
        terminal.tell("its disk is kept, and billed as while the machine existed, by size and type")
        terminal.tell(f"to delete the disk: {terminal.hint(f'./inv delete-disk {name}')}")
    return 0


def _delete_disk(values: Values, terminal: Terminal) -> int:
    from launcher.kept_disks import delete_disk, described, find_disk

    cloud = connect_to(values["disk"], values, terminal)
    disk = find_disk(cloud, values["disk"])
    terminal.confirm(f"Delete {described(disk)} and everything on it?", yes=values["yes"])
    delete_disk(cloud, ledger(terminal), disk)
    terminal.tell(f"{described(disk)} deleted")
    return 0


def _delete_address(values: Values, terminal: Terminal) -> int:
    from launcher.addresses import delete_address, described, find_address

    cloud = connect_to("", values, terminal)
    address = find_address(cloud, values["address"])
    terminal.confirm(f"Release {described(address)}?", yes=values["yes"])
    delete_address(cloud, ledger(terminal), address)
    terminal.tell(f"{described(address)} released")
    return 0


def _log(values: Values, terminal: Terminal) -> int:
    from launcher.log import read_log

    terminal.out(read_log(home(), connect_to(values["id"], values, terminal), values["id"]).rstrip("\n"))
    return 0


def _check_gc(values: Values) -> None:
    if values["layers"] and values["layers_gb"] is not None:
        raise UsageError(
            "--layers: cannot be combined with --layers-gb",
            next_step="To delete all cached layers that nothing uses: --layers; to keep those used last, up to 5 GB: --layers-gb 5",
        )


def _gc(values: Values, terminal: Terminal) -> int:
    from launcher.command.cleanup import tidy_up

    _check_gc(values)
    keep_gb = values["layers_gb"] if values["layers_gb"] is not None else 0.0 if values["layers"] else None
    return tidy_up(
        values["cloud"],
        ledger(terminal),
        terminal,
        keep_gb=keep_gb,
        yes=values["yes"],
        region=values["region"],
        bakes=values["bakes"],
    )


VERBS = (
    Verb(
        "launch",
        "Launch a machine from the newest stable image of a recipe (--recipe NAME) and print its URL and password.",
        run_launch,
        flags=(
            RECIPE,
            Flag("version", "version of the image, such as 1.4.0-7 (default: the newest stable one)", image_version),
            Flag("name", "name of the machine (default: generated)", machine_name),
            Flag("cpus", "processors of the machine (default: from the recipe)", cpus),
            Flag("memory-mb", "memory of the machine, in MB (default: from the recipe)", memory_mb),
            Flag("disk-gb", "disk of the machine, in GB (default: from the recipe)", disk_gb),
            PASSWORD_FILE,
            ENV_FILE,
            GIT_CONFIG,
            GIT,
            LIFETIME,
            COLD,
            *WISH_FLAGS,
            *PLACE_FLAGS,
            SOURCE,
            ACCELERATOR,
            JSON,
            CLOUD,
        ),
        check=checked_launch,
    ),
    Verb("machines", "List machines and the time until they stop.", _machines, flags=(JSON, REGIONS, CLOUDS)),
    Verb(
        "images",
        "List images.",
        _images,
        flags=(
            Flag("recipe", "only images of this recipe: its name, or the path of its file"),
            Flag(
                "max-age-days",
                "fail if the newest stable image of a recipe is older, or if no image of it is stable, and print which",
                days,
            ),
            JSON,
            REGIONS,
            CLOUDS,
        ),
    ),
    Verb("bakes", "List running, killed and ended bakes, and what they hold.", show_bakes, flags=(JSON, REGIONS, CLOUDS)),
    Verb(
        "ssh",
        "Open a shell on a machine, or run a command there: ssh NAME -- COMMAND.",
        _ssh,
        (NAME,),
        (REGION, CLOUD),
        takes_command=True,
    ),
    Verb(
        "check-machine",
        "Run the tests of a machine's recipe on it; print whether each has passed, failed or was skipped.",
        _check_machine,
        (NAME,),
        (REGION, CLOUD),
    ),
    Verb("open", "Open a machine's notebook in the browser and print its URL.", _open, (NAME,), (REGION, CLOUD)),
    Verb(
        "copy",
        "Copy a file or folder to or from a machine; write the path on the machine as NAME:PATH.",
        _copy,
        (Positional("source", "file or folder to copy"), Positional("destination", "where to copy it")),
        (REGION, CLOUD),
    ),
    Verb(
        "password",
        "Set a new password for a machine's notebook, and print it if it was generated.",
        _password,
        (NAME,),
        (PASSWORD_FILE, REGION, CLOUD),
    ),
    Verb("stop", "Stop a machine; its disk is kept.", _stop, (NAME,), (SUSPEND, YES, REGION, CLOUD)),
    Verb("start", "Start a stopped or suspended machine.", _start, (NAME,), (NEW_LIFETIME, NEW_SOURCE, ACCELERATOR, REGION, CLOUD)),
    Verb("delete", "Delete a machine and its disk, after confirmation.", _delete, (NAME,), (YES, REGION, CLOUD)),
    *IMAGE_VERBS,
    Verb(
        "delete-disk",
        "Delete a disk that a machine launched with --keep-disk has left, after confirmation.",
        _delete_disk,
        (Positional("disk", "name of the disk, or of its deleted machine; ZONE/NAME if several zones have one"),),
        (YES, REGION_OF_NAME, CLOUD),
    ),
    Verb(
        "delete-address",
        "Release an address that launch --static-ip has reserved, after confirmation.",
        _delete_address,
        (Positional("address", "name of the address; REGION/NAME if several regions have one"),),
        (YES, REGION_OF_NAME, CLOUD),
    ),
    Verb(
        "log",
        "Print the log of a bake or the console of a machine.",
        _log,
        (Positional("id", "id of the bake or name of the machine"),),
        (REGION, CLOUD),
    ),
    Verb(
        "gc",
        "Find orphaned resources of crashed bakes and launches, and delete them after confirmation.",
        _gc,
        flags=(
            Flag("bakes", "also delete what killed bakes have left that could be resumed", parse=None),
            Flag("layers", "also delete cached layers that nothing uses", parse=None),
            Flag("layers-gb", "also delete the least recently used cached layers until at most this many GB remain", gigabytes),
            YES,
            REGIONS,
            CLOUDS,
        ),
        check=_check_gc,
    ),
)
