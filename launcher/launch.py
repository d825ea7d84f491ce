"""Launch a machine from an image. `_launch` is the sequence of steps; the other functions are those steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from clouds import names
from clouds.capabilities import ChecksComputer, EndsMachines, EndsMachinesBySetting, NamesHosts, RunsHere
from clouds.driver import BootSpec, Cloud, End, Kind, Tell, Wishes
from clouds.errors import UnreachableError, UsageError, machine_exists
from clouds.home import home
from clouds.ledger import Ledger
from clouds.undo import Undo
from launcher import defaults, kept_disks, machines
from launcher.access import identity, rsub, tunnel, wait
from launcher.access.environment import send_environment
from launcher.access.git import send_git_config
from launcher.access.identity import SSH_PORT
from launcher.access.notebook import NOTEBOOK_PORT
from launcher.access.password import generate, hash_password
from launcher.boot import boot_machine
from launcher.command.machine_options import check_granted
from launcher.gpu import with_gpu
from launcher.images import OLD_DAYS, ImageView, age_days, bake_command, find_image
from launcher.notices import is_first, new_notices
from launcher.restore import restore


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What to launch. None means: the size in the image's labels, a generated name or password, the cloud's default deadline.

    `image` is an exact image, also a candidate; `script` is run as well (already rendered for its boot, with `nonce`).
    A `cold` launch boots even if the image has saved memory. `environment` are variables for the machine's user, sent over SSH,
    and `git_config` settings of its git.
    `port` is one that the user has given, perhaps without --https: the recipe's defaults may have that.
    `given` are the keys of `launcher.defaults.KEYS` that the user has decided: the recipe's defaults do not apply to them.
    """

    recipe: str = "jupyter"
    version: str | None = None
    image: ImageView | None = None
    name: str | None = None
    cpus: int | None = None
    memory_mb: int | None = None
    disk_gb: int | None = None
    password: str | None = field(default=None, repr=False)
    lifetime_h: float = machines.LIFETIME_H
    labels: Mapping[str, str] = field(default_factory=dict)
    wishes: Wishes = field(default_factory=Wishes)
    script: str = ""
    nonce: str | None = None
    deadline_s: int | None = None
    at_deadline: End = End.STOP
    cold: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    git_config: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A machine that responds. `url` and `password` are None without a notebook; `nonce` is the one of its markers.

    `certificate` is the SHA-256 fingerprint for an https URL; `accelerator` is kvm or tcg on this computer, else "".
    `dns` is its public DNS name, "" on a cloud that gives it none.
    """

    name: str
    url: str | None
    password: str | None = field(repr=False)
    image: str
    cloud: str
    seconds: float
    nonce: str
    certificate: str = ""
    accelerator: str = ""
    dns: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the fields for `--json`."""
        shown = ("name", "url", "password", "image", "cloud", "seconds")
        return {key: getattr(self, key) for key in shown} | {
            key: value for key in ("certificate", "accelerator", "dns") if (value := getattr(self, key))
        }


def launch(
    cloud: Cloud, ledger: Ledger, options: LaunchOptions, *, undo: Undo | None = None, tell: Tell = lambda _line: None
) -> Launched:
    """Start a machine from an image and return once it responds.

    If the caller passes an `undo`, the machine's removal stays registered there; otherwise the machine is kept.
    Raises UsageError, NotFoundError or ConflictError before anything is created; KernelPanicError, CloudError or
    TimedOutError if the machine does not start, and then everything is removed.
    """
    if undo is not None:
        return _launch(cloud, ledger, options, undo, tell)
    with Undo() as own:
        launched = _launch(cloud, ledger, options, own, tell)
        own.release()
        return launched


