"""The conda channels of a recipe as URLs, with the user's .condarc (docs.conda.io/projects/conda/en/stable/configuration.html)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bakery.script.uv_settings import has_credentials, without_credentials
from clouds.errors import UsageError

_ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_TOKEN = re.compile(r"/t/[^/]+")
"""The token of a private channel, in its path."""


def plain(text: str) -> str:
    """Return a text in which no URL contains a user name, a password or a token."""
    return re.sub(r"(https?://[^/\s]+)/t/[^/\s]+", r"\1/t/***", without_credentials(text))


def channel_urls(names: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Return the URLs of these channels; of none, those of the user's .condarc, else that of conda-forge.

    Raises UsageError for a channel that a builder cannot reach, or that needs a password or token, which the log would show.
    """
    settings = _settings(environ)
    names = [name for name in names or _list(settings.get("channels")) or ["conda-forge"] if name != "nodefaults"]
    found = [url for name in names for url in _urls(name, settings)]
    for url in found:
        if has_credentials(url) or _TOKEN.search(url):
            raise UsageError(
                f"conda channel {plain(url)}: its user name, password or token would stay in the image's log",
                next_step="Write a channel or a mirror that needs none.",
            )
        if not url.startswith(("http://", "https://")):
            raise UsageError(
                f"conda channel {url}: is on this computer, where the builder cannot read it",
                next_step="Write a channel with an address that starts with http:// or https://",
            )
    return list(dict.fromkeys(found))


def _urls(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the URLs of a channel: several for `defaults`."""
    if "://" in name:
        return [name.rstrip("/")]
    if name == "defaults":
        listed = _list(settings.get("default_channels")) or _DEFAULTS
        return [url for one in listed if one != name for url in _urls(one, settings)]
    custom = settings.get("custom_channels")
    places = custom if isinstance(custom, dict) else {}
    place = places.get(name) or settings.get("channel_alias") or _ALIAS
    return [f"{str(place).rstrip('/')}/{name.strip('/')}"]


def _settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the user's settings of conda: each key from the first file that has it. A file that is not YAML is an error."""
    import yaml

    home = Path(environ.get("HOME", "/"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(environ["CONDARC"])] if environ.get("CONDARC") else []
    found: dict[str, Any] = {}
    for path in (*named, home / ".condarc", home / ".conda/.condarc", config / "conda/.condarc", Path("/etc/conda/.condarc")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError:
            continue
        except (ValueError, yaml.YAMLError):
            raise UsageError(f"{path}: is not valid YAML", next_step="Correct the file, or move it away.") from None
        found = {**content, **found} if isinstance(content, dict) else found
    return found


def _list(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
