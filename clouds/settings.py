"""Settings: one TOML file with a table for each cloud.

    cloud = "gcp"          # the default cloud
    [gcp]                  # SETTINGS of each cloud's package declares its keys
    project = "my-project"
    [gcp.research]         # another account of that cloud, selected by `--cloud gcp.research` or `cloud = "gcp.research"`
    project = "research-123"

A flag overrides an environment variable, which overrides the file, which overrides the default. The table of an account overrides
the environment, since it is selected by name, and inherits from the table of its cloud. If two settings contradict each other (a
zone and a region), the one from the stronger source is used, and the other one is dropped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import Any

from clouds import DRIVERS
from clouds.accounts import account_of, cloud_of
from clouds.errors import UsageError, not_supported
from clouds.near import near

_DEFAULT = "cloud"
"""The top-level key with the default cloud; all other top-level keys are tables of clouds."""
_ENVIRONMENT = "BAKEHOUSE_CLOUD"
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]*")

Check = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a cloud: its help text, the environment variables that can set it, and its default.

    `check` raises ValueError for an invalid value, with `is WHAT IS WRONG (WHAT TO WRITE INSTEAD)`.
    `contradicts` maps the key of another setting to a predicate of both values, this one's first.
    """

    help: str
    environment: tuple[str, ...] = ()
    default: str = ""
    check: Check = str
    contradicts: Mapping[str, Callable[[str, str], bool]] = field(default_factory=dict)


class _Source(IntEnum):
    """Where a value comes from, the strongest first."""

    FLAG = 0
    ACCOUNT = 1
    ENVIRONMENT = 2
    CLOUD = 3
    DEFAULT = 4


@dataclass(frozen=True, slots=True)
class _Value:
    """A value, its source, and the name of the flag, variable or key that it is from."""

    source: _Source
    where: str
    value: str


def load(cloud: str, flags: Mapping[str, str]) -> dict[str, str]:
    """Return the value of every setting of a cloud or account, "" if it is not set. UsageError lists all problems."""
    known = _declared(cloud_of(cloud))
    if unknown := [f"--{key.replace('_', '-')}" for key in flags if key not in known]:
        raise UsageError("\n".join(not_supported(flag, cloud) for flag in unknown))
    written = _read()
    own, shared = _account(written, cloud), _table(written, cloud_of(cloud))
    values = {key: _strongest(key, setting, flags, own, shared) for key, setting in known.items()}
    if wrong := [f"{one.where}: {found}" for key, one in values.items() if (found := _problem(one.value, known[key]))]:
        raise UsageError("\n".join(wrong), next_step=f"See {_page(cloud_of(cloud))}.")
    dropped = set(_overruled(values, known))
    return {key: known[key].default if key in dropped else one.value for key, one in values.items()}


def accounts(cloud: str) -> list[str]:
    """Return the accounts of a cloud in the file, such as `gcp.research`."""
    return [f"{cloud}.{name}" for name in _accounts(_read(), cloud)]


def chosen_cloud() -> str:
    """Return the default cloud from the environment or the file, or "". UsageError: either is wrong."""
    if (chosen := os.environ.get(_ENVIRONMENT)) and cloud_of(chosen) not in DRIVERS:
        raise UsageError(f"{_ENVIRONMENT}: unknown cloud {chosen!r} ({_instead(chosen, DRIVERS)})")
    return chosen or str(_read().get(_DEFAULT, ""))


def number(lowest: float, highest: float) -> Check:
    """Return a check for a decimal number in a range."""

    def check(value: str) -> None:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value, re.ASCII) or not lowest <= float(value) <= highest:
            raise ValueError(f"is not a number from {lowest:g} to {highest:g} (write one such as 1)")

    return check


def one_of(*choices: str) -> Check:
    """Return a check for one of several words."""

    def check(value: str) -> None:
        if value not in choices:
            raise ValueError(f"is not one of the choices (write {' or '.join(choices)})")

    return check


