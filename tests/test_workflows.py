"""What CI runs on GitHub: that an ordinary user's own home is used, and what is said of KVM."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import bakery.cli
import launcher.command.verbs
import tasks
from bakery.recipe.recipe import Rebuild

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EACH = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


@EACH
def test_home_of_the_runners_user_is_used(workflow: Path) -> None:
    """That of GitHub's user is closed to others (0750), as are those of most people."""
    text = workflow.read_text(encoding="utf-8")
    assert "BAKEHOUSE_HOME" not in text
    assert "~/.local/share/bakehouse/bakes/" in text


@EACH
def test_kvm_is_opened_by_a_rule_before_anything_is_installed_and_checked_at_the_end(workflow: Path) -> None:
    text = workflow.read_text(encoding="utf-8")
    job = text[text.index("/etc/udev/rules.d/") :]
    assert job.index("udevadm settle") < min(job.index(word) for word in ("./inv", ".ci/run") if word in job)
    assert "run: .ci/check-kvm" in job
    assert "chmod" not in text


def test_rebuild_keeps_the_lists_of_packages_whatever_fails() -> None:
    """actions/cache stores nothing if a step fails, and never the same key twice."""
    steps = yaml.safe_load((ROOT / ".github/workflows/rebuild.yml").read_text(encoding="utf-8"))["jobs"]["rebuild"]["steps"]
    restore, bake, save = (
        next(index for index, step in enumerate(steps) if step.get("uses", step.get("run", "")).startswith(start))
        for start in ("actions/cache/restore@", "exec ./inv rebuild", "actions/cache/save@")
    )
    assert restore < bake < save
    assert steps[save]["if"] == "always()"
    assert steps[save]["with"] == {key: value for key, value in steps[restore]["with"].items() if key != "restore-keys"}
    assert steps[save]["with"]["path"] == "~/.local/share/bakehouse/packages/"
    assert "github.run_id" in steps[save]["with"]["key"]


# The page


def blocks(language: str) -> list[str]:
    """Return the code blocks of docs/ci.md in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs/ci.md").read_text(encoding="utf-8"), re.M | re.S)


def test_the_example_for_gitlab_can_be_read_and_runs_tasks_that_there_are() -> None:
    [example] = map(yaml.safe_load, blocks("yaml"))
    job = example["rebuild"]
    words = [line.split() for line in [*job["script"], *job["after_script"]] if line.startswith("./inv ")]
    assert [line[1] for line in words] == ["rebuild", "images", "gc"]
    flags = {flag.name for verb in bakery.cli.VERBS + launcher.command.verbs.VERBS for flag in verb.flags}
    assert {word.removeprefix("--") for line in words for word in line if word.startswith("--")} <= flags
    assert job["resource_group"]
    assert job["before_script"] == job["after_script"][:1]
    assert job["after_script"][1:] == ["./inv gc --bakes --yes"]
    assert [f"$CI_PROJECT_DIR/{path}" for path in job["cache"]["paths"]] == [f"{job['variables']['BAKEHOUSE_HOME']}/packages"]


def test_the_trust_policy_names_one_branch_of_one_repository() -> None:
    [policy] = map(json.loads, blocks("json"))
    [statement] = policy["Statement"]
    conditions = statement["Condition"]["StringEquals"]
    assert conditions["token.actions.githubusercontent.com:sub"].endswith(":ref:refs/heads/main")
    assert "*" not in json.dumps(policy)


def test_the_files_that_the_commands_name_are_there() -> None:
    text = "".join(blocks("sh")).replace("aws-$name", "aws-bake") + "docs/permissions/aws-rebuild.json"
    named = set(re.findall(r"docs/permissions/[\w.-]+", text))
    assert len(named) >= 5
    assert [path for path in named if not (ROOT / path).exists()] == []


@EACH
def test_a_script_of_a_workflow_runs_tasks_that_there_are(workflow: Path) -> None:
    verbs = {verb.name for verb in (*bakery.cli.VERBS, *launcher.command.verbs.VERBS, *tasks.VERBS)}
    assert set(re.findall(r"\./inv ([a-z-]+)", workflow.read_text(encoding="utf-8"))) <= verbs


# The workflow


def steps() -> list[dict[str, Any]]:
    """Return the steps of the job that rebuilds."""
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / ".github/workflows/rebuild.yml").read_text(encoding="utf-8"))["jobs"][
        "rebuild"
    ]["steps"]
    return found


def test_a_cancelled_run_reaches_the_bakes_and_what_is_left_is_removed_though_it_could_be_resumed() -> None:
    """GitHub signals the step's first process alone, and bash does not pass signals on."""
    runs = [step["run"] for step in steps() if "run" in step]
    assert any(run.startswith("exec ./inv rebuild") for run in runs)
    (cleaning,) = (step for step in steps() if "./inv gc" in step.get("run", ""))
    assert cleaning["if"] == "always()"
    assert "./inv gc --bakes --cloud all --yes" in cleaning["run"]


