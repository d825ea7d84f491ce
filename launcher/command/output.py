"""Output streams of a command that continues when their reader exits or their disk is full.

The work is worth more than its report: a bake or a launch that stopped because of `| head` would have to undo what it has paid
for. The failure is recorded, and the command then exits with an error, as GNU programs do (close_stdout in lib/closeout.c of
gnulib: failing to write standard output or error is a failure of the program).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO, cast

BROKEN_PIPE = 128 + signal.SIGPIPE
"""The exit code of a command whose reader has exited: 141, as a shell reports for a program killed by SIGPIPE."""


class Output:
    """Wraps a stream and discards all output after the first failed write; `lost` is that failure, or None.

    Python uses None for a stream that was closed before the command started. Other attributes are those of the stream.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:
        """The name of the stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text; a character that the stream's encoding cannot represent is written as an escape."""
        if self.lost is None:
            try:
                self._write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each text."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        if self.lost is None and self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _write(self, text: str) -> None:
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))

    def _lose(self, error: OSError) -> None:
        """Record a failure and redirect the stream to /dev/null: Python would retry the buffered text at exit, and complain."""
        self.lost = error
        with suppress(OSError, AttributeError):  # a stream without a descriptor
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self._stream.fileno())  # type: ignore[union-attr]
            os.close(devnull)


def guarded(stream: TextIO | None) -> tuple[Output, TextIO]:
    """Wrap a stream; return the wrapper as an `Output`, and again with the type of a stream."""
    output = Output(stream)
    return output, cast(TextIO, output)
