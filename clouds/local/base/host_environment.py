"""The network settings of this computer that a builder needs too: mirrors, proxies, package indexes, certificates.

A builder gets them as files in /run/bakehouse/build, a tmpfs, for one boot; none may stay in an image. They may contain
credentials, so they are written to private files only, never to process arguments or logs.
"""

from __future__ import annotations

import configparser
import io
import os
import shlex
import tarfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clouds.local.base.apt_settings import apt_conf, apt_config, apt_options, mirror_rules
from clouds.local.base.index_logins import split_name, with_netrc, with_variables
from clouds.local.host.files import read_text
from clouds.mirrors import Mirrors, host_mirrors, is_http

GATEWAY = "10.0.2.2"
"""The address of this computer in QEMU's user-mode network."""

_DEFAULT_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_GUEST = "/run/bakehouse/build"
_BUNDLE = "ca.crt"
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings found on this computer. `proxies` and `apt` are by name; `index` and `extra_indexes` may contain passwords."""

    mirrors: Mirrors = field(default_factory=Mirrors)
    proxies: Mapping[str, str] = field(default_factory=dict)
    apt: Mapping[str, str] = field(default_factory=dict)
    index: str = ""
    extra_indexes: tuple[str, ...] = ()
    bundle: Path | None = None


def host_settings() -> HostSettings:
    """Read the settings of this computer."""
    index, extra = pip_indexes(os.environ, _pip_files(), _uv_files())
    return HostSettings(
        mirrors=host_mirrors(),
        proxies={key: value for key in PROXIES if (value := os.environ.get(key) or os.environ.get(key.upper()))},
        apt=apt_options(apt_config()),
        index=with_netrc(index, os.environ),
        extra_indexes=tuple(with_netrc(url, os.environ) for url in extra),
        bundle=ca_bundle(os.environ),
    )


def pip_indexes(environment: Mapping[str, str], files: Iterable[str], uv_files: Iterable[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Return (index, extra indexes) of uv or pip on this computer; only URLs that a guest can reach (http, https).

    `files` are pip's configurations, `uv_files` those of uv, which come first: uv has resolved the packages.
    """
    own, own_extra = uv_indexes(uv_files, environment)
    index = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or own or environment.get("PIP_INDEX_URL", "")
    extra = " ".join(environment.get(key, "") for key in ("UV_INDEX", "UV_EXTRA_INDEX_URL"))
    extra = " ".join([extra, *own_extra, environment.get("PIP_EXTRA_INDEX_URL", "")])
    for text in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            continue
        index = index or parser.get("global", "index-url", fallback="")
        extra = extra if extra.strip() else parser.get("global", "extra-index-url", fallback="")
    index, *urls = (with_variables(url, name, environment) for name, url in map(split_name, [index, *extra.split()]))
    return (index if is_http(index) else ""), tuple(url for url in urls if is_http(url))


def uv_indexes(files: Iterable[str], environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return (index, extra indexes) in the texts of uv.toml files (docs.astral.sh/uv/concepts/indexes)."""
    index, extra = "", []
    for text in files:
        try:
            settings = tomllib.loads(text)
        except ValueError:
            continue  # uv reports it
        pip = settings.get("pip")
        for table in (settings, pip if isinstance(pip, dict) else {}):
            extra += [one for one in _list(table.get("extra-index-url")) if isinstance(one, str)]
            index = index or str(table.get("index-url", ""))
        for one in _list(settings.get("index")):
            if not isinstance(one, dict):
                continue
            url = with_variables(str(one.get("url", "")), str(one.get("name", "")), environment)
            if one.get("default"):
                index = index or url
            elif not one.get("explicit"):
                extra.append(url)
    return index, tuple(extra)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def ca_bundle(environment: Mapping[str, str]) -> Path | None:
    """Return the CA bundle that programs on this computer trust."""
    named = [Path(environment[key]) for key in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE") if environment.get(key)]
    return next((path for path in (*named, _DEFAULT_BUNDLE) if path.is_file()), None)


def build_files(settings: HostSettings) -> dict[str, bytes]:
    """Return the files for /run/bakehouse/build, by name."""
    texts = {"mirrors.sed": mirror_rules(settings.mirrors.each(for_guest)), "apt.conf": _apt_conf(settings), "env": _env(settings)}
    bundle = {_BUNDLE: settings.bundle.read_bytes()} if settings.bundle else {}
    return {**{name: text.encode() for name, text in texts.items()}, **bundle}


def build_archive(files: Mapping[str, bytes]) -> bytes:
    """Pack the files as the tar that the guest unpacks in /run/bakehouse; only the certificates are world-readable."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        folder = tarfile.TarInfo("build")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"build/{name}")
            entry.size, entry.mode = len(content), 0o644 if name == _BUNDLE else 0o600
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def for_guest(url: str) -> str:
    """Return a URL (or HOST:PORT) for use in the guest: loopback addresses become the gateway."""
    scheme, slashes, rest = url.partition("//") if "//" in url else ("", "", url)
    server, slash, path = rest.partition("/")
    credentials, at, host = server.rpartition("@")
    for loopback in ("localhost", "127.0.0.1", "[::1]"):
        if host == loopback or host.startswith(f"{loopback}:"):
            host = GATEWAY + host.removeprefix(loopback)
    return f"{scheme}{slashes}{credentials}{at}{host}{slash}{path}"


def _apt_conf(settings: HostSettings) -> str:
    options = {key: for_guest(value) for key, value in settings.apt.items() if not key.lower().endswith("::cainfo")}
    # The guest makes this folder from its own sources (`apt_sources` in templates/frame/lib.sh.j2).
    options |= {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": f"{_GUEST}/sources.list.d"}
    if settings.bundle:
        options["Acquire::https::CAInfo"] = f"{_GUEST}/{_BUNDLE}"
    return apt_conf(options)


def _env(settings: HostSettings) -> str:
    variables = {"APT_CONFIG": f"{_GUEST}/apt.conf", "BAKEHOUSE_HOST": GATEWAY}
    for key, value in settings.proxies.items():
        variables |= dict.fromkeys((key, key.upper()), value if key == "no_proxy" else for_guest(value))
    if settings.index:
        variables |= dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), for_guest(settings.index))
    if settings.extra_indexes:
        variables |= dict.fromkeys(("PIP_EXTRA_INDEX_URL", "UV_INDEX"), " ".join(map(for_guest, settings.extra_indexes)))
    if settings.bundle:
        variables |= dict.fromkeys(_CERTIFICATES, f"{_GUEST}/{_BUNDLE}")
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items())


def _uv_files() -> list[str]:
    """Return the texts of uv's configuration files, highest precedence first (docs.astral.sh/uv/concepts/configuration-files)."""
    if os.environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return []
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    shared = [Path(folder) for folder in (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    named = os.environ.get("UV_CONFIG_FILE")
    return [read_text(path) for path in ([Path(named)] if named else [one / "uv/uv.toml" for one in (own, *shared, Path("/etc"))])]


def _pip_files() -> list[str]:
    """Return the texts of pip's configuration files, highest precedence first."""
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(os.environ["PIP_CONFIG_FILE"])] if os.environ.get("PIP_CONFIG_FILE") else []
    return [
        read_text(path)
        for path in (*named, config / "pip/pip.conf", home / ".pip/pip.conf", Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"))
    ]
