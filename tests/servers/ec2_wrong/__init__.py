"""Wrong requests to the EC2 server, and what the real service says to each.

Each row names where the refusal is known from: AWS's documents, a public thread that quotes it, or the service model of botocore,
from which it follows. Placeholders (`{on}`) stand for the things of the town in test_ec2_refusals.py.
"""

from __future__ import annotations

from tests.servers.ec2_wrong.disks import DISKS
from tests.servers.ec2_wrong.forms import FORM, IDS
from tests.servers.ec2_wrong.launches import LAUNCHES
from tests.servers.ec2_wrong.machines import MACHINES
from tests.servers.ec2_wrong.networks import NETWORKS
from tests.servers.ec2_wrong.rows import Wrong

TABLE = [*FORM, *IDS, *LAUNCHES, *MACHINES, *DISKS, *NETWORKS]

__all__ = ["TABLE", "Wrong"]
