"""What this computer knows of its surroundings, and a builder must know too: mirrors, proxies, indexes, certificates.

All of it reaches a builder as files below /run/bakehouse/build, in memory, for one boot; nothing of it may stay in an
image. It may hold credentials: it is written to private files only, never into an argument of a process or a log.
"""

from __future__ import annotations

import configparser
import io
import os
import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

GATEWAY = "10.0.2.2"
"""This computer's loopback address, as a guest in QEMU's user-mode network sees it."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEFAULT_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_GUEST = "/run/bakehouse/build"
_SUITES = re.compile(r"(bullseye|bookworm|trixie|forky|sid|stable|testing|unstable)(-updates|-security)?")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_CERTIFICATES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The URLs of Debian's archive and of its security updates; "" where this computer knows none."""

    debian: str = ""
    security: str = ""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What was found on this computer. `proxies` and `apt` by name; `index` and `extra_indexes` are pip's."""

    mirrors: Mirrors = Mirrors()
    proxies: Mapping[str, str] = field(default_factory=dict)
    apt: Mapping[str, str] = field(default_factory=dict)
    index: str = ""
    extra_indexes: tuple[str, ...] = ()
    bundle: Path | None = None


def host_settings() -> HostSettings:
    """Look around on this computer."""
    index, extra = pip_indexes(os.environ, _pip_files())
    return HostSettings(
        mirrors=mirrors(_apt_sources()),
        proxies={key: value for key in _PROXIES if (value := os.environ.get(key) or os.environ.get(key.upper()))},
        apt=apt_options(_apt_config()),
        index=index,
        extra_indexes=extra,
        bundle=ca_bundle(os.environ),
    )


def mirrors(sources: Iterable[str]) -> Mirrors:
    """Find Debian's mirrors in the texts of apt's sources, of the one-line and the deb822 kind."""
    debian = security = ""
    for text in sources:
        for urls, suites, components in _entries(text):
            if "main" not in components or not any(_SUITES.fullmatch(suite.rstrip("/")) for suite in suites):
                continue
            for url in filter(None, map(_resolve, urls)):
                last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
                if last == "debian":
                    debian = debian or url.rstrip("/")
                elif last == "debian-security":
                    security = security or url.rstrip("/")
    return Mirrors(debian, security)


def apt_options(dump: str) -> dict[str, str]:
    """Pick the proxies and the CA bundle out of what `apt-config dump` prints."""
    pattern = re.compile(
        r'^(Acquire::(?:https?|ftp)::(?:[^"\s]*::)?(?:Proxy|CAInfo)(?:::\S+)?) "(.+)";$', re.MULTILINE | re.IGNORECASE
    )
    return dict(pattern.findall(dump))


