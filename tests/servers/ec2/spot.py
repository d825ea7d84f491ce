"""Spot requests: what RunInstances makes of them, interruption, and persistent requests that start again.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html, .../interruption-behavior.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import random_spot_request_id

from tests.servers.ec2 import life, metadata, states
from tests.servers.ec2.errors import ApiError, invalid_combination, invalid_value, spot_limit
from tests.servers.ec2.states import GONE

LEAST_USD = 0.001
Tree = dict[str, Any]
Relaunch = Any


@dataclass(slots=True, kw_only=True)
class Options:
    """SpotOptions of a request."""

    price: str = ""
    kind: str = "one-time"
    behavior: str = "terminate"
    valid_until: str = ""


class SpotRequest(TaggedEC2Resource):
    """One Spot request; moto's response classes read its attributes."""

    def __init__(self, backend: Any, options: Options, instance: Any, relaunch: Relaunch) -> None:
        self.ec2_backend, self.id = backend, random_spot_request_id()
        self.options, self.relaunch = options, relaunch
        self.instance: Any = instance
        self.state = "active"
        self.create_time = backend.cloud.now()
        self.spot_price = f"{float(options.price):.6f}" if options.price else "0.500000"
        self.type, self.instance_interruption_behavior = options.kind, options.behavior
        self.product_description = "Linux/UNIX"
        self.launched_availability_zone = instance.availability_zone
        self.valid_until = options.valid_until or None
        self.launch_specification = {
            "ImageId": instance.image_id,
            "InstanceType": instance.instance_type,
            "KeyName": instance.key_name,
            "Placement": {"AvailabilityZone": instance.availability_zone},
            "SubnetId": instance.subnet_id,
        }
        self.set_status("fulfilled", "Your spot request is fulfilled.")

    def set_status(self, code: str, message: str) -> None:
        self.status = {"Code": code, "Message": message, "UpdateTime": self.ec2_backend.cloud.now()}

    @property
    def spot_instance_request_id(self) -> str:
        return self.id

    @property
    def instance_id(self) -> str | None:
        return self.instance.id if self.instance else None

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        more = {
            "state": self.state,
            "spot-instance-request-id": self.id,
            "instance-id": self.instance_id or "",
            "type": self.type,
            "status-code": self.status["Code"],
        }
        return more[filter_name] if filter_name in more else super().get_filter_value(filter_name, method_name)


def options_of(tree: Tree) -> Options | None:
    """Return the Spot options of a RunInstances request, None for an on-demand one; raises ApiError."""
    market = tree.get("InstanceMarketOptions", {})
    if market.get("MarketType") != "spot":
        if "SpotOptions" in market:
            raise invalid_combination("SpotOptions can be specified only when the market type is 'spot'.")
        return None
    given = market.get("SpotOptions", {})
    options = Options(
        price=given.get("MaxPrice", ""),
        kind=given.get("SpotInstanceType", "one-time"),
        behavior=given.get("InstanceInterruptionBehavior", "terminate"),
        valid_until=given.get("ValidUntil", ""),
    )
    if options.price and not re.fullmatch(r"\d*\.?\d+", options.price):
        raise invalid_value(f"Invalid value '{options.price}' for MaxPrice.")
    if options.price and float(options.price) < LEAST_USD:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SpotMarketOptions.html; the text is a guess
        raise invalid_value(f"Invalid value '{options.price}' for MaxPrice. It must be more than {LEAST_USD}.")
    if options.kind == "persistent" and options.behavior == "terminate":
        # the same page, SpotInstanceType; https://github.com/aws/aws-sdk-ruby/issues/1798
        raise invalid_combination(
            "The terminate InstanceInterruptionBehavior is not supported when requestType is set to persistent."
        )
    if options.kind == "one-time" and options.behavior != "terminate":
        # https://github.com/harmony-one/harmony-ops/issues/285
        message = (
            f"The request with type 'one-time' is not supported when instanceInterruptionBehavior is set to '{options.behavior}'."
        )
        raise invalid_combination(message)
    if options.kind == "one-time" and options.valid_until:
        raise invalid_combination("ValidUntil is supported only for persistent requests.")
    return options


