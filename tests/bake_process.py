"""A bake as a process of its own, on a fake cloud: `python -m tests.bake_process FOLDER OPERATION NTH WHEN [--slow-cleanup]`.

It works as `./inv bake --json` does. In the nth call of an operation, before or after its effect, it creates the file `there` and
waits to be ended; `none` and `refused` stand for no such call and for one that fails. With `--slow-cleanup` each later delete
creates the file `cleaning`, and waits until the file `more` exists. At its end, it writes what is left in the cloud and in the
ledger into the file `left`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import bakery.cli
import clouds
from clouds.errors import CloudError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.command import runner
from launcher.command.terminal import Terminal
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MemoryCloud
from tests.fake_world import World

RECIPE = """
name = "tiny"
[[steps]]
name = "first"
run = "true"
[[tests]]
name = "works"
run = "true"
"""


def main(folder: Path, operation: str, nth: int, when: str, *, is_slow: bool) -> int:
    """Bake; return the exit status."""
    (folder / "tiny.toml").write_text(RECIPE)
    cloud = MemoryCloud(World(folder / "world"))
    clouds.connect = lambda *_: cloud  # type: ignore[assignment]
    if operation == "refused":
        cloud.fault("snapshot", when="after", error=CloudError("refused"))
    elif operation != "none":
        cloud.fault(operation, when=when, error=lambda: _wait(folder), nth=nth)
    if is_slow:
        cloud.fault("delete", error=lambda: _slow(folder), nth=None)
    verb = next(verb for verb in bakery.cli.VERBS if verb.name == "bake")
    nothing = {flag.key: False if flag.parse is None else None for flag in verb.flags}
    typed = nothing | {"recipe": str(folder / "tiny.toml"), "json": True}
    status = runner.run(verb, typed, (), Terminal(sys.stdin, sys.stdout, sys.stderr), ends_process=True)
    (folder / "left").write_text("".join(f"{line}\n" for line in left(cloud)))
    return status


def left(cloud: FakeCloud) -> list[str]:
    """Return what is in the cloud, and what is noted of bakes and requests."""
    ledger = Ledger(home() / "ledger.sqlite3")
    noted = [f"note of bake {note.id}" for note in ledger.bakes(cloud.name)]
    return [*cloud.world.inventory(), *noted, *(f"note of {entry.kind} {entry.name}" for entry in ledger.entries(cloud.name))]


def _wait(folder: Path) -> None:
    (folder / "there").touch()
    time.sleep(300)


def _slow(folder: Path) -> None:
    if (folder / "there").exists():
        (folder / "cleaning").touch()
        while not (folder / "more").exists():
            time.sleep(0.01)


if __name__ == "__main__":
    place, operation, nth, when, *flags = sys.argv[1:]
    sys.exit(main(Path(place), operation, int(nth), when, is_slow=bool(flags)))
