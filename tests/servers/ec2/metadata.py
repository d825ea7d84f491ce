"""The metadata service of one instance (IMDS), as guests ask it at 169.254.169.254.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html and
.../instancedata-data-categories.html. `Vm.metadata` holds what it serves
(paths below a version, user data in base64) and its options.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER_DATA = "user-data"
_TREE = "meta-data/"
_OPTION = "option/"
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"
_TTL_MAX_S = 21600
_VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04"),
    *("2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02"),
    *("2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15"),
    *("2022-09-24", "2024-04-11", "latest"),
)
"""The versions of its paths, as instances have listed them in 2024; here each serves all that `latest` does."""


def refresh(backend: Any, instance: Any) -> Mapping[str, str]:
    """Return the metadata of an instance, brought up to date; the same mapping each time."""
    found: dict[str, str] = backend.cloud.metadata.setdefault(instance.id, {})
    options = instance.metadata_options
    fresh = {
        USER_DATA: str(instance.user_data or ""),
        f"{_OPTION}http-endpoint": options.http_endpoint,
        f"{_OPTION}http-tokens": options.http_tokens,
        f"{_OPTION}hop-limit": str(options.http_put_response_hop_limit),
        "dynamic/instance-identity/document": _identity(backend, instance),
    }
    fresh |= {_TREE + key: value for key, value in _categories(backend, instance).items() if value}
    fresh |= {key: value for key, value in found.items() if key.startswith(f"{_TREE}spot/")}
    for gone in set(found) - set(fresh):
        del found[gone]
    found.update(fresh)
    return found


def _categories(backend: Any, instance: Any) -> dict[str, str]:
    shown = {
        "ami-id": instance.image_id,
        "hostname": instance.private_dns_name,
        "instance-id": instance.id,
        "instance-life-cycle": "spot" if instance.lifecycle == "spot" else "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": instance.private_ip or "",
        "placement/availability-zone": instance.availability_zone,
        "placement/region": backend.region_name,
        "public-ipv4": instance.public_ip or "",
        "security-groups": "\n".join(group.name for group in instance.security_groups),
    }
    if key := backend.key_pairs.get(instance.key_name):
        shown |= {"public-keys/": f"0={key.key_name}", "public-keys/0/openssh-key": key.public_key}
    if instance.metadata_options.instance_metadata_tags == "enabled":
        shown |= {f"tags/instance/{name}": value for name, value in backend.tags.get(instance.id, {}).items()}
    return shown


def _identity(backend: Any, instance: Any) -> str:
    document = {
        "accountId": backend.account_id,
        "architecture": instance.architecture,
        "availabilityZone": instance.availability_zone,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "privateIp": instance.private_ip,
        "region": backend.region_name,
        "version": "2017-09-30",
    }
    return json.dumps(document)


def announce(found: dict[str, str], action: str, when: datetime) -> None:
    """Give notice of an interruption: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html."""
    text = f"{when:%Y-%m-%dT%H:%M:%SZ}"
    found[f"{_TREE}spot/instance-action"] = json.dumps({"action": action, "time": text})
    if action == "terminate":
        found[f"{_TREE}spot/termination-time"] = text


class MetadataServer:
    """Answers one machine on a free port of the loopback address until it is closed.

    `hops` is how many network hops away the asking process is (a container on a bridge: 2): the answer to a PUT reaches no
    further than HttpPutResponseHopLimit, so that a token request from further away times out. Here the connection is closed.
    """

    def __init__(self, metadata: Mapping[str, str], *, hops: int = 1) -> None:
        class Handler(_Handler):
            content = metadata
            distance = hops
            tokens: dict[str, float] = {}  # noqa: RUF012 - one per server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> MetadataServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handler(BaseHTTPRequestHandler):
    content: Mapping[str, str]
    distance: int
    tokens: dict[str, float]

    def _option(self, name: str) -> str:
        return self.content.get(_OPTION + name, "")

    def do_PUT(self) -> None:
        """Hand out a session token."""
        if self._option("http-endpoint") == "disabled":
            return self._answer(403)
        if self.path != "/latest/api/token":
            return self._answer(404)
        if self.headers.get("X-Forwarded-For"):
            return self._answer(403)
        ttl = self.headers.get(_TTL, "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= _TTL_MAX_S:
            return self._answer(400)
        if self.distance > int(self._option("hop-limit") or 1):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        token = secrets.token_urlsafe(40)
        self.tokens[token] = time.monotonic() + int(ttl)
        return self._answer(200, token.encode(), {_TTL: ttl})

    def do_GET(self) -> None:
        if self._option("http-endpoint") == "disabled":
            return self._answer(403)
        token = self.headers.get(_TOKEN)
        is_valid = token is not None and self.tokens.get(token, 0) > time.monotonic()
        if (token is None and self._option("http-tokens") == "required") or (token is not None and not is_valid):
            return self._answer(401)
        found = _find(self.content, self.path)
        return self._answer(404) if found is None else self._answer(200, found)

    def _answer(self, status: int, data: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""


def _find(content: Mapping[str, str], path: str) -> bytes | None:
    """Return a value, or the names below a path; None for what is not there (without user data, `user-data` is not)."""
    root, _, name = path.lstrip("/").partition("/")
    if not root:
        return "\n".join(_VERSIONS).encode()
    if root not in _VERSIONS:
        return None
    if name == USER_DATA:
        return base64.b64decode(content[USER_DATA]) or None
    if name in content and not name.startswith(_OPTION):
        return content[name].encode()
    below = name.rstrip("/") + "/"
    names = {key.removeprefix(below) for key in content if key.startswith(below) and not key.startswith(_OPTION)}
    shown = {rest.split("/")[0] + ("/" if "/" in rest else "") for rest in names if rest}
    return "\n".join(sorted(shown)).encode() or None
