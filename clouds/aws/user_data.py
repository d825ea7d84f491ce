"""What a machine is told: one piece of user data, which cloud-init runs at each boot and in which the guest finds its facts.

Its head holds the facts, a comment line each (templates/machine/facts-ec2.sh.j2 reads them there). Its body starts the script.
cloud-init runs a boothook at every boot, before anything else of its own
(docs.aws.amazon.com/pcs/latest/userguide/working-with_ec2-user-data_early-boot.html), so the script waits for cloud-init's last
stage, which may change apt's sources. cloud-init takes user data that gzip has compressed.
"""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Mapping

from clouds.errors import InvalidError

LIMIT_BYTES = 16384
"""The most that EC2 takes, before base64 (docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html)."""
SCRIPT_BYTES = LIMIT_BYTES - 704
"""The most that a script may take, compressed: less what starts it, and the facts of a test machine (some 670 bytes)."""
_BEGIN = "#cloud-boothook\n#!/bin/bash\n"
_FACT = "#fact "
_END = "BAKEHOUSE_END_OF_SCRIPT"
_RUN = "/run/bakehouse"


def build(facts: Mapping[str, str], script: str) -> bytes:
    """Return the user data with these facts and this script. InvalidError: it is larger than EC2 takes."""
    return _packed(_BEGIN + _head(facts) + (_body(script) if script else ""))


def facts_of(data: bytes) -> dict[str, str]:
    """Return the facts in user data."""
    head, _ = _split(_unpacked(data))
    words = (shlex.split(line.removeprefix(_FACT))[0] for line in head.splitlines())
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def script_of(data: bytes) -> str:
    """Return the script in user data; "" for none."""
    _, body = _split(_unpacked(data))
    return body.partition(f"'{_END}'\n")[2].partition(f"{_END}\n")[0]


def with_facts(data: bytes, facts: Mapping[str, str]) -> bytes:
    """Return user data with facts laid over those that it holds."""
    _, body = _split(_unpacked(data))
    return _packed(_BEGIN + _head({**facts_of(data), **facts}) + body)


def from_base64(text: str) -> bytes:
    """Return user data as EC2 returns it (DescribeInstanceAttribute)."""
    return base64.b64decode(text)


def _head(facts: Mapping[str, str]) -> str:
    return "".join(f"{_FACT}{key}={shlex.quote(value)}\n" for key, value in facts.items())


def _body(script: str) -> str:
    """Return the part that writes a script where it lasts until the power goes, and starts it."""
    if _END in script.splitlines():
        raise InvalidError(f"the script holds the line {_END}", next_step="Rename that line in the recipe.")
    whole = script if script.endswith("\n") else f"{script}\n"
    return (
        f"umask 077\nmkdir --parents {_RUN}\nchmod 0755 {_RUN}\n"
        f"cat >{_RUN}/script <<'{_END}'\n{whole}{_END}\n"
        "systemd-run --no-block --quiet --unit=bakehouse-script --property=After=cloud-final.service"
        f" --property=After=bakehouse-identity.service bash {_RUN}/script\n"
    )


def _packed(text: str) -> bytes:
    data = gzip.compress(text.encode(), mtime=0)
    if len(data) > LIMIT_BYTES:
        raise InvalidError(
            f"the script takes {len(data)} bytes, compressed; EC2 passes {LIMIT_BYTES} bytes to a machine at the most",
            next_step="Put long test scripts into files of the image (a `copy` step), and let the tests run those.",
        )
    return data


def _unpacked(data: bytes) -> str:
    """Return user data as text; somebody else's may be anything."""
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode(errors="replace")


def _split(text: str) -> tuple[str, str]:
    """Return the lines with the facts, and what follows them."""
    rest = text.removeprefix(_BEGIN)
    head = ""
    while rest.startswith(_FACT):
        line, _, rest = rest.partition("\n")
        head += f"{line}\n"
    return head, rest
