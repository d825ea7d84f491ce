"""The house stands: imports go downwards only, the launcher stays light, and no code asks which cloud it is in."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("clouds", "launcher", "bakery", "tasks")
"""From the lowest up: each may import itself and those before it."""

CLOUD_NAMES = {"local", "gcp", "aws"}
TOO_HEAVY_FOR_THE_LAUNCHER = {"bakery", "jinja2", "invoke", "pydantic", "rich", "boto3", "botocore", "google"}


def modules() -> list[Path]:
    return sorted([ROOT / "tasks.py", *(path for layer in LAYERS[:-1] for path in (ROOT / layer).rglob("*.py"))])


@functools.cache
def nodes(source: str) -> list[ast.AST]:
    """Return all that a module consists of; three tests ask for that of each."""
    return list(ast.walk(ast.parse(source)))


def imported(source: str) -> Iterator[str]:
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_upwards(layer: str, source: str) -> list[str]:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    return [name for name in imported(source) if name.split(".")[0] in (*above, "tests")]


def asks_for_a_cloud(source: str) -> list[int]:
    """Return the lines that compare something with the name of a cloud."""
    found = []
    for node in nodes(source):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        compared += [node.value] if isinstance(node, ast.MatchValue) else []
        inside = [part for whole in compared for part in ast.walk(whole) if not isinstance(whole, ast.Call)]
        if any(isinstance(part, ast.Constant) and part.value in CLOUD_NAMES for part in inside):
            found.append(node.lineno)
    return found


def is_driver(path: Path) -> bool:
    return path.is_relative_to(ROOT / "clouds") and path.parent != ROOT / "clouds"


def test_imports_go_downwards_only() -> None:
    upwards = {
        path: imports_upwards(path.relative_to(ROOT).parts[0].removesuffix(".py"), path.read_text(encoding="utf-8"))
        for path in modules()
    }
    assert {path: names for path, names in upwards.items() if names} == {}


def test_only_a_driver_imports_its_own_modules() -> None:
    drivers = {f"clouds.{folder.name}" for folder in (ROOT / "clouds").iterdir() if folder.is_dir()}
    foreign = {}
    for path in modules():
        own = ".".join(path.relative_to(ROOT).parts[:2]) if is_driver(path) else ""
        used = {".".join(name.split(".")[:2]) for name in imported(path.read_text(encoding="utf-8"))}
        foreign[path] = used & drivers - {own}
    assert {path: names for path, names in foreign.items() if names} == {}


def test_no_code_compares_the_name_of_a_cloud() -> None:
    others = [path for path in modules() if path != ROOT / "clouds/__init__.py"]
    compared = {path: asks_for_a_cloud(path.read_text(encoding="utf-8")) for path in others}
    assert {path: lines for path, lines in compared.items() if lines} == {}


def test_launcher_loads_nothing_heavy() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "launcher").rglob("*.py")]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    script = f"import sys, importlib; [importlib.import_module(name) for name in {names}]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[0] for name in loaded} & TOO_HEAVY_FOR_THE_LAUNCHER == set()


@pytest.mark.parametrize("source", ["import bakery", "from bakery.bake import bake", "def f():\n    import tasks", "import tests"])
def test_an_import_upwards_would_be_seen(source: str) -> None:
    assert imports_upwards("launcher", source)


@pytest.mark.parametrize(
    "source",
    [
        "if cloud.name == 'local': pass",
        "if 'aws' != name: pass",
        "if cloud.name in ('gcp', 'aws'): pass",
        "match name:\n    case 'gcp': pass",
    ],
)
def test_a_comparison_with_a_cloud_would_be_seen(source: str) -> None:
    assert asks_for_a_cloud(source)
