"""Search files of settings for passwords that have no form of their own, so that no scanner can tell them from other words.

Only files that programs read as settings are searched so: a README with `user:password@` is no leak.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from bakery.proof.finding import Finding

_VARIABLES = re.compile(
    r".*/(\.env(rc|\.[^/]+)?|[^/]+\.env|env|environment|\.Renviron|Renviron\.site|rclone\.conf|\.streamlit/secrets\.toml"
    r"|\.(bash|zsh|k)(rc|env|_profile|_login|_aliases|profile|login)|\.profile|profile|config\.fish|jupyter_[a-z_]*config\.py)"
    r"|/var/spool/cron/.*|.*/environment\.d/[^/]+|.*/systemd/.*\.(service|conf)"
)
"""Files of variables, which shells, cron, systemd, R, Jupyter and dotenv read."""
_SUFFIX = r"(conf|config|cfg|ini|toml|ya?ml|json|list|sources|properties|tfvars|xml)"
_IN_USE = re.compile(rf"/etc/.*|/(root|home/[^/]+)/(\.config/.*/|\.[^/]+/)?(\.?[^/.]+|\.?[^/]+\.{_SUFFIX})")
"""Files of the system and of users' programs: whatever they have in place of a password is one."""
_SETTINGS = re.compile(
    rf".*\.{_SUFFIX}|.*/(\.condarc|\.?gitconfig|\.npmrc|\.yarnrc|\.mambarc)|.*/\.git/config|.*/\.dvc/config\.local"
)
_DATA = re.compile(r".*\.(json|xml)")
"""Files that are as often data: there, a variable is none of the settings."""
_TEMPLATE = re.compile(r".*[.-](example|sample|template|dist)(\.[^/]+)?")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@\"'`<>]*:([^/\s@\"'`<>]+)@[^\s/@\"']", re.IGNORECASE)
_CONDA_TOKEN = re.compile(r"\bhttps?://[^/\s]+/t/([A-Za-z0-9-]{12,})/")
_VARIABLE = re.compile(
    r"(?:^|[\s=\"',.:<])[\w-]*(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PWD|PSK|API_?KEY|PRIVATE_?KEY|AUTH_?KEY|CREDENTIALS?"
    r"|_PAT|_KEY)(?:_?BASE64)?[\"']?(?:\s*[=:]\s*|(?<=\w)>)[\"']?([^\s\"'#<>,;]{8,})",
    re.IGNORECASE,
)
"""A variable or a key of TOML, YAML, JSON or XML, whose name ends as those of secrets do, with its value."""
_NO_VALUE = ("#", ";", "// ", "alias ")
"""How lines begin that set nothing."""
_FILLED_IN = re.compile(r".*(\$|\{\{|<|%\(|\*\*\*|\w\(|os\.environ).*")
"""A value that a program puts in when it reads the file."""
_EXAMPLE = r".*(xxx|\.\.\.|example|placeholder|dummy|redacted|your[-_]|insert[-_]|todo|not[-_]?a[-_]?secret).*"
_DEFAULT = r".*change[-_]?me.*|user|pass|password|passwd|secret|token|none|null|true|false|postgres|root|admin|test"
_EXAMPLES = re.compile(_EXAMPLE, re.IGNORECASE)
PLACEHOLDER = re.compile(f"{_EXAMPLE}|{_DEFAULT}", re.IGNORECASE)
"""A value that an example has in place of a password. In files that are in use (_IN_USE), a default is a password, too."""
_BITS_MIN = 2.5
"""The entropy per character of a value that somebody has drawn or made up; `aaaaaaaa` and `11112222` have less."""
_STRICT_MIN, _STRICT_BITS_MIN = 10, 3.0


def passwords(contents: Mapping[str, bytes]) -> Iterator[Finding]:
    """Yield the passwords in URLs of settings, and in variables whose name says that they hold one."""
    for path, content in contents.items():
        has_variables = bool(_VARIABLES.fullmatch(path) or _IN_USE.fullmatch(path))
        if _TEMPLATE.fullmatch(path) or not (has_variables or _SETTINGS.fullmatch(path)):
            continue
        for number, line in enumerate(content.decode(errors="surrogateescape").split("\n"), 1):
            if not line.lstrip().startswith(_NO_VALUE):
                yield from _of_line(path, number, line, has_variables=has_variables)


def _of_line(path: str, number: int, line: str, *, has_variables: bool) -> Iterator[Finding]:
    for form in (_URL, _CONDA_TOKEN):
        for found in form.finditer(line):
            if not _is_placeholder(path, unquote(found[1])):
                yield Finding(path, "credentials in a URL", number, found[1])
    for found in _VARIABLE.finditer(line) if has_variables or not _DATA.fullmatch(path) else ():
        if not _is_placeholder(path, found[1]) and is_drawn(found[1], is_strict=not has_variables):
            yield Finding(path, "secret in a variable", number, found[1])


def is_drawn(value: str, *, is_strict: bool) -> bool:
    """Return whether a value may be a password. `is_strict`: it must be more random, since nobody knows who reads its file."""
    if value.startswith(("/", "~")) or _bits(value) < _BITS_MIN:
        return False
    return not is_strict or (
        len(value) >= _STRICT_MIN and re.search("[0-9]", value) is not None and _bits(value) >= _STRICT_BITS_MIN
    )


def _is_placeholder(path: str, value: str) -> bool:
    placeholder = _EXAMPLES if _IN_USE.fullmatch(path) else PLACEHOLDER
    return bool(_FILLED_IN.fullmatch(value) or placeholder.fullmatch(value))


def _bits(text: str) -> float:
    """Return the entropy of a text per character, in bits."""
    shares = (count / len(text) for count in Counter(text).values())
    return -sum(share * math.log2(share) for share in shares)
