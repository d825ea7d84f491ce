"""Read requirements files (pip.pypa.io/en/stable/reference/requirements-file-format) into plain data.

uv resolves what they name. What cannot work in a builder is refused here, with the file and the line. No value of the environment
is put in: scripts and logs of an image would show it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bakery.recipe.archive import find
from bakery.recipe.credentials import plain
from bakery.recipe.local import find_package, name_of, too_large
from bakery.recipe.pip_syntax import (
    SCHEME,
    UNSUPPORTED,
    VARIABLE,
    Line,
    Option,
    RefusedError,
    Requirements,
    check_url,
    decode,
    is_path_or_url,
    logical_lines,
    refuse_credentials,
    split_hashes,
    words_of,
)

_BYTES_MAX = 4 * 1024 * 1024


def read(folder: Path, sources: Sequence[str], recipe: str) -> tuple[Requirements, list[str]]:
    """Return what the files of a recipe say, and all problems, each as `FILE: line N: what is wrong (what to write instead)`."""
    found = _Found()
    for source in sources:
        _File(folder, recipe, posixpath.dirname(source), source, found).read()
    return Requirements(tuple(found.lines), tuple(found.constraints), tuple(dict.fromkeys(found.options))), found.problems


@dataclass(slots=True)
class _Found:
    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


_SHORT = {"-r": "requirement", "-c": "constraint", "-i": "index-url", "-f": "find-links"}
_INDEXES = ("index-url", "extra-index-url", "find-links")
_VALUED = ("requirement", "constraint", *_INDEXES, "no-binary", "only-binary")
_HERE = "write the path of a file beside the recipe"
_KNOWN = "-r, -c, -e, --hash, --index-url, --extra-index-url, --find-links, --no-index, --no-binary, --only-binary, --pre"


@dataclass(frozen=True, slots=True)
class _File:
    """One file; paths of packages in it are relative to `top`, the folder of the file that the recipe names, as for pip there."""

    folder: Path
    recipe: str
    top: str
    source: str
    found: _Found
    is_constraint: bool = False
    within: tuple[str, ...] = ()

    def read(self) -> None:
        """Add what the file says, and its problems."""
        try:
            text = decode(self._content())
        except UnicodeDecodeError:
            self.found.problems.append(f"{self.source}: is not UTF-8 text (save the file as UTF-8)")
            return
        except RefusedError as error:
            self.found.problems.append(f"{self.source}: {error}")
            return
        for number, line in logical_lines(text):
            where = f"{self.source}: line {number}"
            try:
                self._read_line(line, where)
            except RefusedError as error:
                self.found.problems.append(f"{where}: {plain(str(error))}")
            except (OSError, ValueError, RuntimeError) as error:
                reason = getattr(error, "strerror", "") or type(error).__name__
                self.found.problems.append(f"{where}: its path cannot be read: {reason} ({_HERE})")

    def _content(self) -> bytes:
        path = self._beside(self.source)
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        if len(content) > _BYTES_MAX:
            raise RefusedError("is larger than 4 MiB (write the path of a requirements file)")
        return content

    def _beside(self, source: str) -> Path:
        found = find(self.folder, source)
        if isinstance(found, str):
            raise RefusedError(found)
        if not found[0].path.is_file():
            raise RefusedError(f"is a folder ({_HERE})")
        return found[0].path

    def _read_line(self, line: str, where: str) -> None:
        if not line.replace("\t", " ").isprintable():
            raise RefusedError("contains a character that cannot be printed (remove it)")
        if used := VARIABLE.search(line):
            instead = "write the value; an index with a password belongs into uv.toml or UV_INDEX"
            raise RefusedError(f"takes {used[0]} from the environment, whose value an image must not show ({instead})")
        if editable := re.match(r"(?:-e\s*|--editable(?:\s+|=))(.*)", line):
            self._add(self._local_or_url(editable[1].strip(), where, is_editable=True))
        elif line.startswith("-"):
            self._read_options(words_of(line), where)
        else:
            self._add(self._requirement(line, where))

    def _add(self, line: Line) -> None:
        if line.hashes and line.path and (self.folder / line.path).is_dir():
            raise RefusedError("is a folder, which has no hash (remove --hash)")
        if line.hashes and "git+" in line.text:
            raise RefusedError("is a repository, which has no hash: its commit is pinned (remove --hash)")
        if line.hashes and not line.package:
            raise RefusedError("has a hash, but no name (write NAME @ and the path or address)")
        if self.is_constraint and line.path:
            raise RefusedError("a constraint cannot be a path (write a name and versions)")
        (self.found.constraints if self.is_constraint else self.found.lines).append(line)

    def _read_options(self, words: list[str], where: str) -> None:
        """Read the options of one line, such as `-r other.txt` or `--index-url=URL --pre`."""
        while words:
            word = words.pop(0)
            if word[:2] in _SHORT:
                name, value = _SHORT[word[:2]], word[2:]
            else:
                spelled, _, value = word.partition("=")
                name = spelled.removeprefix("--")
            if name in UNSUPPORTED:
                raise RefusedError(f"--{name}: {UNSUPPORTED[name]}")
            if name in _VALUED:
                value = value or (words.pop(0) if words else "")
                if not value:
                    raise RefusedError(f"--{name} has no value (write one)")
                self._read_valued(name, value, where)
            elif name in ("no-index", "pre"):
                self.found.options.append(Option(name))
            elif name != "require-hashes":  # a bake always checks them
                raise RefusedError(f"{word} is not a known option (known: {_KNOWN})")

    def _read_valued(self, name: str, value: str, where: str) -> None:
        if name in ("requirement", "constraint"):
            self._include(value, where, is_constraint=self.is_constraint or name == "constraint")
        elif name in _INDEXES:
            self._add_index(name, value)
        else:
            for one in value.split(","):
                if not re.fullmatch(r":(all|none):|[A-Za-z0-9][A-Za-z0-9._-]*", one):
                    raise RefusedError(f"--{name} {one} is not the name of a package (write one, or :all:)")
                self.found.options.append(Option(name, one))

    def _include(self, value: str, where: str, *, is_constraint: bool) -> None:
        if SCHEME.match(value):
            raise RefusedError(f"names a file elsewhere (download it, and {_HERE})")
        source = self._path(value, posixpath.dirname(self.source))
        if source in (*self.within, self.source):
            raise RefusedError(f"{source} includes itself (remove one of the lines)")
        try:
            self._beside(source)
        except RefusedError as error:
            raise RefusedError(f"{source} {error}") from None
        within = (*self.within, self.source)
        _File(self.folder, self.recipe, self.top, source, self.found, is_constraint, within).read()

    def _add_index(self, name: str, value: str) -> None:
        is_url = value.startswith(("http://", "https://"))
        if name == "find-links" and not is_url and not value.startswith("file:"):
            source = self._path(value, self.top)
            found = find(self.folder, source)
            if isinstance(found, str):
                raise RefusedError(f"{source} {found}")
            if found[0].path.is_file():
                raise RefusedError(f"{source} is a file (write the folder of the files, or the address of a page)")
            self.found.options.append(Option(name, source))
            return
        if not is_url or not value.isprintable() or re.search(r"[\s'\"\\]", value):
            raise RefusedError(f"--{name} is not an http:// or https:// address, which a builder can read (write one)")
        refuse_credentials(value, "name the index in uv.toml or UV_INDEX instead")
        others = {one.value for one in self.found.options if one.name == name == "index-url"}
        if others - {value}:
            raise RefusedError(f"is the second --index-url, after {others.pop()} (write --extra-index-url)")
        self.found.options.append(Option(name, value))

    def _requirement(self, line: str, where: str) -> Line:
        text, hashes = split_hashes(line)
        if is_path_or_url(text):
            return self._local_or_url(text, where, hashes=hashes)
        try:
            parsed = Requirement(text)
        except InvalidRequirement:
            raise RefusedError("is not a Python package requirement (write one such as pandas>=2)") from None
        name = str(canonicalize_name(parsed.name))
        if not parsed.url:
            return Line(where, name, text=str(parsed), hashes=hashes)
        if SCHEME.match(parsed.url) and not parsed.url.startswith("file:"):
            check_url(parsed.url)
            return Line(where, name, text=str(parsed), hashes=hashes)
        extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
        marker = f" ; {parsed.marker}" if parsed.marker else ""
        path = self._package(parsed.url, is_editable=False)
        return Line(where, name, before=f"{parsed.name}{extras} @ ", path=path, after=marker, hashes=hashes)

    def _local_or_url(self, text: str, where: str, *, is_editable: bool = False, hashes: tuple[str, ...] = ()) -> Line:
        """Return a requirement without a name: a path or an address, with extras and marker if it has them."""
        target, marker = [*re.split(r"\s+;\s*|\s*;\s+", text, maxsplit=1), ""][:2]
        if is_editable and re.match(r"\S+\s+-", target):
            raise RefusedError("has an option after the folder (remove it)")
        if SCHEME.match(target) and not target.startswith("file:"):
            if is_editable:
                instead = "remove -e: the package is installed at its commit; or clone it beside the recipe"
                raise RefusedError(f"only a folder beside the recipe can be editable ({instead})")
            check_url(target)
            return Line(where, name_of(Path(unquote(target.partition("#")[0]))), text=text, hashes=hashes)
        extras = re.search(r"\[[A-Za-z0-9._, -]*\]$", target)
        path = self._package(target.removesuffix(extras[0]) if extras else target, is_editable=is_editable)
        after = (extras[0] if extras else "") + (f" ; {marker}" if marker else "")
        return Line(where, name_of(self.folder / path), before="-e " if is_editable else "", path=path, after=after, hashes=hashes)

    def _package(self, target: str, *, is_editable: bool) -> str:
        """Return the path of a package in the recipe's folder."""
        source = self._path(target, self.top)
        if "#" in source:
            raise RefusedError("has a fragment after its path (remove #...)")
        found = find_package(self.folder, source, self.recipe)
        if isinstance(found, str):
            raise RefusedError(f"{source} {found}")
        if is_editable and found[0].path.is_file():
            raise RefusedError(f"{source} is a file; only a folder can be editable (remove -e)")
        if large := too_large(found):
            raise RefusedError(f"{source}: {large}")
        return source

    def _path(self, target: str, base: str) -> str:
        """Return a path relative to the recipe's folder; it is relative to `base` in there, or absolute."""
        path = unquote(re.sub("^file:(//(localhost)?(?=/))?", "", target)) if target.startswith("file:") else target
        if "\\" in path:
            raise RefusedError("has a path with backslashes (write / instead)")
        if path.startswith("/"):
            try:
                path = Path(path).resolve().relative_to(self.folder.resolve()).as_posix()
            except ValueError:
                instead = "copy it there, and write a relative path"
                raise RefusedError(f"{path} is outside the recipe's folder, where no builder can read it ({instead})") from None
        else:
            path = posixpath.normpath(posixpath.join(base, path))
        if path.startswith(".."):
            raise RefusedError(f"{target} is outside the recipe's folder (copy it there)")
        return path
