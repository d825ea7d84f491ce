"""Check what bakes and launches need: this computer, its way to the internet, and each cloud; nothing is changed.

Each check has a deadline, and one that fails is itself a finding, so that this works whatever else is broken.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread

import clouds
from bakery.recipe.recipe import available, load
from clouds import caller
from clouds.capabilities import Diagnoses, HasRegions, RunsHere
from clouds.driver import Cloud
from clouds.errors import BakehouseError, CloudError, ThrottledError, TimedOutError, UnreachableError
from clouds.findings import Check, Finding, Health, Size, ok
from clouds.home import home
from clouds.ledger import Ledger
from clouds.settings import config_file
from launcher import gc
from launcher.images import OLD_DAYS, age_days, bake_command, images, outdated

DEADLINE_S = 30.0
"""Time limit of one check, in seconds: as long as one request to a cloud may take."""
_LITTLE_BYTES = 5 * 2**30
"""Free space below which a bake may fill the disk: base, image and machine of `jupyter` take some 4 GB here (a guess)."""
_CLOCK_S = 60.0
"""How far a clock may be off. AWS refuses requests that differ by 5 minutes (docs.aws.amazon.com/general/latest/gr/sigv4.html)."""
_PROGRAMS = ("ssh", "sftp", "ssh-keygen")
HERE = "this computer"


@dataclass(frozen=True, slots=True)
class Row:
    """A finding, the cloud that it is about (or HERE), what was checked, and the region if its commands need it."""

    cloud: str
    check: str
    finding: Finding
    region: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the fields for `--json`."""
        found = self.finding
        return {"cloud": self.cloud, "check": self.check, "state": found.state, "text": found.text, "next": found.next_step}


def examine(names: Callable[[], Sequence[str]], region: str = "", *, deadline_s: float = DEADLINE_S) -> Iterator[Row]:
    """Yield what is found here, then on each cloud; `names` returns the clouds, or raises what is wrong with the settings.

    `region`: instead of that of the settings.
    """
    chosen: list[str] = []

    def settings() -> list[Finding]:
        chosen.extend(names())
        file = config_file()
        return ok(f"{file if file.exists() else 'no settings file'}; clouds in use: {', '.join(clouds.configured())}")

    checks: Mapping[str, Check] = {"settings": settings, "programs": _programs, "disk": _disk}
    for check, run in checks.items():
        yield from (Row(HERE, check, found) for found in within(run, deadline_s))
    for name in chosen:
        yield from _of_cloud(name, region, deadline_s)


def _of_cloud(name: str, region: str, deadline_s: float) -> Iterator[Row]:
    connected: list[tuple[Cloud, Mapping[str, Check]]] = []

    def connect() -> list[Finding]:
        cloud = clouds.connect(name, {"region": region} if region else {})
        connected.append((cloud, cloud.checks(largest()) if isinstance(cloud, Diagnoses) else {}))
        return []

    yield from (Row(name, "settings", found) for found in within(connect, deadline_s))
    for cloud, own in connected:
        where = region if isinstance(cloud, HasRegions) else ""
        if not isinstance(cloud, RunsHere):
            yield from (Row(name, "network", found) for found in within(_network, deadline_s))
        for number, (check, run) in enumerate(own.items()):
            found = within(run, deadline_s)
            yield from (Row(name, check, one, where) for one in found)
            if number == 0 and any(one.state in (Health.PROBLEM, Health.UNKNOWN) for one in found):
                return
        for check, look in (("images", _images), ("leftovers", _leftovers)):
            yield from (Row(name, check, one, where) for one in within(partial(look, cloud), deadline_s))


def within(check: Check, deadline_s: float) -> list[Finding]:
    """Run a check in a thread of its own, which is left behind at the deadline; whatever it raises is a finding."""
    results = SimpleQueue[list[Finding]]()
    Thread(target=lambda: results.put(_guarded(check)), daemon=True).start()
    try:
        return results.get(timeout=deadline_s)
    except Empty:
        return [Finding(Health.UNKNOWN, f"no result after {deadline_s:g} s", "Try again; check that this computer is online.")]


