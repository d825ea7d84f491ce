"""The permissions that docs/permissions grants for each kind of work; the clouds' own tools read the same files."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs/permissions"
WORK = {"bake": ("bake",), "launch": ("launch",), "rebuild": ("bake", "rebuild")}
"""The kinds of work, and the roles that each needs."""


def of_work(work: str) -> list[str]:
    """Return the permissions on Google Cloud that a kind of work needs, sorted."""
    import yaml

    roles = [yaml.safe_load((FOLDER / f"gcp-{role}.yaml").read_text(encoding="utf-8")) for role in WORK[work]]
    return sorted({permission for role in roles for permission in role["includedPermissions"]})
