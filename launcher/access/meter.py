"""The progress of a copy, as one line that is rewritten on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY_S = 0.2


class Meter:
    """Counts files and bytes, and shows them at most five times a second; without `show` it only counts."""

    def __init__(self, show: Callable[[str], None] | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._show, self._now = show, now
        self._began = self._shown = now()
        self._files = self._bytes = self._all_files = self._all_bytes = 0
        self._is_shown = False

    def start(self, files: int, all_bytes: int) -> None:
        """Take the number of files and bytes to come."""
        self._all_files, self._all_bytes = files, all_bytes
        self._began = self._shown = self._now()

    def count(self, files: int, transferred: int) -> None:
        """Add files and bytes, and show the sums if they were last shown some time ago."""
        self._files += files
        self._bytes += transferred
        if self._show and self._now() - self._shown >= _EVERY_S:
            self._shown, self._is_shown = self._now(), True
            self._show(self.line())

    def line(self) -> str:
        """Return the sums as text, such as `copying: 312 of 1500 files, 4.1 of 12.0 MB (2.0 MB/s)`."""
        rate = self._bytes / max(self._now() - self._began, 0.001) / 1e6
        done, whole = self._bytes / 1e6, max(self._all_bytes, self._bytes) / 1e6
        return f"copying: {self._files} of {self._all_files} files, {done:.1f} of {whole:.1f} MB ({rate:.1f} MB/s)"

    def end(self) -> None:
        """Remove the line."""
        if self._show and self._is_shown:
            self._show("")
            self._is_shown = False
