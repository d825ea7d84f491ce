"""Render a recipe into the bash script that a builder runs, and its tests into the one that a test machine runs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bakery.errors import RecipeError
from bakery.recipe import variables
from bakery.recipe.archive import Archive, Placed, archive, find
from bakery.recipe.recipe import USER, AptKey, AptSource, Recipe, Step
from bakery.recipe.repositories import KEYRINGS
from bakery.script.local import TEMPORARY, Local
from bakery.script.pins import RMATE, Pin, own_pin
from bakery.script.resolve import Resolution
from bakery.script.wanted import found_package
from clouds.accounts import cloud_of
from clouds.driver import BaseImage, Limits
from clouds.errors import InvalidError
from launcher import defaults

DIGEST_LENGTH = 32
"""Number of hexadecimal digits of a digest, so that it fits into a label."""

_TEMPLATES = Path(__file__).parents[2] / "templates"
_EXPLANATION = re.compile(r'^ *(?:"""(?:[^"]|"(?!""))*"""|#(?!!| shellcheck).*)\n', re.MULTILINE)


_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a script; `as_of` is the time of the last refresh for a step whose packages have no lock file.

    `in_base`: a base may contain its packages (`clouds.capabilities.InstallsInBases`).

    The text of a step that copies files names their archive by digest only: how it is sent to the builder changes no image.
    """

    name: str
    text: str
    user: str = "root"
    as_of: str = ""
    in_base: bool = False
    archive: Archive | None = None

    @property
    def end(self) -> str:
        """The delimiter of the part's here-document, which its text cannot contain."""
        return "END_" + hashlib.sha256(self.text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Script:
    """A script with its parts in order, each of them a checkpoint; `for_boot` fills in the values of one boot."""

    text: str
    parts: tuple[Part, ...]

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The names of the checkpoints that the script's markers report."""
        return ("boot", *(part.name for part in self.parts))

    @cached_property
    def sha256(self) -> str:
        """Digest of the text without the values of a boot."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def archives(self, first: int, last: int | None = None) -> tuple[Archive, ...]:
        """Return the archives of the steps from checkpoint `first` (0: boot) up to, but not including, `last` (None: the end)."""
        parts = (None, *self.parts)[first:last]
        return tuple({part.archive.sha256: part.archive for part in parts if part and part.archive}.values())

    def for_boot(
        self, nonce: str, *, deadline_s: int, keep: bool = False, done: int = 0, carried: Mapping[str, str] = _NONE
    ) -> str:
        """Return the script for one boot: its markers contain `nonce`; 0 s means no deadline.

        With `keep` the machine stays on after a failure, until the deadline. The first `done` checkpoints (including `boot`)
        are already part of its disk, so their steps are skipped. `carried` are the archives embedded in it, by digest, as
        gzip in base64.
        """
        half = len(nonce) // 2
        # Only in the head: the steps of a recipe must not get a half of the nonce.
        head, below, rest = self.text.partition("\ntotal=")
        values = {"NONCE_A": nonce[:half], "NONCE_B": nonce[half:], "KEEP": int(keep), "DONE": done, "DEADLINE_S": deadline_s}
        for name, value in values.items():
            head = head.replace(f"@{name}@", str(value))
        files = "".join(map(_carried, carried.items()))
        return head + below + rest.replace("# @FILES@\n", files, 1)  # the first is the frame's own


def _carried(item: tuple[str, str]) -> str:
    """Return the lines of a script that lay out an archive for the step that unpacks it."""
    digest, text = item
    place = f'"$run/files/{digest}.tar.gz"'
    return f"install --directory --mode=0700 \"$run/files\"\nbase64 --decode >{place} <<'ARCHIVE'\n{text}ARCHIVE\n"


def render(recipe: Recipe, resolution: Resolution, *, cloud: str = "") -> Script:
    """Return the script that bakes a recipe: prepare, its steps, seal. `cloud` may also be an account, such as gcp.research."""
    prepare = Part("prepare", _text("prepare", cloud=cloud_of(cloud)))
    steps = [_part(recipe, step, resolution) for step in recipe.steps]
    seal = Part("seal", _text("seal", tests=_tests(recipe), has_gpu=recipe.gpu))
    return frame(_title(recipe, resolution), [prepare, *steps, seal], is_bake=True)


def _part(recipe: Recipe, step: Step, resolution: Resolution) -> Part:
    if step.copy is not None:
        files = archive(_placed(recipe, step))
        return Part(step.name, _text("copy", archive=files), archive=files)
    if step.python is not None:
        return _python(recipe, step, resolution)
    if step.conda is not None:
        values = {"lock": resolution.conda, "uv": own_pin("uv"), "rattler": own_pin("py-rattler")}
        return Part(step.name, _ended(_text("conda", conda=step.conda, **values)))
    text = _ended(_render_step(recipe, step, resolution))
    return Part(step.name, text, as_of=resolution.refreshed if step.is_unlocked else "", in_base=step.in_base)


def _python(recipe: Recipe, step: Step, resolution: Resolution) -> Part:
    """Return a python step; its packages beside the recipe are in an archive, as the files of a copy step are."""
    assert step.python
    pins = [Pin(pin, resolution.hashes.get(pin, ())) for pin in resolution.pins[step.name]]
    local = resolution.local.get(step.name, ())
    files = archive(_local_files(recipe, local)) if local else None
    text = _text(
        "python",
        pins=pins,
        imports=step.python.imports,
        uv=own_pin("uv"),
        has_git=any(" @ git+" in pin.requirement for pin in pins),
        archive=files,
        folders=[one for one in local if one.is_folder],
        temporary=TEMPORARY,
        indexes=() if step.python.project else resolution.indexes,
    )
    return Part(step.name, _ended(text), archive=files)


def _local_files(recipe: Recipe, local: Iterable[Local]) -> Iterator[Placed]:
    for one in local:
        yield Placed(found=found_package(recipe, one.source), to=one.to, mode=None, owner=USER)


def _title(recipe: Recipe, resolution: Resolution) -> str:
    """Return the title of the script, with the properties of an image that no step contains but that change its digest."""
    machine = recipe.machine
    shape = f"{machine.cpus} processors, {machine.memory_mb} MB, {machine.disk_gb} GB"
    refreshed = f"; packages without a lock as of {resolution.refreshed}" if resolution.refreshed else ""
    launched = f"; launched with {flags}" if (flags := defaults.flags(recipe.launch.to_labels())) else ""
    return f"Recipe {recipe.name}: disk of {recipe.builder.disk_gb} GB; machines of {shape}{launched}{refreshed}"


def render_tests(recipe: Recipe) -> Script | None:
    """Return the script that runs a recipe's tests, or None if it has none."""
    tests = _tests(recipe)
    return frame(f"Tests of recipe {recipe.name}", tests, is_bake=False) if tests else None


def _tests(recipe: Recipe) -> list[Part]:
    return [Part(test.name, _ended(test.run), test.user) for test in recipe.checks]


def digest(script: Script, tests: Script | None, base: BaseImage) -> str:
    """Return the digest of an image: of the script (including files and versions), its tests, and its base."""
    parts = (script.sha256, tests.sha256 if tests else "", base.owner, base.id)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST_LENGTH]


def measure_bytes(text: str, limits: Limits) -> int:
    """Return the size of a script as a cloud's limit counts it."""
    content = text.encode()
    return len(gzip.compress(content, mtime=0)) if limits.compresses_script else len(content)


def check_size(cloud: str, what: str, text: str, limits: Limits) -> None:
    """Raise InvalidError when a script is larger than a cloud takes."""
    size_bytes = measure_bytes(text, limits)
    if limits.script_bytes and size_bytes > limits.script_bytes:
        compressed = " compressed" if limits.compresses_script else ""
        raise InvalidError(
            f"{what}: {size_bytes} bytes{compressed}; {cloud} takes scripts of up to {limits.script_bytes} bytes",
            next_step="Put long test scripts into files of the image (a `copy` step), and let the tests run those.",
        )


def frame(title: str, parts: Sequence[Part], *, is_bake: bool) -> Script:
    """Return a script that runs the parts in order; for a bake it also configures the builder (journal, timers, deadline)."""
    checkpoints = ["boot", *(part.name for part in parts)]
    template = _environment().get_template("script.sh.j2")
    return Script(template.render(title=title, steps=parts, checkpoints=checkpoints, is_bake=is_bake), tuple(parts))


def receiver(total: int, nonce: str, public_key: str, sizes: Mapping[str, int], *, deadline_s: int) -> str:
    """Return the script of a builder that receives its script of `total` checkpoints, and files of these sizes in bytes, over SSH.

    It gives up after `deadline_s`.
    """
    half = len(nonce) // 2
    return (
        _environment()
        .get_template("receive.sh.j2")
        .render(
            nonce_a=nonce[:half],
            nonce_b=nonce[half:],
            deadline_s=deadline_s,
            total=total,
            names=sorted(sizes),
            needed_mb=2 * sum(sizes.values()) // 1_000_000 + 50,  # archives, and what is unpacked from them
            public_key=public_key,
        )
    )


def _render_step(recipe: Recipe, step: Step, resolution: Resolution) -> str:
    """Return the script of one step."""
    if step.run is not None:
        return step.run
    if step.script is not None:
        return variables.put_in(_read(recipe, step.script), recipe.variables)
    if step.notebook is not None:
        own = step.notebook.settings
        text = base64.encodebytes(_read(recipe, own).encode()).decode() if own else ""
        return _text("notebook", settings=step.notebook, own=text, rmate=RMATE)
    if step.kind == "apt":
        return _text("apt", packages=step.apt or (), sources=[_source(recipe, source) for source in step.apt_sources or ()])
    return _text(step.kind, files=step.fetch)


def _source(recipe: Recipe, source: AptSource) -> dict[str, str]:
    """Return the values of a template for one source; its key is in base64, or has a URL and a digest."""
    key = source.key or AptKey()
    return {
        "name": source.name,
        "uri": source.uri,
        "suite": source.suite,
        "components": " ".join(source.components or ()),
        "url": key.url or "",
        "sha256": key.sha256 or "",
        "key": base64.encodebytes(_read_key(recipe, key.file)).decode() if key.file else "",
        "keyring": f"/etc/apt/keyrings/{source.name}.key" if source.key else KEYRINGS[recipe.base.suite],
    }


def _read_key(recipe: Recipe, source: str) -> bytes:
    try:
        return (recipe.folder / source).read_bytes()
    except OSError as error:
        raise _unreadable(recipe, source, error) from error


def _placed(recipe: Recipe, step: Step) -> Iterator[Placed]:
    for copy in step.copy or ():
        found = find(recipe.folder, copy.from_)
        if isinstance(found, str):
            raise RecipeError([f"recipe {recipe.name!r}: step {step.name!r}: {copy.from_} {found}"])
        yield Placed(found=found, to=copy.to, mode=copy.mode, owner=copy.owner)


def _read(recipe: Recipe, source: str) -> str:
    try:
        return (recipe.folder / source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(recipe, source, error) from error


def _unreadable(recipe: Recipe, source: str, error: Exception) -> RecipeError:
    return RecipeError([f"recipe {recipe.name!r}: {source} can no longer be read: {error} (restore it)"])


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _bare(program: str) -> str:
    """Remove docstrings and lines of comments from a program: EC2 takes 16 KiB of a script (clouds/aws/user_data.py)."""
    return _EXPLANATION.sub("", program)


def _text(step: str, **values: object) -> str:
    return _environment().get_template(f"steps/{step}.sh.j2").render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        comment_start_string="{##",  # since `{#` is shell syntax (length of an array)
        comment_end_string="##}",
        autoescape=False,  # noqa: S701 - shell, not HTML: every value goes through `quote`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quote"] = shlex.quote
    environment.filters["bare"] = _bare
    return environment
