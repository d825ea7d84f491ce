"""The conda channels of a recipe as URLs, with the user's .condarc (docs.conda.io/projects/conda/en/stable/configuration.html)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic import dataclasses as checked
from pydantic_core import PydanticCustomError

from bakery.recipe import fields, problems
from bakery.recipe.credentials import plain
from bakery.recipe.yaml_files import BadYamlError, read_yaml
from clouds.errors import UsageError

_ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")

_Text = Annotated[str, Strict()]


@checked.dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class _Condarc:
    """What Bakehouse reads of a .condarc."""

    channels: tuple[_Text, ...] = ()
    default_channels: tuple[_Text, ...] = ()
    channel_alias: _Text = ""
    custom_channels: Mapping[str, _Text] = field(default_factory=dict)


def channel_urls(where: str, names: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Return the URLs of these channels; of none, those of the user's .condarc, else that of conda-forge.

    `where` is the step that needs them. Raises UsageError, with file and key, if the .condarc is wrong, or names a channel that a
    builder cannot reach, or one that needs a password or token, which the log would show.
    """
    settings = _Settings(where, environ)
    asked = _usable(names) or _usable(settings.listed("channels")) or ["conda-forge"]
    urls = list(dict.fromkeys(url for name in asked for url in settings.urls(name)))
    if secret := [plain(url) for url in urls if plain(url) != url]:
        raise UsageError(
            f"{where}: channel {secret[0]}: contains a token, which would stay in the image's log",
            next_step="Write a channel that needs none.",
        )
    return urls


def _usable(names: Iterable[str]) -> list[str]:
    return [name for name in names if name != "nodefaults"]


class _Settings:
    """The user's settings of conda: each key from the first file that has it."""

    def __init__(self, where: str, environ: Mapping[str, str]) -> None:
        self._where = where
        self._files = [(path, content) for path in _paths(environ) if (content := self._read(path))]

    def urls(self, name: str) -> Iterator[str]:
        """Yield the URLs of a channel: several for `defaults`."""
        if "://" in name:
            yield name.rstrip("/")
        elif name == "defaults":
            for one in self.listed("default_channels") or _DEFAULTS:
                yield from self.urls(one) if one != name else ()
        else:
            yield f"{self._server(name).rstrip('/')}/{name.strip('/')}"

    def listed(self, key: str) -> list[str]:
        """Return the channels at a key."""
        path, listed = self._first(key)
        return [self._good(f"{path}: {key}[{at}]", one) for at, one in enumerate(listed or ())]

    def _server(self, name: str) -> str:
        """Return the URL below which a channel is."""
        path, places = self._first("custom_channels")
        if place := (places or {}).get(name):
            return self._good(f"{path}: custom_channels.{name}", place, needs_url=True)
        path, alias = self._first("channel_alias")
        return self._good(f"{path}: channel_alias", alias, needs_url=True) if alias else _ALIAS

    def _first(self, key: str) -> tuple[Path, Any]:
        return next(((path, content[key]) for path, content in self._files if content.get(key)), (Path(), None))

    def _good(self, key: str, text: str, *, needs_url: bool = False) -> str:
        try:
            if needs_url and "://" not in text:
                raise fields.wrong("is not a URL", f'write one such as "{_ALIAS}"')
            return fields.conda_channel(text)
        except PydanticCustomError as error:
            raise self._error([f"{key}: {problems.show(text)} {error.message()}"]) from None

    def _read(self, path: Path) -> dict[str, Any]:
        """Return the settings of a file; {} if it does not exist."""
        try:
            found = {key: value for key, value in read_yaml(path).items() if value is not None}
            TypeAdapter(_Condarc).validate_python(found)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise self._error([f"{path}: cannot be read: {error.strerror} (change it, or move it away)"]) from None
        except BadYamlError as error:
            raise self._error([f"{path}: {error}"]) from None
        except ValidationError as error:
            raise self._error([f"{path}: {one}" for one in problems.invalid(error.errors(include_url=False), _Condarc)]) from None
        return found

    def _error(self, reasons: list[str]) -> UsageError:
        text = "\n".join(f"{self._where}: {reason}" for reason in reasons)
        return UsageError(text, next_step="Correct the file, or move it away and write the URLs of channels into the recipe.")


def _paths(environ: Mapping[str, str]) -> list[Path]:
    """Return where conda looks for settings, the most important place first."""
    home = Path(environ.get("HOME", "/"))
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(environ["CONDARC"])] if environ.get("CONDARC") else []
    return [*named, home / ".condarc", home / ".conda/.condarc", config / "conda/.condarc", Path("/etc/conda/.condarc")]