def _guarded(check: Check) -> list[Finding]:
    try:
        return check()
    except (ThrottledError, TimedOutError, UnreachableError) as error:
        return [Finding(Health.UNKNOWN, error.message, error.next_step)]
    except BakehouseError as error:
        return [Finding(Health.PROBLEM, error.message, error.next_step)]
    except OSError as error:
        return [Finding(Health.PROBLEM, f"{error.filename or 'a file'}: {error.strerror or error}")]
    except BaseException as error:  # a bug in a check must not hide what the others find
        return [Finding(Health.UNKNOWN, f"the check itself failed: {type(error).__name__}: {error}", "Please report this.")]


def largest() -> Size:
    """Return the most that a builder or a machine of any recipe needs; recipes that cannot be read are left out."""
    found = [Size(1, 1024, 10)]
    for name in available():
        try:
            recipe = load(name)
        except BakehouseError:
            continue
        found += [Size(one.cpus, one.memory_mb, one.disk_gb) for one in (recipe.builder, recipe.machine)]
    return Size(*(max(getattr(one, field) for one in found) for field in ("cpus", "memory_mb", "disk_gb")))


def _programs() -> list[Finding]:
    if missing := [program for program in _PROGRAMS if not shutil.which(program)]:
        return [Finding(Health.PROBLEM, f"not installed: {', '.join(missing)}", "Run: sudo apt-get install openssh-client")]
    return ok(f"{', '.join(_PROGRAMS)} are installed")


def _disk() -> list[Finding]:
    folder = home()  # UsageError: it cannot be written
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free in {folder}"
    if free < _LITTLE_BYTES:
        return [Finding(Health.WARNING, f"{text}: a bake may fill it", "Free some space: ./inv gc --layers")]
    return ok(text)


def _network() -> list[Finding]:
    try:
        address, elsewhere = caller.look_outside()
    except CloudError as error:
        give = 'Give it yourself: launch --source 203.0.113.7, or write source = "203.0.113.7/32" into the settings file.'
        return [Finding(Health.WARNING, error.message, give)]
    found = ok(f"this computer's address is {address}, which launches in a cloud admit")
    if elsewhere is None:
        return [*found, Finding(Health.UNKNOWN, "the time elsewhere, to compare the clock with")]
    off_s = time.time() - elsewhere
    if abs(off_s) > _CLOCK_S:
        text = f"the clock is {abs(off_s):.0f} s {'fast' if off_s > 0 else 'slow'}: clouds refuse requests of another time"
        return [*found, Finding(Health.PROBLEM, text, "Run: sudo timedatectl set-ntp true")]
    return [*found, *ok("the clock is right")]


def _images(cloud: Cloud) -> list[Finding]:
    found, now = images(cloud), time.time()
    old = [
        Finding(
            Health.WARNING,
            f"image {view.name!r} is {age_days(view, now)} days old: it may lack newer security updates",
            f"Run: {bake_command(view.recipe)} --refresh",
        )
        for view in outdated(found, OLD_DAYS, now=now)
    ]
    return old or ok(f"no image is older than {OLD_DAYS} days" if found else "no images")


def _leftovers(cloud: Cloud) -> list[Finding]:
    survey, missing = gc.survey(cloud, Ledger(home() / "ledger.sqlite3"), now=time.time())
    found = [Finding(Health.WARNING, str(one), "Run: ./inv gc") for one in survey.garbage]
    found += [
        Finding(
            Health.WARNING,
            f"{one.kind} {one.name!r} of a killed bake is kept, since the bake can be resumed",
            f"Run: ./inv bake --resume {one.labels['bake']}; to delete it: ./inv gc --bakes",
        )
        for one in survey.resumable
    ]
    found += [Finding(Health.UNKNOWN, f"could not reach {one}", "Try again in a few minutes.") for one in missing]
    return found or ok("nothing is left behind")