class Spot:
    """The part of the backend that serves Spot requests."""

    cloud: Any
    region_name: str
    spot_instance_requests: dict[str, Any]

    def spot_price(self, instance_type: str, zone: str) -> float:
        return float(self.cloud.switches.spot_prices.get((instance_type, zone), self.cloud.switches.spot_price))

    def check_price(self, options: Options, instance_type: str, zone: str) -> None:
        price = self.spot_price(instance_type, zone)
        if options.price and float(options.price) < price:
            # https://github.com/aws/aws-parallelcluster-node/pull/415
            message = (
                f"Your Spot request price of {options.price} is lower than the minimum required Spot request "
                f"fulfillment price of {price:g}."
            )
            raise ApiError("SpotMaxPriceTooLow", message)

    def make_spot_request(self, instance: Any, options: Options, tags: dict[str, str], relaunch: Relaunch) -> None:
        request = SpotRequest(self, options, instance, relaunch)
        request.add_tags(tags)
        self.spot_instance_requests[request.id] = request
        instance.spot_instance_request_id, instance.lifecycle = request.id, "spot"

    def request_of(self, instance: Any) -> SpotRequest | None:
        return self.spot_instance_requests.get(getattr(instance, "spot_instance_request_id", None) or "")

    def is_one_time(self, instance: Any) -> bool:
        request = self.request_of(instance)
        return request is not None and request.type == "one-time"

    def cancel_spot_instance_requests(self, request_ids: list[str]) -> list[Any]:
        """Cancel requests: instances that run stay, those that are stopped are terminated (interruption-behavior.html)."""
        for request_id in request_ids:
            if request_id not in self.spot_instance_requests:
                message = f"The spot instance request ID '{request_id}' does not exist"
                raise ApiError("InvalidSpotInstanceRequestID.NotFound", message)
        requests = [self.spot_instance_requests[request_id] for request_id in request_ids]
        for request in requests:
            if request.state in ("open", "active", "disabled"):
                is_on = request.instance is not None and request.instance.state not in GONE
                code = "request-canceled-and-instance-running" if is_on else "canceled-before-fulfillment"
                request.state = "cancelled"
                request.set_status(code, "Your Spot request is canceled.")
                if request.instance is not None and request.instance.state == "stopped":
                    life.terminate(self, request.instance)
        return requests

    def interrupt(self, instance: Any) -> None:
        """Give the guest notice, and take the instance away when it has run out."""
        request = self.request_of(instance)
        assert request, f"{instance.id} is no Spot instance"
        notice_s = self.cloud.switches.notice_s
        action = request.instance_interruption_behavior
        found = self.cloud.metadata.setdefault(instance.id, {})
        metadata.announce(found, action, self.cloud.now() + timedelta(seconds=notice_s))
        request.set_status("marked-for-termination" if action == "terminate" else "marked-for-stop", "The instance is interrupted.")
        run = self.cloud.runs.get(instance.id)

        def take() -> None:
            if self.cloud.runs.get(instance.id) == run:
                self._take(request, instance)

        self.cloud.after(notice_s, take)

    def _take(self, request: SpotRequest, instance: Any) -> None:
        states.by_interruption(instance, self.cloud.now(), request.instance_interruption_behavior)
        if request.instance_interruption_behavior == "terminate":
            request.set_status("instance-terminated-no-capacity", "There is no Spot capacity for your request.")
            life.terminate(self, instance)
        else:
            request.state = "open"
            request.set_status("instance-stopped-no-capacity", "There is no Spot capacity for your request.")
            life.stop(self, instance)
            self._resume_later(request, instance)

    def _resume_later(self, request: SpotRequest, instance: Any) -> None:
        self.cloud.after(self.cloud.switches.respawn_s, lambda: self._resume(request, instance))

    def _resume(self, request: SpotRequest, instance: Any) -> None:
        """Start an instance that was stopped by an interruption: only the service can, once there is capacity."""
        if instance.state == "stopping":
            self._resume_later(request, instance)
        if instance.state == "stopped" and request.state != "cancelled":
            request.state = "active"
            request.set_status("fulfilled", "Your spot request is fulfilled.")
            life.power_on(self, instance)

    def spot_instance_stopped(self, instance: Any) -> None:
        """Let the request of an instance that its user has stopped follow, some time later."""
        request = self.request_of(instance)
        if request is None or request.status["Code"] == "instance-stopped-no-capacity":
            return
        run = self.cloud.runs.get(instance.id)

        def follow() -> None:
            if request.state == "active" and self.cloud.runs.get(instance.id) == run:
                request.state = "disabled"
                request.set_status("instance-stopped-by-user", "You stopped the instance.")

        self.cloud.after(self.cloud.switches.spot_lag_s, follow)

    def spot_instance_started(self, instance: Any) -> None:
        if request := self.request_of(instance):
            request.state = "active"
            request.set_status("fulfilled", "Your spot request is fulfilled.")

    def spot_instance_ended(self, instance: Any) -> None:
        """Close the request of an instance that is gone, or open a persistent one again."""
        request = self.request_of(instance)
        if request is None or request.instance is not instance:
            return
        by_service = states.reason_code(instance) == "Server.SpotInstanceTermination"
        if not by_service:
            request.set_status("instance-terminated-by-user", "You terminated the instance.")
        if request.state == "cancelled":
            request.set_status("instance-terminated-by-user", "Your Spot request is canceled and its instance terminated.")
        elif request.type == "one-time":
            request.state = "closed"
        else:
            request.state, request.instance = "open", None
            request.set_status("pending-evaluation", "Your Spot request has been submitted for review, and is pending evaluation.")
            self.cloud.after(self.cloud.switches.respawn_s, lambda: self._respawn(request))

    def _respawn(self, request: SpotRequest) -> None:
        if request.state != "open":
            return
        try:
            instance = request.relaunch()
        except ApiError as error:
            request.set_status("capacity-not-available", error.message)
            self.cloud.after(self.cloud.switches.respawn_s, lambda: self._respawn(request))
        else:
            instance.spot_instance_request_id, instance.lifecycle = request.id, "spot"
            request.state, request.instance = "active", instance
            request.set_status("fulfilled", "Your spot request is fulfilled.")

    def price_history(self, tree: Tree) -> list[Tree]:
        """Return the present price of each type asked for, in each zone that offers it."""
        zones = [zone.name for zone in self.describe_availability_zones()]  # type: ignore[attr-defined]
        wanted = tree.get("AvailabilityZone")
        now = self.cloud.now()
        return [
            {
                "InstanceType": kind,
                "ProductDescription": "Linux/UNIX",
                "SpotPrice": f"{self.spot_price(kind, zone):.6f}",
                "AvailabilityZone": zone,
                "Timestamp": now,
            }
            for kind in tree.get("InstanceTypes", [])
            for zone in zones
            if wanted in (None, zone)
        ]


def check_spot_quota(used: int, wanted: int, limit: int) -> None:
    """Raise the error for more Spot vCPUs than the quota of the region."""
    if used + wanted > limit:
        raise spot_limit()