def pip_indexes(environment: Mapping[str, str], files: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """Return the package index and the extra ones that pip or uv would use here; only those a guest can reach (http, https)."""
    index = next((environment[key] for key in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL") if environment.get(key)), "")
    extra = " ".join(environment.get(key, "") for key in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "PIP_EXTRA_INDEX_URL"))
    for text in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            continue
        index = index or parser.get("global", "index-url", fallback="")
        extra = extra if extra.strip() else parser.get("global", "extra-index-url", fallback="")
    urls = [url.rpartition("=")[2] if re.match(r"[\w-]+=https?:", url) else url for url in extra.split()]
    return (index if _is_http(index) else ""), tuple(url for url in urls if _is_http(url))


def ca_bundle(environment: Mapping[str, str]) -> Path | None:
    """Return the file of CA certificates that programs on this computer trust."""
    named = [Path(environment[key]) for key in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE") if environment.get(key)]
    return next((path for path in (*named, _DEFAULT_BUNDLE) if path.is_file()), None)


def sources_list(found: Mirrors, suite: str) -> str:
    """Return apt's sources for a suite with its updates, "" when a mirror is not known."""
    if not (found.debian and found.security):
        return ""
    archives = ((found.debian, suite), (found.debian, f"{suite}-updates"), (found.security, f"{suite}-security"))
    return "".join(f"deb [signed-by={KEYRING}] {url} {name} main\n" for url, name in archives)


def build_files(settings: HostSettings, suite: str) -> dict[str, bytes]:
    """Return the files for /run/bakehouse/build, by name."""
    files: dict[str, bytes] = {}
    guest = Mirrors(for_guest(settings.mirrors.debian), for_guest(settings.mirrors.security))
    if sources := sources_list(guest, suite):
        files["sources.list"] = sources.encode()
    if settings.bundle:
        files["ca.crt"] = settings.bundle.read_bytes()
    files["apt.conf"] = _apt_conf(settings, files).encode()
    files["env"] = _env(settings, files).encode()
    return files


def build_archive(files: Mapping[str, bytes]) -> bytes:
    """Pack the files as the tar that the guest unpacks in /run/bakehouse; only the certificates are for everybody."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=6) as tar:
        folder = tarfile.TarInfo("build")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, content in files.items():
            entry = tarfile.TarInfo(f"build/{name}")
            entry.size, entry.mode = len(content), 0o600 if name in ("env", "apt.conf") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def for_guest(url: str) -> str:
    """Return a URL as the guest must say it: what is the loopback address here is the gateway there."""
    parts = urlsplit(url)
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return url
    credentials, at, _ = parts.netloc.rpartition("@")
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{GATEWAY}{port}"))


def _apt_conf(settings: HostSettings, files: Mapping[str, bytes]) -> str:
    options = {key: for_guest(value) for key, value in settings.apt.items() if not key.lower().endswith("::cainfo")}
    if "ca.crt" in files:
        options["Acquire::https::CAInfo"] = f"{_GUEST}/ca.crt"
    if "sources.list" in files:
        options["Dir::Etc::SourceList"] = f"{_GUEST}/sources.list"
        options["Dir::Etc::SourceParts"] = "/dev/null"
    return apt_conf(options)


def apt_conf(options: Mapping[str, str]) -> str:
    """Write options in apt's own language."""
    return "".join(f'{key} "{value}";\n' for key, value in options.items())


def _env(settings: HostSettings, files: Mapping[str, bytes]) -> str:
    variables = {"APT_CONFIG": f"{_GUEST}/apt.conf"}
    for key, value in settings.proxies.items():
        text = value if key == "no_proxy" else for_guest(value)
        variables |= {key: text, key.upper(): text}
    if settings.index:
        variables |= dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), for_guest(settings.index))
    if settings.extra_indexes:
        variables |= dict.fromkeys(("PIP_EXTRA_INDEX_URL", "UV_INDEX"), " ".join(map(for_guest, settings.extra_indexes)))
    if "ca.crt" in files:
        variables |= dict.fromkeys(_CERTIFICATES, f"{_GUEST}/ca.crt")
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items())


def _entries(text: str) -> Iterable[tuple[list[str], list[str], list[str]]]:
    """Give (URLs, suites, components) of each binary source in a text of either kind."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in lines:
        if match := re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s+(.+)", line):
            yield [match[1]], [match[2]], match[3].split()
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            key.strip().lower(): value.split() for key, value in re.findall(r"^(\S+):((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            yield fields.get("uris", []), fields.get("suites", []), fields.get("components", [])


def _resolve(url: str) -> str:
    """Follow a list of mirrors in a file (Debian's cloud images have those) to its first; "" for what is not on the web."""
    if url.startswith("mirror+file:"):
        lines = _read(Path(url.removeprefix("mirror+file:"))).split()
        url = next((word for word in lines if _is_http(word)), "")
    return url if _is_http(url) else ""


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _apt_sources() -> list[str]:
    folder = Path("/etc/apt/sources.list.d")
    parts = [path for path in sorted(folder.glob("*")) if path.suffix in (".list", ".sources")] if folder.is_dir() else []
    return [_read(path) for path in (Path("/etc/apt/sources.list"), *parts)]


def _apt_config() -> str:
    try:
        done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _pip_files() -> list[str]:
    """Return the texts of pip's configuration, the strongest first."""
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(os.environ["PIP_CONFIG_FILE"])] if os.environ.get("PIP_CONFIG_FILE") else []
    return [
        _read(path)
        for path in (*named, config / "pip/pip.conf", home / ".pip/pip.conf", Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"))
    ]
