"""The metadata service of an instance of the EC2 server, as its guest asks it."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2.metadata import MetadataServer
from tests.servers.ec2_asking import KEY, boot, launch
from tests.servers.vm import ScriptedVms, Step, Vm

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"
REQUIRED: dict[str, Any] = {"MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"}}


def _ask(server: MetadataServer, method: str, path: str, *, root: str = "/latest/", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, f"{root}{path}", headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _token(server: MetadataServer) -> str:
    status, token = _ask(server, "PUT", "api/token", **{TTL: "60"})
    assert status == 200
    return token.decode()


def _get(server: MetadataServer, path: str, token: str) -> bytes:
    status, data = _ask(server, "GET", path, **{TOKEN: token})
    assert status == 200, (path, status)
    return data


def test_a_guest_reads_its_user_data_with_a_token(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    script = b"#!/bin/bash\n\xff"

    def play(vm: Vm) -> list[Step]:
        with MetadataServer(vm.metadata) as server:
            return [_get(server, "user-data", _token(server))]

    vms.play = play
    one = boot(ec2, api, UserData=script, **REQUIRED)
    assert ec2.serial(one) == script


def test_without_a_token_nothing_is_served_when_tokens_are_required(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, UserData=b"x", **REQUIRED)
    with MetadataServer(ec2.metadata(one)) as server:
        assert _ask(server, "GET", "user-data")[0] == 401
        assert _ask(server, "GET", "user-data", **{TOKEN: "made-up"})[0] == 401
        api.modify_instance_metadata_options(InstanceId=one, HttpTokens="optional")
        assert _ask(server, "GET", "user-data") == (200, b"x")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 400), ({TTL: "0"}, 400), ({TTL: "21601"}, 400), ({TTL: "60", "X-Forwarded-For": "10.0.0.1"}, 403)],
)
def test_a_token_has_its_conditions(ec2: Ec2, api: Any, headers: dict[str, str], status: int) -> None:
    with MetadataServer(ec2.metadata(boot(ec2, api))) as server:
        assert _ask(server, "PUT", "api/token", **headers)[0] == status


def test_the_hop_limit_keeps_containers_out(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    with MetadataServer(ec2.metadata(one), hops=2) as server:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            _token(server)
        api.modify_instance_metadata_options(InstanceId=one, HttpPutResponseHopLimit=2)
        assert _token(server)


def test_the_service_may_be_off(ec2: Ec2, api: Any) -> None:
    with MetadataServer(ec2.metadata(boot(ec2, api, MetadataOptions={"HttpEndpoint": "disabled"}))) as server:
        assert _ask(server, "PUT", "api/token", **{TTL: "60"})[0] == 403


def test_what_a_guest_finds(ec2: Ec2, api: Any) -> None:
    api.import_key_pair(KeyName="mine", PublicKeyMaterial=KEY.encode())
    one = boot(ec2, api, KeyName="mine")
    with MetadataServer(ec2.metadata(one)) as server:
        token = _token(server)
        assert _get(server, "meta-data/instance-id", token).decode() == one
        assert _get(server, "meta-data/placement/availability-zone", token) == b"us-east-1a"
        assert _get(server, "meta-data/public-keys/0/openssh-key", token).startswith(b"ssh-ed25519 ")
        assert b"instance-id" in _get(server, "meta-data/", token).splitlines()
        assert b"placement/" in _get(server, "meta-data", token).splitlines()
        assert json.loads(_get(server, "dynamic/instance-identity/document", token))["accountId"] == ec2.account
        for absent in ("user-data", "meta-data/spot/instance-action", "meta-data/tags/instance/Name", "option/http-tokens"):
            assert _ask(server, "GET", absent, **{TOKEN: token})[0] == 404


def test_paths_of_older_versions_are_served_as_cloud_init_asks_for_them(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, UserData=b"x", **REQUIRED)
    with MetadataServer(ec2.metadata(one)) as server:
        token = {TOKEN: _token(server)}
        listed = _ask(server, "GET", "", root="/", **token)[1].decode().splitlines()
        assert (listed[0], listed[-1]) == ("1.0", "latest")
        for version in ("2009-04-04", "2021-03-23"):
            assert version in listed
            assert _ask(server, "GET", "meta-data/instance-id", root=f"/{version}/", **token) == (200, one.encode())
        assert _ask(server, "GET", "meta-data/instance-id", root="/2009-04-05/", **token)[0] == 404


def test_tags_are_served_when_switched_on(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, MetadataOptions={"InstanceMetadataTags": "enabled"})
    with MetadataServer(ec2.metadata(one)) as server:
        assert _get(server, "meta-data/tags/instance/Name", _token(server)) == b"one"
        api.create_tags(Resources=[one], Tags=[{"Key": "Name", "Value": "two"}])
        assert _get(server, "meta-data/tags/instance/Name", _token(server)) == b"two"


def test_a_guest_sees_the_notice_of_its_interruption(ec2: Ec2, api: Any) -> None:
    one = launch(api, InstanceMarketOptions={"MarketType": "spot"})
    ec2.advance(10)
    with MetadataServer(ec2.metadata(one)) as server:
        ec2.interrupt(one)
        assert json.loads(_get(server, "meta-data/spot/instance-action", _token(server)))["action"] == "terminate"
