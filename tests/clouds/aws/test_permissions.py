"""The policy in docs/clouds.md is enough: the server enforces it while Bakehouse does all that it can do on AWS."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import clouds
from bakery.order import BakeOptions
from clouds.aws.driver import Aws
from clouds.driver import Wishes
from clouds.errors import DeniedError
from clouds.ledger import Ledger
from launcher import power
from launcher.images import delete_image
from launcher.launch import LaunchOptions
from tests.cli.verbs import run
from tests.clouds.aws.stage import Cloud, Stage
from tests.clouds.gcp.stage import bake_large, bake_tiny, launch_tiny
from tests.servers.ec2_asking import client, refused

pytestmark = pytest.mark.server
DOCUMENT = Path(__file__).parents[3] / "docs/clouds.md"
ALL = Wishes(spot=True, max_price_usd=1.0, keep_disk=True, static_ip="front", machine_type="m6i.large")


def documented(account: str) -> list[dict[str, Any]]:
    """Return the statements of the policy, for the role of an account."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("\n## AWS")[2].partition("### Permissions")[2].partition("\n### ")[0]
    found: list[dict[str, Any]] = []
    for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL):
        parsed = json.loads(block.replace("111122223333", account))
        found += parsed["Statement"] if isinstance(parsed, dict) else parsed
    return found


@pytest.fixture
def guarded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a cloud that allows what the document says, and let verbs use it."""
    from tests.servers.ec2.iam import Policy

    stage.server.policy = Policy(documented(stage.server.account))
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: connect(stage))
    monkeypatch.setattr(clouds, "configured", lambda: ["aws"])
    monkeypatch.setattr(Cloud, "regions", lambda self: Aws.regions(self)[:2])
    return stage


def connect(stage: Stage) -> Cloud:
    return stage.connect(scheduler_role=f"arn:aws:iam::{stage.server.account}:role/bakehouse-stop")


def verb(name: str, /, **typed: str | bool) -> None:
    code, _, stderr = run(name, **typed)
    assert code == 0, stderr


def bakes(stage: Stage) -> None:
    """Bake with files that are sent over SSH, and on spot capacity."""
    bake_large(connect(stage), stage.home)
    bake_tiny(connect(stage), stage.home, options=BakeOptions(spot=True, force=True))


def launches(stage: Stage) -> None:
    """Launch with every option, and use each verb on the machine."""
    launch_tiny(connect(stage), stage.home, options=LaunchOptions(recipe="tiny", name="mine", wishes=ALL))
    for name in ("machines", "images"):
        verb(name, region="all")
    for source in ("198.51.100.9/32", "127.0.0.1/32"):
        connect(stage).admit("mine", source)
    power.stop(connect(stage), "mine")
    power.start(connect(stage), "mine")
    verb("log", id="mine")


def leavings(stage: Stage) -> None:
    """Delete it all, in the ways that there are."""
    verb("delete", name="mine", yes=True)
    verb("gc", yes=True)
    verb("delete-disk", disk="mine", yes=True)
    ledger = Ledger(stage.home / "ledger.sqlite3")
    for line in [line for line in stage.left() if line.startswith("images ")]:
        delete_image(connect(stage), ledger, line.split()[1].partition("/")[2])
    verb("delete-address", address="front", yes=True)


def price_too_low(stage: Stage) -> None:
    stage.server.switches.spot_price = 0.5
    wishes = Wishes(spot=True, max_price_usd=0.01)
    stage.play(lambda: launch_tiny(connect(stage), stage.home, options=LaunchOptions(recipe="tiny", name="dear", wishes=wishes)))
    assert "costs 0.5 USD" in stage.told


def test_the_documented_policy_is_enough_and_names_nothing_that_is_not_needed(guarded: Stage) -> None:
    works: list[Callable[[Stage], None]] = [bakes, launches, price_too_low, leavings]
    for work in works:
        work(guarded)
    denied = [call for call in guarded.server.calls if call.code in ("UnauthorizedOperation", "AccessDeniedException")]
    assert denied == []
    policy = guarded.server.policy
    assert policy
    assert policy.used - policy.actions() == set()
    assert policy.actions() - policy.used == set()
    assert guarded.left() == []


def test_what_somebody_else_has_made_cannot_be_changed_with_it(guarded: Stage) -> None:
    api = client(guarded.server)
    stranger = api.create_security_group(GroupName="other", Description="any")["GroupId"]
    guarded.boot(connect(guarded))
    assert refused(api.delete_security_group, GroupId=stranger) == "UnauthorizedOperation"


@pytest.mark.parametrize("action", ["scheduler:CreateSchedule", "iam:PassRole"])
def test_without_a_statement_for_the_scheduler_a_launch_says_so_and_leaves_nothing(guarded: Stage, action: str) -> None:
    policy = guarded.server.policy
    assert policy
    policy.statements = [one for one in policy.statements if action not in one["Action"]]
    with pytest.raises(DeniedError, match=action) as caught:
        guarded.boot(connect(guarded))
    assert "docs/clouds.md" in caught.value.next_step
    assert guarded.left() == []
