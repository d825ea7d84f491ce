"""Run uv on the computer that bakes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from uv import find_uv_bin

from bakery.recipe.credentials import plain
from bakery.script import uv_settings
from clouds.errors import BakehouseError, MissingToolError

_TIMEOUT_S = 600


def run_uv(arguments: Sequence[str], folder: Path, recipe: str, *, without: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run uv in a folder with the user's settings, but `without` some variables; its errors contain no passwords.

    Raises BakehouseError if it takes too long, and MissingToolError if it is not installed.
    """
    environment = {key: value for key, value in uv_settings.environment(os.environ).items() if key not in without}
    try:
        done = subprocess.run(
            [find_uv_bin(), *arguments],
            cwd=folder,
            env={**environment, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise MissingToolError("uv is not installed", next_step="Delete .venv, and create it again: ./inv --list") from error
    except subprocess.TimeoutExpired as error:
        raise BakehouseError(
            f"recipe {recipe!r}: no answer from the package index within {_TIMEOUT_S} s", next_step="Try again."
        ) from error
    done.stderr = plain(done.stderr.strip())
    return done