def shaped(pattern: str, problem: str) -> Check:
    """Return a check for a text that matches a regular expression completely; `problem` is the error otherwise."""

    def check(value: str) -> None:
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(problem)

    return check


def address_range(value: str) -> None:
    """Check an address or a range of them (CIDR)."""
    import ipaddress  # costs some ms, which `./inv --list` need not spend

    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("is not an address or range (write one such as 203.0.113.7 or 203.0.113.0/24)") from None


def is_configured(cloud: str) -> bool:
    """Return whether a cloud has settings in the file or the environment, not counting those of its accounts."""
    variables = [name for setting in _declared(cloud).values() for name in setting.environment]
    return bool(_table(_read(), cloud)) or any(os.environ.get(name) for name in variables)


def config_file() -> Path:
    """Return the path of the settings file: BAKEHOUSE_CONFIG, else one in the user's config folder."""
    if named := os.environ.get("BAKEHOUSE_CONFIG"):
        return Path(named).absolute()
    from platformdirs import user_config_path

    return user_config_path("bakehouse", appauthor=False) / "config.toml"


def problems(written: Mapping[str, object], file: str) -> list[str]:
    """Return the problems in the content of a file, each as `file: key.path: what is wrong (what to write instead)`."""
    return [f"{file}: {problem}" for key, value in written.items() for problem in _problems_of(key, value, written)]


def _problems_of(key: str, value: object, written: Mapping[str, object]) -> Iterator[str]:
    if key == _DEFAULT:
        yield from _problems_of_default(value, written)
    elif key not in DRIVERS:
        yield f"{key}: unknown cloud or setting ({_instead(key, (_DEFAULT, *DRIVERS))})"
    elif not isinstance(value, dict):
        yield f"{key}: {value!r} is not a table (write [{key}], and its settings in the lines below)"
    else:
        known = _declared(key)
        for name, one in value.items():
            if isinstance(one, dict) and name not in known:
                yield from _problems_of_account(f"{key}.{name}", name, one, known)
            else:
                yield from _problems_of_setting(f"{key}.{name}", name, one, known)


def _problems_of_account(where: str, name: str, table: Mapping[str, object], known: Mapping[str, Setting]) -> Iterator[str]:
    if not _ACCOUNT.fullmatch(name):
        yield f"{where}: invalid account name (write a to z, 0 to 9 and '-', starting with a letter)"
    for key, value in table.items():
        yield from _problems_of_setting(f"{where}.{key}", key, value, known)


def _problems_of_default(value: object, written: Mapping[str, object]) -> Iterator[str]:
    choices = (*DRIVERS, *(f"{cloud}.{name}" for cloud in DRIVERS for name in _accounts(written, cloud)))
    if value not in choices:
        yield f"{_DEFAULT}: unknown cloud {value!r} ({_instead(str(value), choices)})"


def _problems_of_setting(where: str, name: str, value: object, known: Mapping[str, Setting]) -> Iterator[str]:
    if name not in known:
        yield f"{where}: unknown setting ({_instead(name, known)})"
    elif not isinstance(value, str):
        yield f"{where}: {value!r} is not a string (write it in quotes)"
    elif not value.strip():
        yield f"{where}: is empty (write a value, or leave the line out)"
    elif found := _problem(value, known[name]):
        yield f"{where}: {found}"


def _instead(name: str, others: Mapping[str, object] | tuple[str, ...]) -> str:
    """Return a suggestion for an unknown name."""
    choice = near(name, others) or list(others)
    return f"write {' or '.join(choice)}" if choice else "leave it out"


def _declared(cloud: str) -> Mapping[str, Setting]:
    """Return the settings that a cloud's package declares; importing it loads none of the cloud's libraries."""
    known: Mapping[str, Setting] = import_module(DRIVERS[cloud]).SETTINGS
    return known


