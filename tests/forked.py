"""`python -m MODULE` in a process of its own that need not import everything anew: a server has done that, and forks.

From the fork on, the process does what Python does: the module runs as `__main__` with streams, a folder, an environment and
arguments of its own, and the process ends as an interpreter ends. A test of what a process imports starts a fresh one.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
PRELOADED = ("invoke.main", "invoke.collection", "launcher.command.verbs", "launcher.command.runner", "bakery.cli", "clouds.local")
_MESSAGE_BYTES = 1 << 20


def run(module: str, *words: str, cwd: Path, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
    """Do what `python -m MODULE WORDS` does in a folder; `stdout` is a file descriptor, or None to return what is written on it."""
    out, err = os.memfd_create("stdout"), os.memfd_create("stderr")
    with os.fdopen(out, encoding="utf-8") as written, os.fdopen(err, encoding="utf-8") as told:
        request, server = json.dumps([module, words, str(cwd), dict(os.environ)]).encode(), _server()
        socket.send_fds(server, [request], [out if stdout is None else stdout, err])
        code = os.waitstatus_to_exitcode(int(server.recv(_MESSAGE_BYTES)))
        return subprocess.CompletedProcess([module, *words], code, _read(written), _read(told))


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
    with socket.socket(fileno=int(sys.argv[1])) as other:
        while True:
            request, streams, *_ = socket.recv_fds(other, _MESSAGE_BYTES, 2)
            if not request:
                return
            if not (child := os.fork()):
                break
            for stream in streams:
                os.close(stream)
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
