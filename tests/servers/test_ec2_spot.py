"""The EC2 server: Spot instances."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2_asking import STATE_S, boot, launch, machine, refusal, refused, shown, state
from tests.servers.vm import OFF, ScriptedVms

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

SPOT: dict[str, Any] = {"MarketType": "spot"}


def spot(**options: str) -> dict[str, Any]:
    return {"InstanceMarketOptions": {**SPOT, "SpotOptions": options}}


PERSISTENT = spot(SpotInstanceType="persistent", InstanceInterruptionBehavior="stop")


def _request(api: Any) -> dict[str, Any]:
    found: dict[str, Any] = api.describe_spot_instance_requests()["SpotInstanceRequests"][0]
    return found


def test_a_spot_instance_has_its_request(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api, InstanceMarketOptions=SPOT)
    request = _request(api)
    assert (request["State"], request["Status"]["Code"], request["InstanceId"]) == ("active", "fulfilled", one)
    assert (request["Type"], request["InstanceInterruptionBehavior"]) == ("one-time", "terminate")
    found = shown(api, one)
    assert (found["InstanceLifecycle"], found["SpotInstanceRequestId"]) == ("spot", request["SpotInstanceRequestId"])
    assert vms.boots[0].spot


def test_an_on_demand_instance_has_none(ec2: Ec2, api: Any) -> None:
    assert "InstanceLifecycle" not in shown(api, boot(ec2, api))
    assert api.describe_spot_instance_requests()["SpotInstanceRequests"] == []


def test_a_price_below_the_market_is_refused(ec2: Ec2, api: Any) -> None:
    ec2.switches.spot_prices["t3.small", "us-east-1a"] = 0.0374
    code, message, status = refusal(api.run_instances, **machine(api, **spot(MaxPrice="0.001")))
    assert (code, status) == ("SpotMaxPriceTooLow", 400)
    assert message.endswith("price of 0.001 is lower than the minimum required Spot request fulfillment price of 0.0374.")
    launch(api, **spot(MaxPrice="0.04"))


def test_the_price_history_has_the_price_of_each_zone(ec2: Ec2, api: Any) -> None:
    ec2.switches.spot_prices["t3.small", "us-east-1b"] = 0.005
    prices = api.describe_spot_price_history(InstanceTypes=["t3.small"], ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
    assert min(prices, key=lambda price: float(price["SpotPrice"]))["AvailabilityZone"] == "us-east-1b"


def test_spot_has_a_quota_of_its_own(ec2: Ec2, api: Any) -> None:
    ec2.switches.spot_vcpus = 2
    launch(api, InstanceMarketOptions=SPOT)
    assert refused(api.run_instances, **machine(api, InstanceMarketOptions=SPOT)) == "MaxSpotInstanceCountExceeded"
    launch(api)


def test_a_one_time_instance_cannot_be_stopped(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, InstanceMarketOptions=SPOT)
    code, message, _ = refusal(api.stop_instances, InstanceIds=[one])
    assert (code, "one-time Spot Instance request" in message) == ("UnsupportedOperation", True)


def test_a_persistent_one_can(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, **PERSISTENT)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert state(api, one) == "stopped"
    api.start_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert state(api, one) == "running"


def test_the_request_of_a_stopped_instance_lags_behind(ec2: Ec2, api: Any) -> None:
    ec2.switches.spot_lag_s = 30.0
    one = boot(ec2, api, **PERSISTENT)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert (state(api, one), _request(api)["State"], _request(api)["Status"]["Code"]) == ("stopped", "active", "marked-for-stop")
    assert refused(api.start_instances, InstanceIds=[one]) == "IncorrectSpotRequestState"
    ec2.advance(30)
    assert (_request(api)["State"], _request(api)["Status"]["Code"]) == ("disabled", "instance-stopped-by-user")
    api.start_instances(InstanceIds=[one])
    assert (_request(api)["State"], _request(api)["Status"]["Code"]) == ("active", "fulfilled")


def test_an_interruption_gives_notice_and_then_terminates(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, InstanceMarketOptions=SPOT)
    ec2.interrupt(one)
    notice = json.loads(ec2.metadata(one)["meta-data/spot/instance-action"])
    assert (notice["action"], notice["time"]) == ("terminate", "2026-10-14T17:48:50Z")
    assert (state(api, one), _request(api)["Status"]["Code"]) == ("running", "marked-for-termination")
    ec2.advance(120)
    assert state(api, one) == "shutting-down"
    ec2.advance(STATE_S)
    assert (state(api, one), shown(api, one)["StateReason"]["Code"]) == ("terminated", "Server.SpotInstanceTermination")
    assert (_request(api)["State"], _request(api)["Status"]["Code"]) == ("closed", "instance-terminated-no-capacity")
    assert ec2.inventory() == []


def test_an_interruption_may_stop_and_the_service_starts_again(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, **PERSISTENT)
    ec2.interrupt(one)
    ec2.advance(120)
    assert (state(api, one), _request(api)["Status"]["Code"]) == ("stopping", "instance-stopped-no-capacity")
    assert shown(api, one)["StateReason"]["Code"] == "Server.SpotInstanceShutdown"
    ec2.advance(STATE_S + 2 * ec2.switches.respawn_s + STATE_S)
    assert (state(api, one), _request(api)["Status"]["Code"]) == ("running", "fulfilled")


def test_what_an_interruption_has_stopped_a_user_cannot_start(ec2: Ec2, api: Any) -> None:
    ec2.switches.respawn_s = 600.0
    one = boot(ec2, api, **PERSISTENT)
    ec2.interrupt(one)
    ec2.advance(120 + STATE_S)
    assert state(api, one) == "stopped"
    assert refused(api.start_instances, InstanceIds=[one]) == "IncorrectSpotRequestState"
    ec2.advance(600)
    assert state(api, one) == "running"


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_persistent_request_starts_another_instance(ec2: Ec2, api: Any, interrupted: bool) -> None:
    one = boot(ec2, api, **PERSISTENT)
    if interrupted:
        ec2.switches.respawn_s = 600.0
        ec2.interrupt(one)
        ec2.advance(120 + STATE_S)
        ec2.switches.respawn_s = 5.0
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert (state(api, one), _request(api)["State"]) == ("terminated", "open")
    ec2.advance(ec2.switches.respawn_s)
    ec2.advance(STATE_S)
    request = _request(api)
    assert (request["State"], request["InstanceId"] != one) == ("active", True)
    assert state(api, request["InstanceId"]) == "running"


def test_the_new_instance_of_a_persistent_request_has_no_tags(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, **PERSISTENT)
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S + ec2.switches.respawn_s)
    assert shown(api, _request(api)["InstanceId"]).get("Tags", []) == []


def test_a_cancelled_request_starts_nothing_and_leaves_its_instance(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, **PERSISTENT)
    api.cancel_spot_instance_requests(SpotInstanceRequestIds=[_request(api)["SpotInstanceRequestId"]])
    assert (state(api, one), _request(api)["State"]) == ("running", "cancelled")
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S + 3600)
    assert ec2.inventory() == []


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_stopped_instance_is_terminated_when_its_request_is_cancelled(ec2: Ec2, api: Any, interrupted: bool) -> None:
    one = boot(ec2, api, **PERSISTENT)
    ec2.switches.respawn_s = 600.0
    if interrupted:
        ec2.interrupt(one)
        ec2.advance(120)
    else:
        api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert state(api, one) == "stopped"
    api.cancel_spot_instance_requests(SpotInstanceRequestIds=[_request(api)["SpotInstanceRequestId"]])
    ec2.advance(STATE_S)
    assert state(api, one) == "terminated"
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(1200)
    assert ec2.inventory() == []


def test_without_capacity_a_persistent_request_waits(ec2: Ec2, api: Any) -> None:
    where = {"Placement": {"AvailabilityZone": "us-east-1a"}}
    one = boot(ec2, api, **PERSISTENT, **where)
    ec2.switches.capacity["t3.small", "us-east-1a"] = -1
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S + ec2.switches.respawn_s)
    assert (_request(api)["State"], _request(api)["Status"]["Code"]) == ("open", "capacity-not-available")
    ec2.switches.capacity.clear()
    ec2.advance(ec2.switches.respawn_s)
    assert _request(api)["State"] == "active"


def test_a_one_time_instance_that_powers_off_is_terminated(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    vms.play = lambda vm: [1.0, OFF]
    one = launch(api, InstanceMarketOptions=SPOT)
    ec2.advance(STATE_S + 1)
    ec2.advance(STATE_S)
    assert (state(api, one), _request(api)["State"]) == ("terminated", "closed")
