"""The syntax of requirements files (pip.pypa.io/en/stable/reference/requirements-file-format), as records and functions of text."""

from __future__ import annotations

import codecs
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bakery.recipe.local import ARCHIVES

UNSUPPORTED = {
    "trusted-host": "uv checks each certificate, and needs no permission for http:// (remove it)",
    "prefer-binary": "uv has no such option (remove it, or write --only-binary NAME)",
    "use-feature": "is an option of pip alone (remove it)",
    "config-settings": "uv reads it from uv.toml alone (remove it)",
    "global-option": "is not supported by uv (remove it)",
    "install-option": "is not supported by uv (remove it)",
    "no-deps": "would leave dependencies out (remove it)",
}
"""Options of pip that cannot work, and why."""
VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
"""A variable of the environment, which pip and uv replace by its value."""
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_SCHEMES = ("http", "https", "git+http", "git+https", "git+ssh")


@dataclass(frozen=True, slots=True)
class Line:
    """A requirement: `text` in uv's syntax. If it is beside the recipe, its `path` stands between `before` and `after` instead.

    `hashes` are the only ones that its files may have (`sha256:...`); none: any. `where` is its file and line, for messages.
    """

    where: str
    name: str = ""
    text: str = ""
    before: str = ""
    path: str = ""
    after: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The normalized name of the package; "" if the line does not tell."""
        return self.name or name_in(self.text)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of uv, without dashes. The value of `find-links` is an address, or a folder beside the recipe."""

    name: str
    value: str = ""

    @property
    def is_local(self) -> bool:
        """Whether its value is a folder beside the recipe."""
        return self.name == "find-links" and "://" not in self.value


@dataclass(frozen=True, slots=True)
class Requirements:
    """What requirements files say, with the files that they include."""

    lines: tuple[Line, ...] = ()
    constraints: tuple[Line, ...] = ()
    options: tuple[Option, ...] = ()


def name_in(requirement: str) -> str:
    """Return the normalized name of the package in a requirement; "" if that is an address alone."""
    try:
        return str(canonicalize_name(Requirement(requirement).name))
    except InvalidRequirement:
        return ""


class RefusedError(Exception):
    """A line cannot work: `what is wrong (what to write instead)`."""


def decode(content: bytes) -> str:
    """Return the text of a file: UTF-8, or what its byte order mark says (PowerShell writes UTF-16). Raises UnicodeDecodeError."""
    marks = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
    for mark, encoding in marks:
        if content.startswith(mark):
            return content.removeprefix(mark).decode(encoding)
    return content.decode()


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines with the number of their first line, without comments, and joined where a backslash continues them."""
    first, joined = 0, ""
    for number, line in enumerate((*re.split(r"\r\n|\r|\n", text), ""), 1):
        first = first or number
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            joined += line[:-1]
            continue
        whole = re.sub(r"(^|\s+)#.*$", "", f"{joined} {line}" if is_comment else joined + line).strip()
        if whole:
            yield first, whole
        first, joined = 0, ""


def words_of(line: str) -> list[str]:
    """Return the words of a line with options, as a shell reads them."""
    try:
        return shlex.split(line)
    except ValueError:
        raise RefusedError("has a quotation mark that is not closed (close it)") from None


def split_hashes(line: str) -> tuple[str, tuple[str, ...]]:
    """Return a requirement without its options, and the hashes among them."""
    text, *rest = re.split(r"\s+(?=-)", line, maxsplit=1)
    words, hashes = words_of(rest[0]) if rest else [], []
    while words:
        word = words.pop(0)
        name, _, value = word.partition("=")
        if name != "--hash":
            reason = UNSUPPORTED.get(name.removeprefix("--"), "is not an option of a requirement (write it on a line of its own)")
            raise RefusedError(f"{name}: {reason}")
        value = value or (words.pop(0) if words else "")
        if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", value):
            raise RefusedError("has a hash other than sha256:... (write the SHA-256, as pip hash or uv pip compile prints it)")
        hashes.append(value.lower())
    return text, tuple(hashes)


def is_path_or_url(text: str) -> bool:
    """Return whether a requirement without a name is a path or an address, by pip's rules."""
    target = re.split(r"\s*;|\s+@\s", text, maxsplit=1)[0]
    if "@" in text and re.match(r"[A-Za-z0-9._-]+\s*(\[[^\]]*\])?\s*@", text) and not SCHEME.match(text):
        return False
    return bool(SCHEME.match(target)) or target.startswith(".") or "/" in target or "\\" in target or target.endswith(ARCHIVES)


def check_url(url: str) -> None:
    """Refuse an address of a package that a builder cannot use."""
    scheme = url.partition(":")[0].lower()
    if scheme not in _SCHEMES:
        raise RefusedError(f"uv installs nothing from {scheme}: (write an address with {', '.join(_SCHEMES)})")
    refuse_credentials(url, "write an address that needs none")
    if re.search(r"[\s'\"\\]", url):
        raise RefusedError("is not an address (write % and the hexadecimal code for spaces and quotation marks)")


def refuse_credentials(url: str, instead: str) -> None:
    """Refuse an address with a user name or a password."""
    try:
        has_user = "@" in urlsplit(url).netloc
    except ValueError:
        raise RefusedError("is not an address (write one such as https://example.org/simple)") from None
    if has_user:
        raise RefusedError(f"contains a user name or a password, which would stay in the image's log ({instead})")