def test_an_image_is_too_old_only_after_a_run_should_have_baked_it() -> None:
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in (".github/workflows/rebuild.yml", "docs/ci.md")]
    (days,) = {
        int(found)
        for text in texts
        for found in re.findall(r"MAX_AGE_DAYS \|\| '(\d+)'|--max-age-days (\d+)", text)
        for found in found
        if found
    }
    assert days > Rebuild().max_age_days + 7


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ("echo table; echo 'a warning' >&2", ""),
        ("echo table; printf 'error: x is old\\nnext: Bake.\\n' >&2; exit 1", "error: x is old\nnext: Bake."),
        ("echo 'gcp: no route to host' >&2; exit 1", "gcp: no route to host"),
    ],
)
def test_whatever_images_fails_with_is_what_the_issue_says(tmp_path: Path, images: str, told: str) -> None:
    (script,) = (step["run"] for step in steps() if step.get("id") == "age")
    (tmp_path / "inv").write_text(f"#!/bin/sh\n{images}\n")
    (tmp_path / "inv").chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "MAX_AGE_DAYS": "45", "GITHUB_OUTPUT": str(tmp_path / "output")}
    subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, timeout=30, check=True)
    assert (tmp_path / "output").read_text() == f"old<<END\n{told}\nEND\n"


def test_the_badges_of_the_readme_are_of_workflows_that_there_are() -> None:
    badges = re.findall(r"actions/workflows/([\w.-]+)/badge\.svg", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(badges) == {path.name for path in WORKFLOWS}


# The check of KVM


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/check-kvm", tmp_path / ".ci")
    return tmp_path


def check(project: Path, plan: str, device: str) -> subprocess.CompletedProcess[str]:
    """Run the check beside an `inv` that prints a plan."""
    (project / "inv").write_text(f"#!/bin/sh\n[ \"$*\" = 'plan --recipe minimal' ] || exit 9\ncat <<'END'\n{plan}\nEND\n")
    (project / "inv").chmod(0o755)
    return subprocess.run([project / ".ci/check-kvm", device], capture_output=True, text=True, timeout=30, check=False)


def test_runner_without_kvm_passes_and_says_so(project: Path) -> None:
    done = check(project, "accelerator: tcg", str(project / "nosuch"))
    assert done.returncode == 0
    assert done.stdout.startswith("::notice title=No KVM::")


def test_runner_with_kvm_passes_where_machines_run_on_it(project: Path) -> None:
    done = check(project, "bake: would run\naccelerator: kvm", "/dev/null")
    assert (done.returncode, done.stdout) == (0, "bake: would run\naccelerator: kvm\n")


def test_runner_with_kvm_fails_where_machines_are_emulated_and_shows_why(project: Path) -> None:
    done = check(project, "accelerator: tcg\n  KVM is not used: no permission to open /dev/kvm", "/dev/null")
    assert done.returncode == 1
    assert "KVM is not used: no permission to open /dev/kvm" in done.stdout
    assert "::error title=KVM is not used::" in done.stdout


def test_plan_that_fails_is_a_failure(project: Path) -> None:
    assert check(project, "", "/dev/null").returncode == 1
