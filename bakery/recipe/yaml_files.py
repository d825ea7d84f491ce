"""Read YAML files that users have for conda: environment.yml and .condarc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bakery.recipe.problems import show


class BadYamlError(Exception):
    """A file is not YAML: `what (what to do)`."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the keys of a YAML file; {} if it is empty. Raises BadYamlError, with the line, and OSError."""
    import yaml  # only if a recipe has a conda step

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        reason = ", ".join(one for one in (error.context, error.problem) if one)
        raise BadYamlError(f"{f'line {where.line + 1}: ' if where else ''}is not valid YAML: {reason} (correct the file)") from None
    except RecursionError:
        raise BadYamlError("is nested too deeply (correct the file)") from None
    except (UnicodeDecodeError, yaml.reader.ReaderError):
        raise BadYamlError("is not UTF-8 text, or contains characters that YAML does not allow (save it as UTF-8)") from None
    except ValueError as error:
        raise BadYamlError(f"is not valid YAML: {error} (correct the file)") from None
    if found is not None and not isinstance(found, dict):
        raise BadYamlError(f"is {show(found)}, not keys with values (write lines such as `channels: [conda-forge]`)")
    return found or {}
