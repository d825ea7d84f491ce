"""An SSH agent of a test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def ssh_agent(socket: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an agent with a key at a socket; programs that the test starts use it."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()  # it listens by then
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(["ssh-add", "-q", key], check=True, timeout=60)
            yield
        finally:
            process.terminate()