def _page(key: str) -> str:
    """Return the page of the documentation that explains the settings of a cloud, or another key of the file."""
    package = import_module(DRIVERS[key]) if key in DRIVERS else None
    return str(getattr(package, "SETTINGS_PAGE", "README.md, under Settings"))


def _strongest(
    key: str, setting: Setting, flags: Mapping[str, str], account: Mapping[str, str], shared: Mapping[str, str]
) -> _Value:
    """Return the value of a setting from its strongest source."""
    if value := flags.get(key):
        return _Value(_Source.FLAG, f"--{key.replace('_', '-')}", value)
    if value := account.get(key):
        return _Value(_Source.ACCOUNT, key, value)
    for name in setting.environment:
        if value := os.environ.get(name):
            return _Value(_Source.ENVIRONMENT, name, value)
    if value := shared.get(key):
        return _Value(_Source.CLOUD, key, value)
    return _Value(_Source.DEFAULT, key, setting.default)


def _overruled(values: Mapping[str, _Value], known: Mapping[str, Setting]) -> Iterator[str]:
    """Yield the keys whose value contradicts one from a stronger source; the cloud handles those of equal strength."""
    for key, setting in known.items():
        for other, contradicts in setting.contradicts.items():
            one, rival = values[key], values[other]
            if one.value and rival.value and one.source != rival.source and contradicts(one.value, rival.value):
                yield key if one.source > rival.source else other


def _problem(value: str, setting: Setting) -> str:
    """Return what is wrong with the value of a setting, or ""; the value "" means not set."""
    try:
        if value:
            setting.check(value)
    except ValueError as error:
        return f"{value!r} {error}"
    return ""


def _table(written: Mapping[str, object], cloud: str) -> Mapping[str, str]:
    """Return the settings of a cloud, without the tables of its accounts."""
    return {key: value for key, value in _whole_table(written, cloud).items() if not isinstance(value, dict)}


def _accounts(written: Mapping[str, object], cloud: str) -> list[str]:
    return [name for name, value in _whole_table(written, cloud).items() if isinstance(value, dict)]


def _account(written: Mapping[str, object], name: str) -> Mapping[str, str]:
    """Return the settings of an account. UsageError: the file has no such account."""
    cloud, account = cloud_of(name), account_of(name)
    if not account:
        return {}
    if account not in (known := _accounts(written, cloud)):
        others = ", ".join([cloud, *(f"{cloud}.{one}" for one in known)])
        raise UsageError(
            f"unknown account {account!r} of {cloud}",
            next_step=f"Choose one of: {others}. Or add [{name}] and its settings to {config_file()}.",
        )
    table: Mapping[str, str] = _whole_table(written, cloud)[account]
    return table


def _whole_table(written: Mapping[str, object], cloud: str) -> Mapping[str, Any]:
    table = written.get(cloud, {})
    return table if isinstance(table, dict) else {}


def _read() -> Mapping[str, object]:
    """Return the valid content of the file; empty without a file. UsageError lists all problems.

    UsageError: BAKEHOUSE_CONFIG names a file that does not exist; the one in the user's config folder need not.
    """
    import tomllib

    file = config_file()
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get("BAKEHOUSE_CONFIG"):
            raise UsageError(
                f"BAKEHOUSE_CONFIG: {file} not found", next_step="Write that file, or unset BAKEHOUSE_CONFIG."
            ) from None
        return {}
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", next_step="Make it a readable file, or remove it.") from error
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8 text", next_step="Save the file as UTF-8.") from None
    except RecursionError:
        raise UsageError(
            f"{file}: is nested too deeply", next_step="Write a table for each cloud, and its settings below."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: {error}", next_step="Fix the TOML syntax: toml.io explains it.") from error
    if found := problems(written, str(file)):
        first = next(key for key, value in written.items() if any(_problems_of(key, value, written)))
        raise UsageError("\n".join(found), next_step=f"See {_page(first if isinstance(written[first], dict) else _DEFAULT)}.")
    return written
