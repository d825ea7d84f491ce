"""Asking the EC2 server: by boto3, and in plain HTTP, without a client library that would put a wrong request right."""

from __future__ import annotations

import http.client
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

STATE_S, IMAGE_S = 10.0, 60.0
NOW = 1_792_000_000.0
"""The time at which the clock of the servers stands, in seconds since the epoch: 2026-10-14T17:46:40Z."""
DEBIAN = "136693071363"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ4qtaZ5aCZUQ4iAaIEcvQu3iJiVMIiVzHK4G2a4vyX tester"
_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261014/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back to a request in plain HTTP."""

    status: int
    body: str

    def text(self, name: str) -> str:
        """Return the text of the first element of that name, "" when there is none."""
        for element in ElementTree.fromstring(self.body).iter():
            if element.tag.rpartition("}")[2] == name:
                return element.text or ""
        return ""


def ask(ec2: Ec2, action: str, params: dict[str, Any] | None = None, *, authorization: str = _AUTHORIZATION) -> Answer:
    """Send one request; `params` are as on the wire (`BlockDeviceMapping.1.Ebs.VolumeSize`)."""
    connection = http.client.HTTPConnection("127.0.0.1", ec2.port, timeout=10)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if authorization:
            headers["Authorization"] = authorization
        body = urlencode({"Action": action, "Version": "2016-11-15", **(params or {})})
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode())
    finally:
        connection.close()


def environment(ec2: Ec2, region: str = "us-east-1") -> dict[str, str]:
    """Return the variables with which Bakehouse, the AWS CLI and any boto3 reach this server, whatever is configured here.

    The CLI reads the region from AWS_DEFAULT_REGION only (docs.aws.amazon.com/cli/v1/userguide/cli-configure-envvars.html).
    """
    keys = ec2.client_arguments(region)
    return {
        "AWS_ENDPOINT_URL": ec2.url,
        "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass(slots=True)
class _Reused:
    """A boto3 client that goes to another server when its own is closed: making one takes longer than most tests."""

    client: Any
    url: str
    server: Ec2

    def send_to_server(self, request: Any, **_: Any) -> None:
        request.url = request.url.replace(self.url, self.server.url, 1)


_CLIENTS: dict[tuple[str, str, int], list[_Reused]] = {}


def client(ec2: Ec2, service: str = "ec2", *, region: str = "us-east-1", attempts: int = 1) -> Any:
    """Return a boto3 client that sends a request `attempts` times at most."""
    known = _CLIENTS.setdefault((service, region, attempts), [])
    for reused in known:
        if reused.server is ec2 or reused.server.is_closed:
            reused.server = ec2
            return reused.client
    known.append(_new_client(ec2, service, region, attempts))
    return known[-1].client


def _new_client(ec2: Ec2, service: str, region: str, attempts: int) -> _Reused:
    import boto3
    from botocore.config import Config

    from tests.servers.ec2.serving import OWNER_KEY

    retries = {"total_max_attempts": attempts, "mode": "standard"}
    config = Config(retries=retries, connect_timeout=5, read_timeout=10, proxies={})
    reused = _Reused(boto3.client(service, config=config, **ec2.client_arguments(region, key=OWNER_KEY)), ec2.url, ec2)
    reused.client.meta.events.register("before-send", reused.send_to_server)
    return reused


def refused(call: Callable[..., Any], **params: Any) -> str:
    """Return the code of the refusal that a call must get."""
    return refusal(call, **params)[0]


def refusal(call: Callable[..., Any], **params: Any) -> tuple[str, str, int]:
    """Return code, message and HTTP status of the refusal that a call must get."""
    from botocore.exceptions import ClientError

    try:
        answer = call(**params)
    except ClientError as error:
        return (
            error.response["Error"]["Code"],
            error.response["Error"]["Message"],
            error.response["ResponseMetadata"]["HTTPStatusCode"],
        )
    raise AssertionError(f"not refused: {answer}")


def base(api: Any, name: str = "debian-13-amd64-2026*") -> str:
    """Return the id of the newest public image of a name."""
    found = api.describe_images(Owners=[DEBIAN], Filters=[{"Name": "name", "Values": [name]}])["Images"]
    return str(max(found, key=lambda image: image["CreationDate"])["ImageId"])


def machine(api: Any, **changes: Any) -> dict[str, Any]:
    """Return the parameters that make an instance called `one`."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "one"}]}]
    plain = {"ImageId": base(api), "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, "TagSpecifications": tags}
    return {**plain, **changes}


def launch(api: Any, **changes: Any) -> str:
    """Ask for an instance, and return its id; it is pending."""
    return str(api.run_instances(**machine(api, **changes))["Instances"][0]["InstanceId"])


def boot(ec2: Ec2, api: Any, **changes: Any) -> str:
    """Make an instance that runs, and return its id."""
    instance_id = launch(api, **changes)
    ec2.advance(STATE_S)
    assert state(api, instance_id) == "running"
    return instance_id


def shown(api: Any, instance_id: str) -> dict[str, Any]:
    """Return an instance as DescribeInstances has it."""
    found: dict[str, Any] = api.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return found


def state(api: Any, instance_id: str) -> str:
    return str(shown(api, instance_id)["State"]["Name"])


def image(ec2: Ec2, api: Any, instance_id: str, name: str = "mine", **more: Any) -> str:
    """Make an image that is available, and return its id."""
    image_id = str(api.create_image(InstanceId=instance_id, Name=name, **more)["ImageId"])
    ec2.advance(IMAGE_S)
    assert api.describe_images(ImageIds=[image_id])["Images"][0]["State"] == "available"
    return image_id
