"""Service Quotas, as far as Bakehouse asks: the quota of vCPUs of on-demand instances.

https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html (NoSuchResourceException: no such quota),
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html (a quota of vCPUs for A, C, D, H, I, M, R, T and Z)
"""

from __future__ import annotations

from typing import Any

from tests.servers.ec2.cloud import Cloud
from tests.servers.ec2.errors import ApiError, NotServed

STANDARD = "L-1216C47A"
"""The code of "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"."""


def serve(cloud: Cloud, action: str, params: dict[str, Any]) -> dict[str, Any]:
    """Serve a request; raises ApiError."""
    if action != "GetServiceQuota":
        raise NotServed(f"servicequotas:{action}")
    if wrong := params.keys() - {"ServiceCode", "QuotaCode", "ContextId"} or {"ServiceCode", "QuotaCode"} - params.keys():
        raise ApiError("IllegalArgumentException", f"Invalid input was provided: {', '.join(sorted(wrong))}")
    if (params["ServiceCode"], params["QuotaCode"]) != ("ec2", STANDARD):
        raise ApiError("NoSuchResourceException", "The specified resource does not exist.")
    return {"Quota": {"ServiceCode": "ec2", "QuotaCode": STANDARD, "Value": float(cloud.switches.vcpus), "Unit": "None"}}
