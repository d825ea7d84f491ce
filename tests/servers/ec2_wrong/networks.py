"""Wrong requests for groups, networks, addresses, keys and tags."""

from __future__ import annotations

from tests.servers.ec2_wrong.rows import API, CODES, GUIDE, NONE, THREAD, ask

NETWORKS = [
    ask(
        "group in use",
        THREAD + "hashicorp/terraform-provider-aws/issues/1671",
        "DeleteSecurityGroup",
        "DependencyViolation",
        "has a dependent object",
        GroupId="{sg}",
    ),
    ask(
        "default group deleted", CODES, "DeleteSecurityGroup", "CannotDelete", "cannot be deleted by a user", GroupId="{default_sg}"
    ),
    ask(
        "group of the same name",
        THREAD + "terraform-community-modules/tf_aws_sg/issues/53",
        "CreateSecurityGroup",
        "InvalidGroup.Duplicate",
        GroupName="web",
        GroupDescription="any",
    ),
    ask("group without an id", API + "API_DeleteSecurityGroup.html", "DeleteSecurityGroup", "MissingParameter"),
    ask(
        "subnet in use",
        THREAD + "chef-boneyard/chef-provisioning-aws/issues/498",
        "DeleteSubnet",
        "DependencyViolation",
        "has dependencies and cannot be deleted",
        SubnetId="{sub}",
    ),
    ask("network in use", CODES, "DeleteVpc", "DependencyViolation", VpcId="{vpc}"),
    ask("address in use", API + "API_ReleaseAddress.html", "ReleaseAddress", "InvalidIPAddress.InUse", AllocationId="{eip}"),
    ask(
        "one address too many",
        THREAD + "opstrace/opstrace/issues/273",
        "AllocateAddress",
        "AddressLimitExceeded",
        "maximum number of addresses",
    ),
    ask(
        "key of the same name",
        CODES,
        "ImportKeyPair",
        "InvalidKeyPair.Duplicate",
        KeyName="key",
        PublicKeyMaterial="c3NoLWVkMjU1MTkgQUFBQQ==",
    ),
    ask("key that is none", CODES, "ImportKeyPair", "InvalidKey.Format", KeyName="other", PublicKeyMaterial="bm8="),
    ask(
        "reserved tag",
        THREAD + "AndrewFarley/AWS-Automated-Daily-Instance-AMI-Snapshots/issues/7",
        "CreateTags",
        "InvalidParameterValue",
        "Tag keys starting with 'aws:' are reserved for internal use",
        ResourceId__1="{on}",
        Tag__1__Key="aws:owner",
        Tag__1__Value="x",
    ),
    ask(
        "tag value too long",
        GUIDE + "Using_Tags.html",
        "CreateTags",
        "InvalidParameterValue",
        "255",
        ResourceId__1="{on}",
        Tag__1__Key="a",
        Tag__1__Value="x" * 256,
    ),
    ask(
        "tag of nothing",
        CODES,
        "CreateTags",
        "InvalidInstanceID.NotFound",
        ResourceId__1=f"i-{NONE}",
        Tag__1__Key="a",
        Tag__1__Value="x",
    ),
]
