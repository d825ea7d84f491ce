"""Recipes: read a TOML file (in images/) into frozen records. RecipeError reports all problems at once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from bakery.errors import RecipeError
from bakery.recipe import conda_steps, fields, problems, rules, variables
from launcher import defaults, gpu
from launcher.access import rsub

IMAGES = Path(__file__).parents[2] / "images"
KINDS = ("apt", "python", "conda", "copy", "fetch", "run", "script", "notebook")
"""The kinds of steps; each step has exactly one of these keys."""
USER = "notebook"
"""The user of every image."""

_BYTES_MAX = 1024 * 1024
_CONFIG = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Base:
    """The operating system that a recipe starts from."""

    suite: Literal["trixie", "noble"] = "trixie"
    architecture: Literal["amd64"] = "amd64"


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Builder:
    """The builder. The two time limits are for native speed; a slower cloud multiplies them."""

    cpus: fields.Cpus = 2
    memory_mb: fields.MemoryMb = 4096
    disk_gb: fields.DiskGb = 10
    deadline_min: fields.Minutes = 30
    silence_min: fields.Minutes = 10


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Machine:
    """The default hardware of machines launched from the image."""

    cpus: fields.Cpus = 2
    memory_mb: fields.MemoryMb = 4096
    disk_gb: fields.DiskGbOfMachine = 10


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Launch:
    """Defaults of the flags of `launch`; None or false: none. Its keys are `launcher.defaults.KEYS`."""

    https: Annotated[bool, Strict()] = False
    port: fields.Port | None = None
    spot: Annotated[bool, Strict()] = False
    disk_gb: fields.DiskGbOfMachine | None = None
    lifetime_h: fields.Hours | None = None

    def to_labels(self) -> dict[str, str]:
        """Return the labels of an image that hold these defaults, so that they apply on any computer."""
        written = {key: getattr(self, key) for key in defaults.KEYS}
        return defaults.to_labels({key: value for key, value in written.items() if value is not None and value is not False})


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class AptKey:
    """The OpenPGP key of a repository: to download from `url` with its SHA-256, or a file in the recipe's folder."""

    url: fields.Url | None = None
    sha256: fields.Sha256 | None = None
    file: fields.Source | None = None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class AptSource:
    """A repository of Debian packages; without `key`, it is signed with the keys of the distribution."""

    name: fields.Name
    uri: fields.AptUri
    suite: fields.AptSuite
    components: Annotated[tuple[fields.AptComponent, ...], Field(min_length=1)] | None = None
    key: AptKey | None = None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Python:
    """Python packages in the environment of an image, /opt/notebook; `imports` are compiled during the bake.

    `packages` and files of `requirements`, or the folder of a `project` with its uv.lock, and the groups and extras to install.
    """

    packages: Annotated[tuple[fields.PythonPackage, ...], Field(min_length=1)] = ()
    requirements: fields.Sources = ()
    project: fields.Source | None = None
    groups: tuple[fields.GroupName, ...] = ()
    extras: tuple[fields.GroupName, ...] = ()
    imports: tuple[fields.Module, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Conda:
    """Conda packages in the environment /opt/conda: `packages`, or those of the file `environment`.

    Without `channels`: those of the file, else of the user's .condarc, else conda-forge. With `default`, its kernel is
    the notebook's default.
    """

    packages: Annotated[tuple[fields.CondaPackage, ...], Field(min_length=1)] = ()
    environment: fields.Source | None = None
    channels: Annotated[tuple[fields.Channel, ...], Field(min_length=1)] = ()
    default: Annotated[bool, Strict()] = False


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Copy:
    """A file or folder in the recipe's folder that is copied into the image; for the defaults see docs/recipes.md."""

    from_: fields.Source = Field(alias="from")
    to: fields.GuestPath
    mode: fields.Mode | None = None
    owner: fields.Owner | None = None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Fetch:
    """A file to download, with its SHA-256."""

    url: fields.Url
    sha256: fields.Sha256
    to: fields.GuestPath
    mode: fields.Mode = "0644"


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Notebook:
    """JupyterLab as a service, protected by the machine's password; `settings` is a file laid over its configuration.

    `rsub`: machines have rmate, which opens their files in an editor on the user's computer.
    """

    root_dir: fields.GuestPath = f"/home/{USER}"
    default_url: fields.UrlPath = "/lab"
    settings: fields.JupyterSettings | None = None
    rsub: Annotated[bool, Strict()] = False


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Step:
    """One unit of provisioning: a name, and exactly one of the kinds; `apt_sources` may stand beside `apt` or alone.

    `in_base`: a cloud that builds its bases installs the packages of this `apt` step there.
    """

    name: fields.Name
    in_base: Annotated[bool, Strict()] = False
    apt_sources: Annotated[tuple[AptSource, ...], Field(min_length=1)] | None = None
    apt: Annotated[tuple[fields.DebianPackage, ...], Field(min_length=1)] | None = None
    python: Python | None = None
    conda: Annotated[Conda | None, BeforeValidator(conda_steps.table)] = None
    copy: Annotated[tuple[Copy, ...], Field(min_length=1)] | None = None
    fetch: Annotated[tuple[Fetch, ...], Field(min_length=1)] | None = None
    run: fields.Script | None = None
    script: fields.Source | None = None
    notebook: Notebook | None = None

    @property
    def kind(self) -> str:
        """The kind of this step, one of KINDS."""
        return next((kind for kind in KINDS if getattr(self, kind) is not None), "apt")

    @property
    def is_unlocked(self) -> bool:
        """Whether it installs packages without a lock file, whose versions depend on the time of the bake."""
        return self.kind in ("apt", "notebook")


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Test:
    """A script that must succeed on a machine freshly launched from the image."""

    __test__ = False  # not a pytest class

    name: fields.Name
    run: fields.Script
    user: fields.User = USER


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Allow:
    """What the check of a sealed disk may find: a file or folder, or a finding by its fingerprint; and why it is no secret."""

    reason: fields.Reason
    path: fields.GuestPath | None = None
    fingerprint: fields.Fingerprint | None = None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Seal:
    """What the check of a sealed disk allows. It changes no file of an image, so it is not in the digest."""

    allow: tuple[Allow, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Rebuild:
    """When `rebuild` bakes anew: an image older than `max_age_days`. It keeps the `keep` newest stable images."""

    max_age_days: fields.Days = 30
    keep: fields.Images = 3


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Recipe:
    """A recipe; `folder` contains the files that it copies. `gpu`: its machines should have one."""

    name: fields.Name
    folder: Path
    description: fields.Line = ""
    gpu: Annotated[bool, Strict()] = False
    base: Base = field(default_factory=Base)
    builder: Builder = field(default_factory=Builder)
    machine: Machine = field(default_factory=Machine)
    launch: Launch = field(default_factory=Launch)
    rebuild: Rebuild | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    tests: tuple[Test, ...] = ()
    seal: Seal = field(default_factory=Seal)

    @property
    def packages_in_base(self) -> tuple[str, ...]:
        """The packages of the steps that are `in_base`, sorted."""
        return tuple(sorted({package for step in self.steps if step.in_base for package in step.apt or ()}))

    @property
    def checks(self) -> tuple[Test, ...]:
        """The tests of an image: with `gpu`, first whether its driver, kernel and CUDA fit together."""
        return (*((Test(name=rules.GPU_TEST, run="check-gpu"),) if self.gpu else ()), *self.tests)

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its images that a launch reads."""
        return {
            "recipe": self.name,
            "notebook": "1" if self.has_notebook else "0",
            **(gpu.LABEL if self.gpu else {}),
            **(rsub.LABEL if self.has_rsub else {}),
            "cpus": str(self.machine.cpus),
            "memory-mb": str(self.machine.memory_mb),
            "disk-gb": str(self.machine.disk_gb),
            **self.launch.to_labels(),
        }

    @property
    def has_notebook(self) -> bool:
        """Whether machines of this recipe have a notebook."""
        return any(step.notebook for step in self.steps)

    @property
    def has_rsub(self) -> bool:
        """Whether machines of this recipe have rmate."""
        return any(step.notebook and step.notebook.rsub for step in self.steps)


def load(name_or_path: str | Path, folder: Path = IMAGES) -> Recipe:
    """Read a recipe by its name in `folder` or by its file's path. Raises RecipeError with all problems."""
    path = _find(str(name_or_path), folder)
    shown = _shown(path)
    raw, variable_problems = variables.expand(_parse(path, shown))
    _follow_disk(raw)
    found = variable_problems + rules.broken(raw, path, KINDS)
    try:
        recipe = TypeAdapter(Recipe).validate_python({**raw, "folder": path.parent})
    except ValidationError as error:
        found += problems.invalid(error.errors(include_url=False), Recipe)
    if found:
        raise RecipeError([f"{shown}: {problem}" for problem in problems.in_order(found)])
    return recipe


def available(folder: Path = IMAGES) -> list[str]:
    """Return the names of the recipes in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def _find(name_or_path: str, folder: Path) -> Path:
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    names = available(folder)
    if name_or_path in names:
        return folder / f"{name_or_path}.toml"
    nearest = get_close_matches(name_or_path, names, n=1)
    instead = f'write "{nearest[0]}"; ' if nearest else ""
    listed = ", ".join(names) or "none"
    raise RecipeError(
        [f"recipe {name_or_path!r} not found ({instead}known recipes: {listed})"],
        next_step=f"Choose one of them, or write {_shown(folder)}/NAME.toml.",
    )


def _parse(path: Path, shown: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or "is not a path"
        problem = f"{shown}: {reason} (give the name or the path of a recipe)"
        raise RecipeError([problem], next_step="For names see: ./inv recipes") from None
    if len(content) > _BYTES_MAX:
        raise RecipeError([f"{shown}: is larger than 1 MiB (put data into separate files, for `copy` or `fetch`)"])
    try:
        return tomllib.loads(content.decode())
    except RecursionError:
        raise RecipeError([f"{shown}: is nested too deeply (write lists and tables side by side)"]) from None
    except ValueError as error:
        raise RecipeError([f"{shown}: {problems.syntax(error, content)}"]) from None


def _follow_disk(raw: dict[str, Any]) -> None:
    """Set the default disk size of machines to the builder's, if the recipe sets only that."""
    builder, machine = raw.get("builder", {}), raw.setdefault("machine", {})
    if isinstance(builder, dict) and isinstance(machine, dict) and rules.is_disk(builder.get("disk_gb")):
        machine.setdefault("disk_gb", builder["disk_gb"])


def _shown(path: Path) -> str:
    """Return a path for a message: relative to the current folder if possible, and on one line."""
    here = Path.cwd()
    text = str(path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path)
    return text if text.isprintable() else problems.show(text)
