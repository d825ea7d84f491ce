"""`python -m MODULE` in a process of its own that need not import everything anew: a server has done that, and forks.

From the fork on, the process does what Python does: the module runs as `__main__` with streams, a folder, an environment and
arguments of its own, and the process ends as an interpreter ends. A test of what a process imports starts a fresh one.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
PRELOADED = ("invoke.main", "invoke.collection", "launcher.command.verbs", "launcher.command.runner", "bakery.cli", "clouds.local")
FOR_A_BAKE = ("bakery.bake", "tests.fake_memory")
"""What a bake loads besides; the server loads it for the first one."""
_MESSAGE_BYTES = 1 << 20


def run(module: str, *words: str, cwd: Path, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    """Do what `python -m MODULE WORDS` does in a folder; `stdout` is a file descriptor, or None to return what is written on it."""
    return start(module, *words, cwd=cwd, stdout=stdout).wait()


def start(module: str, *words: str, cwd: Path, stdout: int | None = None, environ: Mapping[str, str] | None = None) -> Process:
    """Start what `run` runs; one at a time, so it must be waited for before the next one."""
    out, err = os.memfd_create("stdout"), os.memfd_create("stderr")
    request, server = json.dumps([module, words, str(cwd), dict(environ or os.environ)]).encode(), _server()
    socket.send_fds(server, [request], [out if stdout is None else stdout, err])
    _, (pidfd, *_), *_ = socket.recv_fds(server, _MESSAGE_BYTES, 1)
    return Process([module, *words], pidfd, server, os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8"))


@dataclass
class Process:
    """A process that was started; `pidfd` refers to it even when it has ended."""

    words: list[str]
    pidfd: int
    server: socket.socket
    written: IO[str]
    told: IO[str]
    done: subprocess.CompletedProcess[str] | None = None

    def __del__(self) -> None:
        os.close(self.pidfd)

    def has_ended(self) -> bool:
        polled = select.poll()  # select() takes no descriptor above 1023, and a process of the tests may have many open
        polled.register(self.pidfd, select.POLLIN)
        return bool(polled.poll(0))

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        if self.done is None:
            code = os.waitstatus_to_exitcode(int(self.server.recv(_MESSAGE_BYTES)))
            with self.written, self.told:
                self.done = subprocess.CompletedProcess(self.words, code, _read(self.written), _read(self.told))
        return self.done


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@functools.cache
def _server() -> socket.socket:
    """Start the server of this process, with which it ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(60)
    with theirs:
        command = [sys.executable, "-P", "-c", "from tests import forked; forked.serve()", str(theirs.fileno())]
        null, environ = subprocess.DEVNULL, os.environ | {"PYTHONPATH": str(ROOT)}
        started = subprocess.Popen(command, env=environ, stdin=null, stdout=null, pass_fds=[theirs.fileno()])
    atexit.register(_stop, ours, started)
    return ours


def _stop(ours: socket.socket, started: subprocess.Popen[bytes]) -> None:
    ours.close()
    started.wait()


def serve() -> None:
    """Fork a process for each request until the other end is closed."""
    for name in PRELOADED:
        importlib.import_module(name)
    sys.path.remove(str(ROOT))
    gc.freeze()  # or each process looks at, and so copies, all that was loaded
    with socket.socket(fileno=int(sys.argv[1])) as other:
        while True:
            request, streams, *_ = socket.recv_fds(other, _MESSAGE_BYTES, 2)
            if not request:
                return
            if b'"tests.bake_process"' in request:
                for name in FOR_A_BAKE:
                    importlib.import_module(name)
            if not (child := os.fork()):
                break
            for stream in streams:
                os.close(stream)
            pidfd = os.pidfd_open(child)
            socket.send_fds(other, [b"started"], [pidfd])
            os.close(pidfd)
            other.send(str(os.waitpid(child, 0)[1]).encode())
    _become(*json.loads(request), streams)


def _become(module: str, words: list[str], folder: str, environ: dict[str, str], streams: list[int]) -> None:
    """Be the process that was asked for, from here to its end."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [module, *words]
    if module != "invoke":  # which is started with -P
        sys.path.insert(0, folder)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
