"""The prices of spot capacity, asked for only when a highest price was too low."""

from __future__ import annotations

import time

from clouds.aws.client import Client
from clouds.aws.instances import price_shown
from clouds.errors import CloudError

PRODUCT = "Linux/UNIX"
"""The product of our images (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html)."""


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