def _launch(cloud: Cloud, ledger: Ledger, options: LaunchOptions, undo: Undo, tell: Tell) -> Launched:
    began = time.monotonic()
    check_granted(cloud, options.wishes, cpus=options.cpus, memory_mb=options.memory_mb)
    if options.name is not None and "role" not in options.labels:
        names.check_machine_name(options.name)
    if isinstance(cloud, ChecksComputer):
        cloud.check_computer()
    image = options.image or find_image(cloud, recipe=options.recipe, version=options.version)
    options = fitted(cloud, options, image, tell)
    has_notebook = image.labels.get("notebook") == "1"
    password = (options.password or generate()) if has_notebook else None
    name = _free_name(cloud, options, image.recipe)
    nonce = options.nonce or names.new_nonce()
    spec = _spec(cloud, options, image, name=name, nonce=nonce, password=password)
    undo.add(f"ssh settings of {name}", lambda: _forget(cloud, name, options), by_hand="./inv gc")
    if "role" not in options.labels and age_days(image, time.time()) > OLD_DAYS:
        tell(f"{image.name} is {age_days(image, time.time())} days old; for a new one: {bake_command(options.recipe)} --refresh")
    if "role" not in options.labels and isinstance(cloud, RunsHere):
        for line in (*new_notices(cloud, home()), *cloud.logout_notices()):
            tell(line)
    has_end = "role" not in options.labels and spec.facts["EXPIRES"] != "0"
    if has_end and not isinstance(cloud, EndsMachines) and is_first(cloud, home(), "lifetime"):
        tell(_unenforced(cloud))
    restored = None if options.cold else restore(cloud, ledger, undo, spec, image, tell)
    url = restored.url if restored else wait.await_answer(cloud, boot_machine(cloud, ledger, undo, spec, tell), spec.labels)
    if options.environment:
        send_environment(cloud, name, options.environment)
    if options.git_config:
        send_git_config(cloud, name, options.git_config)
    dns = cloud.dns_name(name) if isinstance(cloud, NamesHosts) else ""
    if options.wishes.keep_disk:
        kept_disks.keep(cloud, undo, name)
    if "role" not in options.labels:
        cloud.label(Kind.MACHINE, name, {"role": "machine"})
    return Launched(
        name=name,
        url=url,
        password=password,
        image=image.name,
        cloud=cloud.name,
        seconds=round(time.monotonic() - began, 3),
        nonce=nonce,
        certificate=wait.fingerprint(cloud, name, spec.labels),
        accelerator=cloud.accelerator_name if isinstance(cloud, RunsHere) else "",
        dns=dns,
    )


def fitted(cloud: Cloud, options: LaunchOptions, image: ImageView, tell: Tell) -> LaunchOptions:
    """Return the options of a launch with the defaults of its image, its disk, and the machine type that has the wished GPUs.

    UsageError: the image does not fit the options.
    """
    if options.image is None:
        options = defaults.filled(cloud, options, image.labels, tell)
    if image.labels.get("notebook") != "1":
        for flag, given in (("--https", options.wishes.https_port), ("--password-file", options.password is not None)):
            if given:
                raise UsageError(f"{flag}: the image has no notebook", next_step=f"Leave {flag} out.")
    wishes = _with_gpu(cloud, options, image, tell)
    return replace(options, wishes=wishes, disk_gb=_disk_gb(options, image))


def _with_gpu(cloud: Cloud, options: LaunchOptions, image: ImageView, tell: Tell) -> Wishes:
    if "role" in options.labels:
        return options.wishes
    cpus, memory_mb = options.cpus or image.cpus, options.memory_mb or image.memory_mb
    return with_gpu(cloud, options.wishes, image, cpus=cpus, memory_mb=memory_mb, tell=tell)


def _unenforced(cloud: Cloud) -> str:
    """Return the line about a cloud that does not enforce the lifetime of machines, with the setting that changes that."""
    line = f"{cloud.name} does not enforce the lifetime of machines: only the timer inside a machine stops it"
    if isinstance(cloud, EndsMachinesBySetting):
        line += f" (the setting {cloud.ends_machines_by} lets {cloud.name} stop it as well: docs/clouds.md)"
    return f"{line}. This line is printed once."


