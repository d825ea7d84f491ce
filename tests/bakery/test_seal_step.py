"""The step `seal` of a script: what it overwrites before it deletes it, and what it must not overwrite."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

from bakery.recipe.recipe import Test, load
from bakery.script.render import render
from bakery.script.resolve import Resolution

REMOVES = re.compile(r"^shopt -s nullglob dotglob$|^remove=\(\n.*?^rm --recursive [^\n]*$", re.MULTILINE | re.DOTALL)
SYSTEM_PATH = re.compile(r"(?<![\w*}\".])/(?=(?:etc|var|tmp|root|home|usr)\b)")
SECRET = b"machine x login me password secret\n"


def seal(root: Path) -> None:
    """Run the part of the step that removes files, in another root."""
    script = SYSTEM_PATH.sub(f"{root}/", "\n".join(REMOVES.findall(render(load("minimal"), Resolution({}), cloud="aws").text)))
    assert "shred" in script
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], check=True)


def place(root: Path, path: str) -> tuple[Path, Path]:
    """Write a file; return it, and a second name of it, under which its content can be read when it has been deleted."""
    file, kept = root / path, root / f"kept-{path.replace('/', '-')}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(SECRET)
    os.link(file, kept)
    return file, kept


def test_credentials_are_overwritten_before_they_are_deleted(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    placed = [place(tmp_path, path) for path in ("root/.netrc", "home/notebook/.aws/credentials", "etc/ssh/ssh_host_rsa_key")]
    seal(tmp_path)
    assert not any(file.exists() for file, _ in placed)
    assert not any(SECRET in kept.read_bytes() for _, kept in placed)


def test_the_tests_of_the_recipe_are_files_in_the_image_that_the_user_can_run(tmp_path: Path) -> None:
    recipe = load("minimal")
    asked = Test(name="first", run="printf '%s ' hello; false | true; echo not here")
    text = render(
        replace(recipe, tests=(asked, Test(name="skipped", run="exit 77"), Test(name="disk", run="true\n", user="root"))),
        Resolution({}),
    ).text
    [placing] = re.findall(r"^tests=/usr/lib/bakehouse/tests$.*?^ln [^\n]*$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "usr/lib/bakehouse").mkdir(parents=True)
    (tmp_path / "home/notebook").mkdir(parents=True)
    moved = re.sub(r"(?<=[ =])/(?=usr/lib|home)", f"{tmp_path}/", placing)
    subprocess.run(["bash", "-euo", "pipefail", "-c", moved], check=True)
    (tmp_path / ".bash_logout").write_text("false\n")  # as Debian's, where there is no terminal
    done = [
        subprocess.run(
            [tmp_path / "home/notebook/test" / name], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, check=False
        )
        for name in ("first", "skipped")
    ]
    assert [(one.returncode, one.stdout) for one in done] == [(1, b"hello "), (77, b"")]
    assert (tmp_path / "home/notebook/test/.order").read_text() == "first skipped disk\n"
    first_line = (tmp_path / "home/notebook/test/disk").read_text().splitlines()[0]
    assert first_line == (
        """#!/usr/bin/env -S sudo --non-interactive --user=root bash --login -c 'exec bash -Eeuo pipefail "$0"'"""
    )


def test_tests_of_an_earlier_image_are_removed_with_the_rest(tmp_path: Path) -> None:
    file, _ = place(tmp_path, "usr/lib/bakehouse/tests/gone")
    seal(tmp_path)
    assert not file.exists()


def test_the_script_itself_is_deleted_but_not_overwritten_since_bash_still_reads_it(tmp_path: Path) -> None:
    paths = (
        "var/lib/cloud/instance/boothooks/part-001",
        "var/lib/bakehouse/received/script",
        "tmp/metadata-scripts1/startup-script",
    )
    placed = [place(tmp_path, path) for path in paths]
    seal(tmp_path)
    assert not any(file.exists() for file, _ in placed)
    assert all(kept.read_bytes() == SECRET for _, kept in placed)
