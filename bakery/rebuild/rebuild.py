"""The verb `rebuild`: decide, bake at the same time, delete what is replaced, clean up, summarize."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import clouds
from bakery.rebuild.decide import Pair, decide_all
from bakery.rebuild.jobs import Ended, Job, run
from bakery.rebuild.security import Open, Security
from bakery.rebuild.summary import VARIABLE, Result, changes, write
from bakery.rebuild.view import choose
from bakery.recipe.recipe import Rebuild, available, load
from clouds import mirrors
from clouds.driver import Cloud
from clouds.errors import BakehouseError, UsageError
from clouds.home import home
from launcher import prune
from launcher.command.cleanup import tidy_up
from launcher.command.flags import Values
from launcher.command.multi_cloud import ALL
from launcher.command.outcome import Outcome
from launcher.command.places import ledger
from launcher.command.terminal import Terminal
from launcher.images import ImageView, images
from launcher.security.updates import Updates


def rebuild(values: Values, terminal: Terminal) -> int:
    """Bake the images that are due; return 1 if a decision, a bake or the cleaning up has failed anywhere."""
    security = Security(home(), Updates(mirrors.host_mirrors()))
    pairs = decide_all(_jobs(values), clouds.connect, home(), security, now=time.time())
    for pair in pairs:
        if pair.error or values["json"] or (pair.is_due and not values["dry_run"]):  # the results say the rest
            terminal.tell(str(pair))
    if values["dry_run"]:
        results = [replace(_result(pair, security), pruned=_prune(pair, terminal, is_dry_run=True)) for pair in pairs]
        return _end(values, terminal, results)
    due = [pair.job for pair in pairs if pair.is_due]
    with choose(terminal.stderr) as view:
        ended = {one.job: one for one in run(due, at_once=values["jobs"], follower=view)}
    # Before pruning, which also removes lists of packages.
    results = [_result(pair, security, ended.get(pair.job)) for pair in pairs]
    results = [
        replace(result, pruned=_prune(pair, terminal, is_dry_run=False)) for pair, result in zip(pairs, results, strict=True)
    ]
    names = dict.fromkeys(pair.job.cloud for pair in pairs if pair.cloud)
    cleaned = [_tidy_up(name, terminal) for name in names]
    return max(_end(values, terminal, results), *cleaned, 0)


def _jobs(values: Values) -> list[Job]:
    """Return each recipe on each cloud, as given: by default those that have a table `[rebuild]`, on the clouds in use.

    UsageError: there is no such recipe, cloud or account, or two recipes have the same name, and would replace each other's images.
    """
    recipes = values["recipe"] or [name for name in available() if load(name).rebuild]
    if not recipes:
        raise UsageError("no recipe has a table [rebuild]", next_step="Add it to a recipe in images/, or name one: --recipe NAME.")
    named = [load(recipe).name for recipe in recipes]
    if twice := [name for name, count in Counter(named).items() if count > 1]:
        raise UsageError(f"--recipe: {twice[0]!r} is given twice", next_step="Name each recipe once; two need different names.")
    chosen = [] if values["cloud"] == [ALL] else values["cloud"]
    for name in chosen or [clouds.default()]:
        clouds.setting(name, "")  # an account that is not in the settings file is none of the configured ones
    return [Job(recipe, cloud) for recipe in recipes for cloud in chosen or clouds.configured()]


def _result(pair: Pair, security: Security, ended: Ended | None = None) -> Result:
    """Return what became of a recipe on a cloud."""
    next_step = pair.error.next_step if pair.error else ""
    result = Result(
        recipe=pair.recipe.name, cloud=pair.job.cloud, outcome=str(Outcome.FAILED), why=str(pair.error), next_step=next_step
    )
    if not (pair.cloud and pair.decision):
        return result
    newest, why = pair.decision.newest, pair.decision.why
    if not pair.is_due or ended is None:
        outcome = "due" if pair.is_due else "unchanged"
        return replace(result, outcome=outcome, why=why, image=newest.name if newest else "")
    result = replace(result, outcome=str(ended.outcome), why=ended.error, next_step=ended.next_step, seconds=ended.seconds)
    if ended.outcome is not Outcome.SUCCEEDED:
        return result
    views = _views(pair.cloud)
    made, old = (views.get(name) for name in (ended.image, newest.name if newest else ""))
    size_bytes, differing = (made.size_bytes, changes(home(), old, made)) if made else (0, None)
    remaining = security.note(made.labels.get("bake", "")) if made else Open()
    if remaining.lacks:
        why += f"; its base still lacks security updates: {remaining}"
    return replace(result, outcome="baked", why=why, image=ended.image, size_bytes=size_bytes, changes=differing)


def _views(cloud: Cloud) -> dict[str, ImageView]:
    """Return the images of a cloud by name; none if they cannot be listed now, which only the report needs."""
    try:
        return {image.name: image for image in images(cloud)}
    except BakehouseError:
        return {}


def _prune(pair: Pair, terminal: Terminal, *, is_dry_run: bool) -> list[str]:
    """Delete the images of a recipe that its newer ones replace; return their names. A dry run only finds them.

    A failure is told, and the next run tries again.
    """
    if not (pair.cloud and pair.decision):
        return []
    keep = (pair.recipe.rebuild or Rebuild()).keep
    rules = prune.Rules(keep=keep, recipe=pair.recipe.name, is_one_coming=is_dry_run and pair.is_due)
    try:
        found = prune.survey(pair.cloud, rules, now=time.time())
        changed = [] if is_dry_run else prune.collect(pair.cloud, ledger(terminal), found)
    except BakehouseError as error:
        terminal.tell(f"{pair.job}: could not delete old images: {error}")
        return []
    return [image.name for image in found.goes if image not in changed]


def _tidy_up(cloud: str, terminal: Terminal) -> int:
    """Remove what crashed commands have left in a cloud; return 1 if that has failed."""
    try:
        return tidy_up(cloud, ledger(terminal), terminal, keep_gb=None, yes=True)
    except BakehouseError as error:
        terminal.tell(f"error: could not clean up {cloud}: {error}")
        terminal.tell(f"next: {error.next_step or 'Try again: ./inv gc'}")
        return 1


def _end(values: Values, terminal: Terminal, results: Sequence[Result]) -> int:
    """Print the results, write the summary where the environment names a file for it, and return the exit status."""
    if values["json"]:
        terminal.out_json([result.to_json() for result in results])
    else:
        for result in results:
            terminal.out(result.text(is_dry_run=values["dry_run"]))
    if (path := os.environ.get(VARIABLE)) and not values["dry_run"]:
        try:
            write(Path(path), results)
        except OSError as error:
            terminal.tell(f"could not write the summary: {path}: {error.strerror}")
    failed = [f"{one.recipe} on {one.cloud}" for one in results if one.outcome in (Outcome.FAILED, Outcome.CANCELLED)]
    if failed:
        terminal.tell(f"error: failed: {', '.join(failed)}")
        terminal.tell(f"next: Fix the causes above and run it again{'' if values['dry_run'] else '; finished images are kept'}.")
    return int(bool(failed))
