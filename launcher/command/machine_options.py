"""Flags that only some clouds support, and the error where a cloud does not.

A flag becomes a setting of the cloud (`given`: the zone, for example) or an option of one machine (`wishes`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING

from clouds import ranges
from clouds.errors import UsageError, not_supported
from launcher.command.flags import Flag, Values, address_name, dollars, end, gpu, port

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Cloud, Gpu, Wishes

HTTPS_PORT = 443

PLACE_FLAGS = (
    Flag("zone", "the zone to try first (default: from your settings)"),
    Flag("region", "the region; its zones are tried in turn (default: from your settings)"),
    Flag("network", "network of the machine (Google Cloud only; default: from your settings)"),
    Flag("subnet", "the subnet of the network (default: from your settings)"),
)
ACCELERATOR = Flag("accelerator", "accelerator of local machines: kvm, or tcg for emulation (default: kvm if it works)")
SOURCE = Flag(
    "source", "address or range that may reach the machine, such as 203.0.113.7 (default: from your settings, else this computer's)"
)
NEW_SOURCE = Flag(
    "source", "address or range that may reach the machine from now on (default: from your settings, else this computer's)"
)
SERVICE_ACCOUNT = Flag("service-account", "service account of the builder (Google Cloud only; default: from your settings)")
TYPE = Flag("type", "the cloud's machine type, instead of --cpus and --memory-mb")
NO_PUBLIC_IP = Flag("no-public-ip", "no public address: the machine can be reached only from inside the network", parse=None)
SPOT_BUILDER = Flag("spot", "use spot capacity for the builder: cheaper, but the bake fails if the cloud reclaims it", parse=None)
WISH_FLAGS = (
    TYPE,
    Flag("gpu", "GPUs of the machine: a model, such as t4, l4 or a100:8; the machine type is chosen to have them", gpu),
    Flag("spot", "use spot capacity: cheaper, but the cloud may reclaim the machine at any time", parse=None),
    Flag("on-preempt", "what happens to a --spot machine that is preempted: stop or delete (default: stop)", end),
    Flag("max-price", "the most that an hour of a --spot machine may cost, in US dollars (default: the on-demand price)", dollars),
    Flag("disk-type", "the cloud's disk type"),
    Flag("keep-disk", "keep the disk when the machine is deleted; it is billed until you delete it", parse=None),
    Flag("static-ip", "name of a static address: reserved on first use, kept when the machine is deleted", address_name),
    NO_PUBLIC_IP,
    Flag(
        "https",
        "open the notebook with TLS and a pinned certificate, to your address, without a tunnel (on local: to this computer, where "
        f"only root may open port {HTTPS_PORT}: add --port 8443)",
        parse=None,
    ),
    Flag("port", f"the port for --https (default: from the recipe, else {HTTPS_PORT})", port),
    Flag("no-spot", "no spot capacity, even if the recipe has it as a default", parse=None),
    Flag("no-https", "no --https, even if the recipe has it as a default", parse=None),
)

_FLAGS_OF_WISHES = {
    "machine_type": "--type",
    "gpu": "--gpu",
    "spot": "--spot",
    "on_preempt": "--on-preempt",
    "max_price_usd": "--max-price",
    "disk_type": "--disk-type",
    "keep_disk": "--keep-disk",
    "static_ip": "--static-ip",
    "no_public_ip": "--no-public-ip",
    "https_port": "--https",
}
"""The flag of each field of `clouds.driver.Wishes`."""

_EXCLUDED = (
    ("spot", "no_spot"),
    ("on_preempt", "no_spot"),
    ("max_price", "no_spot"),
    ("https", "no_https"),
    ("port", "no_https"),
    ("static_ip", "no_public_ip"),
)
"""Flags that cannot be combined, by their keys."""


def given(values: Values, flags: Iterable[Flag]) -> dict[str, str]:
    """Return the settings that were given as flags."""
    return {flag.key: values[flag.key] for flag in flags if values[flag.key] is not None}


def wishes(values: Values) -> Wishes:
    """Return the machine options of a launch. UsageError: flags exclude each other. `defaults.filled` checks what others need."""
    from clouds.driver import End, Wishes

    _check_together(values)
    return Wishes(
        machine_type=values["type"] or "",
        gpu=_gpu(values["gpu"]),
        spot=values["spot"],
        on_preempt=End(values["on_preempt"]) if values["on_preempt"] else None,
        max_price_usd=values["max_price"] or 0.0,
        disk_type=values["disk_type"] or "",
        keep_disk=values["keep_disk"],
        static_ip=values["static_ip"] or "",
        no_public_ip=values["no_public_ip"],
        https_port=(values["port"] or HTTPS_PORT) if values["https"] else 0,
    )


def _gpu(typed: str | None) -> Gpu | None:
    from clouds.driver import Gpu

    model, _, count = (typed or "").partition(":")
    return Gpu(model, int(count or 1)) if model else None


def check_type(values: Values) -> None:
    """Raise UsageError for a machine type combined with a number of CPUs or a memory size."""
    if values["type"] and (values["cpus"] or values["memory_mb"]):
        raise UsageError("--type: cannot be combined with --cpus or --memory-mb (give one or the other)")


def check_granted(cloud: Cloud, wished: Wishes, *, cpus: int | None = None, memory_mb: int | None = None) -> None:
    """Raise UsageError, which lists every option that the cloud does not support, or for GPUs that it does not have.

    Sends no request. `cpus` and `memory_mb` are None if the user has not given them.
    """
    from clouds.capabilities import OffersGpus

    given = [field.name for field in fields(wished) if getattr(wished, field.name) != field.default]
    if flags := [_FLAGS_OF_WISHES[name] for name in given if name not in cloud.grants]:
        raise UsageError("\n".join(not_supported(flag, cloud.name) for flag in flags))
    if wished.gpu and isinstance(cloud, OffersGpus):
        cloud.gpu_type(wished.gpu, cpus or ranges.CPUS[0], memory_mb or ranges.MEMORY_MB[0])


def _check_together(values: Values) -> None:
    check_type(values)
    if values["gpu"] and values["type"]:
        raise UsageError("--gpu: cannot be combined with --type, which has its own GPUs or none (give one or the other)")
    for key, excluded in _EXCLUDED:
        if values[key] and values[excluded]:
            flag, other = (name.replace("_", "-") for name in (key, excluded))
            raise UsageError(f"--{flag}: cannot be combined with --{other} (leave one of them out)")
