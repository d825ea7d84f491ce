"""Service Quotas, and the processors of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers.ec2_asking import boot, client, refused, shown

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

pytestmark = pytest.mark.server


def test_quota_of_on_demand_instances_is_that_of_the_switch(ec2: Ec2) -> None:
    ec2.switches.vcpus = 5
    answer = client(ec2, "service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")
    assert answer["Quota"]["Value"] == 5.0


def test_other_quotas_are_not_there(ec2: Ec2) -> None:
    asked = client(ec2, "service-quotas").get_service_quota
    assert refused(asked, ServiceCode="ec2", QuotaCode="L-00000000") == "NoSuchResourceException"


def test_an_instance_tells_its_processors(ec2: Ec2) -> None:
    api = client(ec2)
    assert shown(api, boot(ec2, api))["CpuOptions"] == {"CoreCount": 1, "ThreadsPerCore": 2}


def test_a_dry_run_of_a_security_group_makes_none(ec2: Ec2) -> None:
    api = client(ec2)
    before = len(api.describe_security_groups()["SecurityGroups"])
    assert refused(api.create_security_group, GroupName="one", Description="one", DryRun=True) == "DryRunOperation"
    assert len(api.describe_security_groups()["SecurityGroups"]) == before
