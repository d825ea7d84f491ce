"""Make text of a guest or a cloud safe to print: it may contain control sequences for the user's terminal."""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\r\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
"""Escape sequences of ECMA-48: CSI; OSC (such as a window title), DCS, SOS, PM and APC, each with its text; the short ones.

An unterminated one must not remove the lines after it, so a sequence ends with its line at the latest.
"""
_RETURN = re.compile(r"\r+\n?")
"""A line end on a console; a carriage return alone is how a progress bar rewrites its line."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those of Unicode that reorder or break a line (Unicode Standard Annex 9, section 2)."""


def clean(text: str) -> str:
    """Remove escape sequences and control characters, so that a guest's output cannot control the terminal."""
    return _CONTROL.sub("", _RETURN.sub("\n", _ESCAPE.sub("", text)))
