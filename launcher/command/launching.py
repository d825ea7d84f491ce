"""The verb `launch`: what its flags say is checked, and the machine is launched and shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import clouds
from clouds.errors import UsageError
from launcher.command.flags import Values
from launcher.command.machine_options import ACCELERATOR, PLACE_FLAGS, SOURCE, check_granted, given, wishes
from launcher.command.multi_cloud import launches_elsewhere
from launcher.command.places import connect, ledger
from launcher.command.terminal import Terminal

if TYPE_CHECKING:
    from clouds.driver import Cloud
    from launcher.launch import Launched, LaunchOptions

_SETTINGS_OF_LAUNCH = (*PLACE_FLAGS, SOURCE, ACCELERATOR)


def checked_launch(values: Values) -> tuple[Cloud, LaunchOptions]:
    """Return the cloud and the options of a launch, without what pipes contain. UsageError: one of them is wrong."""
    from launcher.access.clone import known_keys, read_url
    from launcher.images import recipe_name

    _check_standard_input(values)
    recipe_name(values["recipe"])
    if values["git"]:
        known_keys(read_url(values["git"]))
    once = [key for key in ("password_file", "env_file") if values[key] == "-" or not Path(values[key] or "").is_file()]
    options = _launch_options({**values, **dict.fromkeys(once)})
    cloud = clouds.connect(values["cloud"], given(values, _SETTINGS_OF_LAUNCH))
    check_granted(cloud, options.wishes, cpus=options.cpus, memory_mb=options.memory_mb)
    return cloud, options


def _check_standard_input(values: Values) -> None:
    """Raise UsageError if two flags would read standard input: nothing would be left for the second one."""
    if values["env_file"] == values["password_file"] == "-":
        raise UsageError(
            "--env-file -: cannot be combined with --password-file -, as both read standard input",
            next_step="Write one of them to a file, and give its path.",
        )


def _launch_options(values: Values) -> LaunchOptions:
    """Return the options of a launch; reads the files that its flags name."""
    from launcher.access.environment import read_env_file
    from launcher.access.git import read_git_config
    from launcher.access.password import read_password
    from launcher.defaults import KEYS
    from launcher.launch import LaunchOptions
    from launcher.machines import LIFETIME_H

    return LaunchOptions(
        recipe=values["recipe"],
        version=values["version"],
        name=values["name"],
        cpus=values["cpus"],
        memory_mb=values["memory_mb"],
        disk_gb=values["disk_gb"],
        password=read_password(values["password_file"]) if values["password_file"] else None,
        lifetime_h=LIFETIME_H if values["lifetime_h"] is None else values["lifetime_h"],
        wishes=wishes(values),
        port=values["port"] or 0,
        given=frozenset(key for key in KEYS if (values[key] is not None and values[key] is not False) or values.get(f"no_{key}")),
        cold=values["cold"],
        environment=read_env_file(values["env_file"]) if values["env_file"] else {},
        git_config=read_git_config() if values["git_config"] else {},
    )


def run_launch(values: Values, terminal: Terminal) -> int:
    """Launch a machine, show it, and clone what `--git` names."""
    from launcher.access.clone import clone, known_keys, read_url
    from launcher.images import NoImageError
    from launcher.launch import launch

    _check_standard_input(values)
    options = _launch_options(values)
    repository = read_url(values["git"]) if values["git"] else None
    keys = known_keys(repository) if repository else ""
    cloud = connect(values, terminal, _SETTINGS_OF_LAUNCH)
    try:
        launched = launch(cloud, ledger(terminal), options, tell=terminal.tell)
    except NoImageError as error:
        elsewhere = launches_elsewhere(values["recipe"], values["version"], besides=cloud.name)
        error.next_step = "\n".join([*elsewhere, error.next_step])
        raise
    if values["json"]:
        terminal.out_json(launched.to_json())
    else:
        _show_launched(launched, terminal)
    if repository:  # the password is printed by now: it is shown once, and the machine stays if the clone fails
        terminal.tell(f"cloning {repository.url} into ~/{repository.folder} of {launched.name}")
        clone(cloud, launched.name, repository, keys)
        terminal.tell(f"{repository.url} is cloned into ~/{repository.folder} of {launched.name}")
    return 0


def labelled(what: str, value: str) -> str:
    """Return the line with a fact about a machine that runs."""
    return f"  {what:<10}{value}"


def _show_launched(launched: Launched, terminal: Terminal) -> None:
    terminal.out(f"{launched.name} is running {launched.image} on {launched.cloud} ({launched.seconds:.1f} s)")
    shown = {
        "url": launched.url,
        "password": launched.password,
        "sha256": launched.certificate,
        "dns": launched.dns,
        "shell": terminal.hint(f"./inv ssh {launched.name}"),
    }
    for what, value in shown.items():
        if value:
            terminal.out(labelled(what, value))
    if terminal.region:
        terminal.tell(f"{launched.name} is in {terminal.region}; to list the machines there: ./inv machines")
    if launched.certificate:
        terminal.tell("Your browser will warn about a self-signed certificate; continue only if it shows the SHA-256 above.")
