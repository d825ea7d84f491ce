"""What the driver loads and asks for: boto3 at the first request, and only what the documents name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needed
from tests.servers.ec2_asking import client

ROOT = Path(__file__).parents[3]
_CONNECT = """
import json, sys
from pathlib import Path
from clouds import aws
aws.connect(Path(sys.argv[1]), {"region": "us-east-1"}).limits
print(json.dumps(sorted(sys.modules)))
"""


def test_connecting_loads_no_library(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CONNECT, str(tmp_path)]
    loaded = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert {name.split(".")[0] for name in loaded} & {"boto3", "botocore", "s3transfer", "urllib3"} == set()


@pytest.mark.server
def test_each_request_stands_in_the_policy_of_the_documents() -> None:
    from tests.servers.ec2 import serve

    with serve() as server:
        actions = client(server).meta.method_to_api_mapping
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "clouds/aws").glob("*.py"))
    asked = {actions[word] for word in re.findall(r'"([a-z_]+)"', source) if word in actions}
    assert asked == {action.removeprefix("ec2:") for action in needed.granted() if action.startswith("ec2:")}
