"""A guest for its scripts alone: bash runs them here, their paths are moved into a folder, the system's programs are stubs."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bakery.script.render import Script
from clouds import markers

NONCE = "0123456789abcdef" * 2
SYSTEM_PATH = re.compile(r"(?<![\w.}/-])(?=/(?:etc|var|run|home|root|opt|usr|proc/sys|dev/virtio-ports)\b)")
"""Where a path of the system begins: each is moved, so that nothing of the computer is touched on which the test runs."""
STUBS = {
    # A line of the console is the journal's: when, who, and what was written, colored as systemd 257 does it.
    "logger": """while IFS= read -r line; do
        printf '[    1.000000] bakehouse[7]: \\033[0;1;39m%s\\033[0m\\n' "$line"
    done >>"$CONSOLE" """,
    "systemctl": """printf '%s\\n' "systemctl $*" >>"$CALLS"; [[ $1 != is-system-running ]] || cat "$SYSTEM_STATE" """,
    "systemd-run": """printf '%s\\n' "systemd-run $*" >>"$CALLS" """,
    "df": """printf ' Avail 1M-blocks\\n%s\\n' "$(cat "$DISK")" """,
    "dmesg": """cat "$KERNEL" """,
    # The frame sleeps between markers that it writes again; the third time the machine is stopped.
    "sleep": """printf 'x' >>"$SLEPT"; [[ $(wc --bytes <"$SLEPT") -lt 3 ]] || kill -TERM "$PPID" """,
}


@dataclass(frozen=True)
class Guest:
    """A folder that stands for a machine's disk and memory; what it runs writes on `console`."""

    root: Path

    def run(self, script: Script, *, keep: bool = False, deadline_s: int = 0, done: int = 0) -> markers.Progress:
        """Boot: run a script to its end, return what its markers tell."""
        return self.progress(script, self.run_text(script.for_boot(NONCE, deadline_s=deadline_s, keep=keep, done=done)))

    def run_text(self, text: str) -> str:
        """Run a text with its paths moved; return what it wrote on the console."""
        (self.root / "script").write_text(SYSTEM_PATH.sub(str(self.root), text), encoding="utf-8")
        for name in ("console", "slept"):
            (self.root / name).write_text("", encoding="utf-8")
        subprocess.run(["bash", str(self.root / "script")], env=self.environ(), timeout=30, check=False)
        return self.read("console")

    def environ(self) -> dict[str, str]:
        """Return the environment of what runs: the stubs come first."""
        names = ("CONSOLE", "CALLS", "SYSTEM_STATE", "DISK", "SLEPT", "KERNEL")
        files = {name: str(self.root / name.lower()) for name in names}
        return {**os.environ, **files, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}

    def progress(self, script: Script, console: str) -> markers.Progress:
        """Return what the markers on a console tell."""
        found = [marker for line in console.splitlines() if (marker := markers.parse(line, NONCE))]
        return markers.advance(markers.Progress(script.checkpoints), found)

    def read(self, path: str) -> str:
        """Return a file of the machine."""
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        (self.root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path.lstrip("/")).write_text(text, encoding="utf-8")

    def reboot(self) -> None:
        """Lose what is in memory."""
        subprocess.run(["rm", "-r", str(self.root / "run/bakehouse")], check=True)


def new_guest(folder: Path) -> Guest:
    """Return a machine in an empty folder: it runs, and its disk is nearly empty."""
    made = Guest(folder)
    for name, body in STUBS.items():
        made.write(f"bin/{name}", f"#!/bin/bash\n{body}\n")
        (folder / "bin" / name).chmod(0o755)
    for name, text in (("calls", ""), ("system_state", "running\n"), ("disk", "5000 10000"), ("kernel", "")):
        made.write(name, text)
    return made