def _forget(cloud: Cloud, name: str, options: LaunchOptions) -> None:
    """Remove the tunnel, pinned keys and ssh config of a machine.

    The name of a test machine is unique. Another name may belong to another machine, so the cloud is asked which machines exist.
    """
    tunnel.forget(cloud, name)
    if "role" in options.labels:
        identity.forget(home(), cloud, name)
    else:
        identity.sync(home(), cloud)


def _spec(cloud: Cloud, options: LaunchOptions, image: ImageView, *, name: str, nonce: str, password: str | None) -> BootSpec:
    expires = machines.expiry(options.lifetime_h)
    return BootSpec(
        name=name,
        token=names.new_nonce(),
        source=image.name,
        cpus=options.cpus or image.cpus,
        memory_mb=options.memory_mb or image.memory_mb,
        disk_gb=options.disk_gb or image.disk_gb,
        labels=_labels(options, image, name, expires),
        deadline_s=machines.backstop_s(cloud, options.lifetime_h) if options.deadline_s is None else options.deadline_s,
        at_deadline=options.at_deadline,
        wishes=options.wishes,
        script=options.script,
        facts=_facts(name, nonce, password, expires, image) | _facts_of_tls(name, options.wishes),
        ports=(SSH_PORT,) if password is None else (SSH_PORT, options.wishes.https_port or NOTEBOOK_PORT),
    )


def _free_name(cloud: Cloud, options: LaunchOptions, recipe: str) -> str:
    """Return the requested name or a generated one, which no machine has. The name of a test machine is unique, so not checked."""
    name = names.new_machine_name(recipe) if options.name is None else options.name
    if "role" in options.labels:
        return name
    try:
        found = cloud.find(Kind.MACHINE, name)
    except UnreachableError as error:
        if options.name is not None:
            error.next_step = "Leave --name out to get a unique name, or try again in a few minutes."
            raise
        found = None
    if found is not None:
        raise machine_exists(name, cloud.name)
    return name


def _disk_gb(options: LaunchOptions, image: ImageView) -> int:
    least = image.disk_gb
    if options.disk_gb is not None and options.disk_gb < least:
        raise UsageError(
            f"--disk-gb {options.disk_gb}: smaller than the disk of image {image.name!r}", next_step=f"Give {least} or more."
        )
    return options.disk_gb or least


def _labels(options: LaunchOptions, image: ImageView, name: str, expires: int) -> dict[str, str]:
    """Return the labels of a machine; until it responds, its role lets gc remove it if this process dies."""
    return {
        **names.client_labels(),
        "role": "machine-in-progress",
        "machine": name,
        "recipe": image.recipe,
        "version": image.version,
        "image": image.name,
        "expires": str(expires),
        "notebook": "1" if image.labels.get("notebook") == "1" else "0",
        **(rsub.LABEL if rsub.has_rsub(image.labels) else {}),
        **({"https": str(options.wishes.https_port)} if options.wishes.https_port else {}),
        **(kept_disks.LABEL if options.wishes.keep_disk else {}),
        **({machines.STATIC_IP: options.wishes.static_ip} if options.wishes.static_ip else {}),
        **options.labels,
    }


def _facts(name: str, nonce: str, password: str | None, expires: int, image: ImageView) -> dict[str, str]:
    """Return the identity that the machine receives; templates/machine/ applies it. ABOUT is a line that each login prints."""
    about = f"Machine {name} of Bakehouse: recipe {image.recipe}, version {image.version}."
    commands = (*((f"open its notebook (./inv open {name})",) if password else ()), f"run its tests (./inv check-machine {name})")
    return {
        "MACHINE": name,
        "NONCE": nonce,
        "AUTHORIZED_KEY": identity.user_key(home()),
        "PASSWORD_HASH": hash_password(password) if password else "",
        "EXPIRES": str(expires),
        "ABOUT": f"{about} On your computer, {' or '.join(commands)}.",
    }


def _facts_of_tls(name: str, wishes: Wishes) -> dict[str, str]:
    """Return the facts of a machine with --https. Its certificate is pinned, so any name in it will do: the machine's own."""
    return {"HTTPS_PORT": str(wishes.https_port), "HTTPS_ADDRESS": name} if wishes.https_port else {}
