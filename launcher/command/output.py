"""A stream of a command, whose reader may go away, or whose disk may be full, before the work is done.

The work goes on then, since it is worth more than its report: a bake or a launch that ended half way would have to undo what
it has paid for, because somebody typed `| head`. What could not be written is noted, and the command ends with a failure, as
programs of GNU do (close_stdout in lib/closeout.c of gnulib: a failure to write standard output or error is one of the program).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO, cast

BROKEN_PIPE = 128 + signal.SIGPIPE
"""The exit code of a command whose reader went away: 141, which a shell reports of a program that SIGPIPE has ended."""


class Output:
    """Writes to a stream, or to nothing once that has failed; `lost` is the first failure, None without one.

    A stream that was closed before the command started is None in Python. All else of the stream is as it is.
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
        """Say whether the stream leads to a terminal."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write text; a character that the stream's encoding lacks is written as its escape."""
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
        """Note a failure, and let what is buffered go nowhere: Python would try it again, and complain, as it ends."""
        self.lost = error
        with suppress(OSError, AttributeError):  # a stream without a descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)


def guarded(stream: TextIO | None) -> tuple[Output, TextIO]:
    """Return the output on a stream, and the same as the type of a stream."""
    output = Output(stream)
    return output, cast(TextIO, output)
