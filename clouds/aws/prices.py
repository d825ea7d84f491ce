"""The prices of spot capacity: the highest that a user gives, and the present ones where that is too low."""

from __future__ import annotations

import time

from clouds.aws.client import Client
from clouds.aws.instances import price_shown
from clouds.errors import CloudError, InvalidError

LEAST_USD = 0.001
"""EC2 refuses a lower price (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SpotMarketOptions.html, MaxPrice)."""
PRODUCT = "Linux/UNIX"
"""The product of our images (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html)."""


def check(max_price_usd: float) -> None:
    """Raise InvalidError for a highest price that EC2 does not accept; 0 is none."""
    if 0 < max_price_usd < LEAST_USD:
        raise InvalidError(
            f"--max-price {price_shown(max_price_usd)}: lower than EC2 accepts", next_step=f"Give {price_shown(LEAST_USD)} or more."
        )


def current(client: Client, instance_type: str) -> str:
    """Return what an hour of a type costs now in each zone of the region, the cheapest first; "" if that cannot be found out.

    With the present time as its start, the history has the price of each zone that is in effect (same page, StartTime).
    """
    request = {"InstanceTypes": [instance_type], "ProductDescriptions": [PRODUCT], "StartTime": int(time.time())}
    try:
        listed = list(client.items("spot prices", "describe_spot_price_history", "SpotPriceHistory", **request))
        prices = {one["AvailabilityZone"]: float(one["SpotPrice"]) for one in listed}
    except (CloudError, KeyError, ValueError):
        return ""
    found = sorted((usd, zone) for zone, usd in prices.items())
    return ", ".join(f"{price_shown(usd)} USD per hour in {zone}" for usd, zone in found)
