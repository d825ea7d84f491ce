"""The launcher's verbs: from their flags to a call, and from its result to what the user reads. One table, `VERBS`.

What a verb needs is loaded when it runs: `./inv --list` reads this table and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import clouds
from clouds.home import home
from launcher.command.flags import Flag, Positional, Values, Verb, gigabytes, hours, positive
from launcher.command.hints import Command
from launcher.command.machine_options import ACCELERATOR, NEW_SOURCE, PLACE_FLAGS, SOURCE, WISH_FLAGS, given, wishes
from launcher.command.multi_cloud import launches_elsewhere, visit
from launcher.command.tables import hours_shown, image_row, machine_row
from launcher.command.terminal import Terminal, table

if TYPE_CHECKING:
    from clouds.ledger import Ledger
    from launcher.images import ImageView
    from launcher.machines import MachineView

JSON = Flag("json", "write the result as JSON on one line", parse=None)
YES = Flag("yes", "do not ask", parse=None)
CLOUD = Flag("cloud", "the cloud to work in, or an account such as gcp.research (default: the one of your settings, else local)")
CLOUDS = Flag(
    "cloud", "the cloud to work in, an account such as gcp.research, or all (default: the one of your settings, else local)"
)
RECIPE = Flag("recipe", "the recipe of the image (default: jupyter)", default="jupyter")
LIFETIME = Flag("lifetime-h", "hours until the machine stops itself (default: 24; 0: never)", hours, default=24.0)
NEW_LIFETIME = Flag("lifetime-h", "hours until the machine stops itself again (default: 24; 0: never)", hours)
PASSWORD_FILE = Flag("password-file", "a file whose first line is the password to set; '-' asks on the terminal")
SUSPEND = Flag("suspend", "keep its memory too, so that it goes on where it was (where the cloud can)", parse=None)
COLD = Flag("cold", "boot from the disk, although the image has the memory of a machine that has booted", parse=None)
NAME = Positional("name", "the machine")


def _launch(values: Values, terminal: Terminal) -> int:
    from launcher.access.password import read_password
    from launcher.images import NoImageError
    from launcher.launch import LaunchOptions, launch

    options = LaunchOptions(
        recipe=values["recipe"],
        version=values["version"],
        name=values["name"],
        cpus=values["cpus"],
        memory_mb=values["memory_mb"],
        disk_gb=values["disk_gb"],
        password=read_password(values["password_file"]) if values["password_file"] else None,
        lifetime_h=values["lifetime_h"],
        wishes=wishes(values),
        cold=values["cold"],
    )
    cloud = clouds.connect(values["cloud"], given(values, (*PLACE_FLAGS, SOURCE, ACCELERATOR)))
    try:
        launched = launch(cloud, _ledger(terminal), options, tell=terminal.tell)
    except NoImageError as error:
        elsewhere = launches_elsewhere(values["recipe"], values["version"], besides=cloud.name)
        error.next_step = "\n".join([*elsewhere, error.next_step])
        raise
    if values["json"]:
        terminal.out_json(launched.to_json())
        return 0
    terminal.out(f"{launched.name} runs {launched.image} on {launched.cloud} (after {launched.seconds:.1f} s)")
    shown = {
        "url": launched.url,
        "password": launched.password,
        "sha256": launched.certificate,
        "shell": terminal.hint(f"./inv ssh {launched.name}"),
    }
    for what, value in shown.items():
        if value:
            terminal.out(f"  {what:<10}{value}")
    if launched.certificate:
        terminal.tell(
            "Your browser will warn that nobody has signed the certificate: go on when the SHA-256 that it shows is this one."
        )
    return 0


def _machines(values: Values, terminal: Terminal) -> int:
    from launcher.machines import machines

    late: list[str] = []
    lists, well = visit(values["cloud"], machines, late.append)
    found = [machine for one in lists for machine in one]
    if values["json"]:
        terminal.out_json([machine.to_json() for machine in found])
        return _told(late, terminal, well=well)
    if not found and well:
        terminal.tell("no machines; to launch one: ./inv launch")
    for line in table([machine_row(machine, names_cloud=bool(values["cloud"])) for machine in found]):
        terminal.out(line)
    late += [_broken("machine", one, "delete") for one in found if one.state == "broken"]
    return _told(late, terminal, well=well)


def _images(values: Values, terminal: Terminal) -> int:
    from launcher.images import images

    late: list[str] = []
    lists, well = visit(values["cloud"], images, late.append)
    found = [image for one in lists for image in one if values["recipe"] in (None, image.recipe)]
    if values["json"]:
        terminal.out_json([image.to_json() for image in found])
        return _told(late, terminal, well=well)
    if not found and well:
        terminal.tell("no images; to bake one: ./inv bake")
    for line in table([image_row(image) for image in found]):
        terminal.out(line)
    late += [_broken("image", one, "delete-image") for one in found if one.state == "broken"]
    return _told(late, terminal, well=well)


def _broken(kind: str, found: MachineView | ImageView, verb: str) -> str:
    command = Command(verb, (found.name,), found.cloud)
    return f"{kind} {found.name} on {found.cloud} is broken: its record cannot be read; to delete it: {command}"


def _told(late: list[str], terminal: Terminal, *, well: bool) -> int:
    """Print what went wrong below the rows that were found, and return the exit code."""
    for line in late:
        terminal.tell(line)
    return 0 if well else 1


def _ssh(values: Values, _terminal: Terminal) -> int:
    from launcher.access.ssh import ssh

    return ssh(clouds.connect(values["cloud"]), values["name"], values["command"])


def _open(values: Values, terminal: Terminal) -> int:
    from launcher.access.notebook import open_url
    from launcher.machines import notebook_url

    terminal.out(open_url(notebook_url(clouds.connect(values["cloud"]), values["name"], terminal.tell)))
    return 0


def _copy(values: Values, _terminal: Terminal) -> int:
    from launcher.access.copy import copy

    copy(clouds.connect(values["cloud"]), values["source"], values["destination"])
    return 0


def _password(values: Values, terminal: Terminal) -> int:
    from launcher.access import password

    file = values["password_file"]
    new = password.read_password(file) if file else password.generate()
    password.set_password(clouds.connect(values["cloud"]), values["name"], new)
    terminal.tell(f"{values['name']} has a new password; whoever was logged in is logged out")
    if not file:
        terminal.out(new)
    return 0


def _stop(values: Values, terminal: Terminal) -> int:
    from launcher import power

    cloud, name = clouds.connect(values["cloud"]), values["name"]
    if values["suspend"]:
        power.suspend(cloud, name)
        state, costs = "suspended; its disk and its memory stay", f"{cloud.stopped_costs}, the memory that is kept"
    else:
        was_suspended = power.stop(cloud, name)
        state, costs = "off; its disk stays", cloud.stopped_costs
        if was_suspended:
            state += ", and the memory that was saved is discarded, with what ran in it"
    paid = f" What still costs: {costs}." if cloud.stopped_costs else ""
    terminal.tell(f"{name} is {state}.{paid} To start it again: ./inv start {name}")
    return 0


def _start(values: Values, terminal: Terminal) -> int:
    from launcher.power import start

    cloud = clouds.connect(values["cloud"], given(values, (ACCELERATOR,)))
    machine = start(cloud, values["name"], lifetime_h=values["lifetime_h"], source=values["source"] or "", tell=terminal.tell)
    terminal.tell(f"{machine.name} is on" + (f" for another {hours_shown(machine.left_s)}" if machine.left_s else ""))
    if machine.url:
        terminal.out(machine.url)
    return 0


def _delete(values: Values, terminal: Terminal) -> int:
    from launcher.machines import delete, find_machine

    cloud, name = clouds.connect(values["cloud"]), values["name"]
    find_machine(cloud, name)
    terminal.confirm(f"Delete machine {name} and everything on its disk?", yes=values["yes"])
    delete(cloud, _ledger(terminal), name)
    terminal.tell(f"machine {name} is deleted")
    return 0


def _delete_image(values: Values, terminal: Terminal) -> int:
    from launcher.images import delete_image

    name = values["image"]
    terminal.confirm(f"Delete image {name}?", yes=values["yes"])
    delete_image(clouds.connect(values["cloud"]), _ledger(terminal), name)
    terminal.tell(f"image {name} is deleted")
    return 0


def _log(values: Values, terminal: Terminal) -> int:
    from launcher.log import read_log

    terminal.out(read_log(home(), clouds.connect(values["cloud"]), values["id"]).rstrip("\n"))
    return 0


def _gc(values: Values, terminal: Terminal) -> int:
    from launcher.command.cleanup import tidy_up

    keep_gb = values["layers_gb"] if values["layers_gb"] is not None else 0.0 if values["layers"] else None
    return tidy_up(values["cloud"], _ledger(terminal), terminal, keep_gb=keep_gb, yes=values["yes"])


def _ledger(terminal: Terminal) -> Ledger:
    from clouds.ledger import Ledger

    return Ledger(home() / "ledger.sqlite3", terminal.tell)


VERBS = (
    Verb(
        "launch",
        "Launch a machine from the newest good image of a recipe (--recipe NAME) and print its URL and password.",
        _launch,
        flags=(
            RECIPE,
            Flag("version", "the version of the image, such as 1.4.0-7 (default: the newest that has passed its tests)"),
            Flag("name", "the name of the machine (default: one is made up)"),
            Flag("cpus", "how many processors it has (default: as the recipe says)", positive),
            Flag("memory-mb", "how much memory it has (default: as the recipe says)", positive),
            Flag("disk-gb", "how large its disk is (default: as the recipe says)", positive),
            PASSWORD_FILE,
            LIFETIME,
            COLD,
            *WISH_FLAGS,
            *PLACE_FLAGS,
            SOURCE,
            ACCELERATOR,
            JSON,
            CLOUD,
        ),
    ),
    Verb("machines", "List the machines and the hours they have left.", _machines, flags=(JSON, CLOUDS)),
    Verb(
        "images",
        "List the images.",
        _images,
        flags=(Flag("recipe", "only the images of this recipe"), JSON, CLOUDS),
    ),
    Verb(
        "ssh",
        "Open a shell in a machine, or run a command there: ssh NAME -- COMMAND.",
        _ssh,
        (NAME,),
        (CLOUD,),
        takes_command=True,
    ),
    Verb("open", "Open a machine's notebook in the browser and print its URL.", _open, (NAME,), (CLOUD,)),
    Verb(
        "copy",
        "Copy a file or folder to or from a machine; one of the two is written NAME:PATH.",
        _copy,
        (Positional("source", "what to copy"), Positional("destination", "where to")),
        (CLOUD,),
    ),
    Verb("password", "Give a machine a new password and print it.", _password, (NAME,), (PASSWORD_FILE, CLOUD)),
    Verb("stop", "Shut a machine down; its disk stays.", _stop, (NAME,), (SUSPEND, CLOUD)),
    Verb(
        "start", "Start a machine that was stopped or suspended.", _start, (NAME,), (NEW_LIFETIME, NEW_SOURCE, ACCELERATOR, CLOUD)
    ),
    Verb("delete", "Delete a machine with its disk, after asking.", _delete, (NAME,), (YES, CLOUD)),
    Verb("delete-image", "Delete an image, after asking.", _delete_image, (Positional("image", "the image"),), (YES, CLOUD)),
    Verb(
        "log",
        "Print the log of a bake or the console of a machine.",
        _log,
        (Positional("id", "a bake's id or a machine's name"),),
        (CLOUD,),
    ),
    Verb(
        "gc",
        "Find what crashed bakes and launches have left behind, and delete it after asking; with --layers those of bakes, too.",
        _gc,
        flags=(
            Flag("layers", "delete the layers that bakes have kept, too, but those in use", parse=None),
            Flag("layers-gb", "delete layers until they take no more GB than this, those used longest ago first", gigabytes),
            YES,
            CLOUDS,
        ),
    ),
)
