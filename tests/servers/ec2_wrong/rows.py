"""The form of the rows, and the sources that many of them have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MODEL = "https://github.com/boto/botocore/tree/develop/botocore/data/ec2/2016-11-15"
API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/"
CODES = API + "errors-overview.html"
GUIDE = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/"
THREAD = "https://github.com/"
NONE = "00000000000000000"
LAUNCH: dict[str, Any] = {"ImageId": "{ami}", "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong request: `params` as on the wire, and what the refusal says."""

    title: str
    source: str
    action: str
    params: dict[str, Any]
    code: str
    message: str = ""
    status: int = 400


def run(title: str, source: str, code: str, message: str = "", *, without: str = "", **changes: Any) -> Wrong:
    """Return a wrong RunInstances; a double underscore in a name is a dot."""
    wanted = {**LAUNCH, **{name.replace("__", "."): value for name, value in changes.items()}}
    wanted.pop(without, None)
    return Wrong(title, source, "RunInstances", wanted, code, message)


def ask(title: str, source: str, action: str, code: str, message: str = "", **params: Any) -> Wrong:
    return Wrong(title, source, action, {name.replace("__", "."): value for name, value in params.items()}, code, message)
