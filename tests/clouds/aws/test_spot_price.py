"""Spot machines with a highest price: `launch --spot --max-price`."""

from __future__ import annotations

import pytest

from clouds.aws.failures import PriceError
from clouds.aws.instances import price_shown
from clouds.driver import End, Wishes
from clouds.errors import InvalidError, UsageError
from launcher.command.machine_options import check_granted
from tests.clouds.aws.stage import Stage
from tests.servers.ec2 import ApiError, unauthorized
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
TYPE = "t3.small"


def dear(stage: Stage) -> None:
    """Let an hour of the type cost more in one zone, and still more in the others."""
    stage.server.switches.spot_price = 0.5
    stage.server.switches.spot_prices[TYPE, "us-east-1b"] = 0.0374


@pytest.mark.parametrize("then", [End.STOP, End.DELETE])
def test_the_price_goes_with_the_request(stage: Stage, then: End) -> None:
    stage.boot(wishes=Wishes(spot=True, on_preempt=then, max_price_usd=0.05))
    [request] = client(stage.server).describe_spot_instance_requests()["SpotInstanceRequests"]
    assert float(request["SpotPrice"]) == 0.05


def test_without_a_price_none_is_sent(stage: Stage) -> None:
    stage.boot(wishes=Wishes(spot=True))
    [asked] = [call.params for call in stage.server.calls if call.action == "RunInstances"]
    assert not [key for key in asked if key.endswith("MaxPrice")]
    assert stage.server.count("DescribeSpotPriceHistory") == 0


def test_a_price_too_low_is_told_with_the_present_prices_and_no_other_zone_is_tried(stage: Stage) -> None:
    dear(stage)
    with pytest.raises(PriceError) as caught:
        stage.boot(wishes=Wishes(spot=True, max_price_usd=0.01))
    assert "price of 0.01 is lower than the minimum" in caught.value.message
    assert f"{TYPE} costs 0.0374 USD per hour in us-east-1b, 0.5 USD per hour in us-east-1a" in caught.value.message
    assert "Raise --max-price" in caught.value.next_step
    assert stage.server.count("RunInstances") == 1
    assert stage.left() == []


def test_a_price_too_low_is_told_also_where_the_prices_may_not_be_read(stage: Stage) -> None:
    dear(stage)
    stage.server.fault("DescribeSpotPriceHistory", error=unauthorized("DescribeSpotPriceHistory"), nth=None)
    with pytest.raises(PriceError) as caught:
        stage.boot(wishes=Wishes(spot=True, max_price_usd=0.01))
    assert "costs" not in caught.value.message
    assert "Raise --max-price" in caught.value.next_step


def test_where_spot_costs_more_than_the_usual_price_other_zones_are_tried(stage: Stage) -> None:
    """Without a highest price the on-demand price is the limit, and a zone without room may exceed it."""
    stage.server.fault("RunInstances", error=ApiError("SpotMaxPriceTooLow", "Your Spot request price of 0.02 is lower"))
    stage.boot(wishes=Wishes(spot=True))
    assert stage.server.count("RunInstances") == 2


def test_a_price_that_ec2_never_accepts_is_refused_before_anything_is_made(stage: Stage) -> None:
    with pytest.raises(InvalidError, match=r"--max-price 0\.0005: lower than EC2 accepts"):
        stage.boot(wishes=Wishes(spot=True, max_price_usd=0.0005))
    assert stage.server.count("CreateSecurityGroup") == 0


def test_a_price_is_written_as_ec2_reads_it() -> None:
    assert [price_shown(usd) for usd in (0.05, 1.0, 0.000001, 12.5, 100.0)] == ["0.05", "1", "0.000001", "12.5", "100"]


def test_google_sets_no_highest_price() -> None:
    from clouds.gcp.driver import GoogleCloud

    wished = Wishes(spot=True, max_price_usd=0.05)
    with pytest.raises(UsageError, match="--max-price: not supported by cloud 'gcp'"):
        check_granted(GoogleCloud, wished)  # type: ignore[arg-type]  # its class says what it grants
