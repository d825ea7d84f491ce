"""What only some clouds can give: the flags that ask for it, and what is told where a cloud cannot.

A flag becomes a setting of the cloud (where: `given`) or a wish for one machine (`wishes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from clouds.errors import UsageError
from launcher.command.flags import Flag, Values, end, port

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Cloud, Wishes

HTTPS_PORT = 443

PLACE_FLAGS = (
    Flag("zone", "the zone of the cloud to try first (default: as your settings say)"),
    Flag("region", "the region of the cloud, whose zones are tried in turn (default: as your settings say)"),
    Flag("network", "the cloud's network (default: as your settings say)"),
    Flag("subnet", "the part of the network (default: as your settings say)"),
)
ACCELERATOR = Flag("accelerator", "what local machines run on: kvm, or tcg, which emulates (default: KVM where it works)")
SOURCE = Flag("source", "the addresses that may reach the machine, such as 203.0.113.7/32 (default: as your settings say)")
NEW_SOURCE = Flag(
    "source", "the addresses that may reach it from now on (default: this computer's, unless your settings name some)"
)
SERVICE_ACCOUNT = Flag("service-account", "the account that the builder acts as (default: as your settings say)")
TYPE = Flag("type", "the cloud's machine type, in place of --cpus and --memory-mb")
NO_PUBLIC_IP = Flag("no-public-ip", "give it no public address; it is reached from inside the network", parse=None)
WISH_FLAGS = (
    TYPE,
    Flag("spot", "take spare capacity: cheap, but the cloud may take it back at any time", parse=None),
    Flag("on-preempt", "what becomes of a --spot machine when it is taken back: stop or delete (default: stop)", end),
    Flag("disk-type", "the cloud's type of disk"),
    Flag("static-ip", "the name of an address that is reserved once and stays, also when the machine is deleted"),
    NO_PUBLIC_IP,
    Flag("https", "open its notebook to your address, with TLS and a pinned certificate, in place of a tunnel", parse=None),
    Flag("port", f"the port of --https (default: {HTTPS_PORT})", port),
)

_LACKS = {
    "machine_type": ("--type", "machine types"),
    "spot": ("--spot", "such machines"),
    "on_preempt": ("--on-preempt", "such machines"),
    "disk_type": ("--disk-type", "disk types"),
    "static_ip": ("--static-ip", "addresses to reserve"),
    "no_public_ip": ("--no-public-ip", "public addresses"),
    "https_port": ("--https", "need of it: its notebooks answer here"),
}
"""For each wish its flag, and what a cloud that does not grant it has none of."""


def given(values: Values, flags: Iterable[Flag]) -> dict[str, str]:
    """Return the settings that were told by flags."""
    return {flag.key: values[flag.key] for flag in flags if values[flag.key] is not None}


def wishes(values: Values) -> Wishes:
    """Return what the flags of a launch wish for. Raises UsageError for flags that make no sense without another, or with one."""
    from clouds.driver import End, Wishes

    _check_together(values)
    return Wishes(
        machine_type=values["type"] or "",
        spot=values["spot"],
        on_preempt=End(values["on_preempt"] or End.STOP),
        disk_type=values["disk_type"] or "",
        static_ip=values["static_ip"] or "",
        no_public_ip=values["no_public_ip"],
        https_port=(values["port"] or HTTPS_PORT) if values["https"] else 0,
    )


def check_type(values: Values) -> None:
    """Raise UsageError for a machine type beside the figures that it stands for."""
    if values["type"] and (values["cpus"] or values["memory_mb"]):
        raise UsageError("--type: takes the place of --cpus and --memory-mb (give the one or the others)")


def check_granted(cloud: Cloud, wished: Wishes) -> None:
    """Raise UsageError, which lists every wish that a cloud cannot fulfil."""
    asked = [field.name for field in fields(wished) if getattr(wished, field.name) != field.default]
    if refused := [_LACKS[name] for name in asked if name not in cloud.grants]:
        lines = [f"{flag}: the cloud {cloud.name} has no {what}" for flag, what in refused]
        raise UsageError("\n".join(f"{line} (leave it out, or choose another --cloud)" for line in lines))


def _check_together(values: Values) -> None:
    check_type(values)
    if values["on_preempt"] and not values["spot"]:
        raise UsageError("--on-preempt: is for machines that can be taken back (give --spot too, or leave it out)")
    if values["port"] and not values["https"]:
        raise UsageError("--port: is the port of --https (give --https too, or leave it out)")
    if values["no_public_ip"] and values["static_ip"]:
        raise UsageError("--static-ip: is a public address (leave it or --no-public-ip out)")
