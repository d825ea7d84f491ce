"""Keep this program's modules apart from those of other programs on this computer.

`./inv` starts Python without such variables (PYTHONPATH and more); `python -m launcher` begins when Python has read them already.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONWARNINGS", "PYTHONINSPECT")
_ROOT = Path(__file__).resolve().parents[1]


def keep_apart() -> None:
    """Remove the folders of PYTHONPATH, but not our own, from Python's search path; programs that we start get no such variable."""
    folders = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    foreign = {Path(folder).resolve() for folder in folders} - {_ROOT}
    if not sys.flags.ignore_environment:
        sys.path[1:] = [folder for folder in sys.path[1:] if Path(folder).resolve() not in foreign]
    for name in _FOREIGN:
        os.environ.pop(name, None)
