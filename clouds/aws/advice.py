"""What to do next when AWS refuses: by the code of the refusal, and by what its message names.

Texts as in docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and
docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html (explicit deny).
"""

from __future__ import annotations

import re

_ADVICE = (
    (
        "",
        r"explicit deny in a service control policy",
        "A policy of your organization forbids this: ask its administrator to except this account, or use another --region.",
    ),
    ("", r"explicit deny in a", "A policy forbids this explicitly, whatever else allows it: ask your administrator to change it."),
    (
        "ValidationException|AccessDeniedException",
        r"(?i)execution role|pass ?role",
        "See scheduler_role in your settings: EventBridge Scheduler must be able to assume that role, and you to pass it "
        "(docs/permissions.md). A role that was just created works after a few minutes.",
    ),
    (
        "ServiceQuotaExceededException",
        "",
        "Delete schedules that you do not need, or ask for more at "
        "https://console.aws.amazon.com/servicequotas/home/services/scheduler/quotas.",
    ),
    (
        r"AuthFailure\.ServiceLinkedRoleCreationNotPermitted",
        "",
        "Let an administrator of the account run once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com. "
        "Or leave --spot out.",
    ),
    (
        "AddressLimitExceeded",
        "",
        "Release an address that you do not need (./inv delete-address NAME, or aws ec2 release-address), or ask for more at "
        "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas.",
    ),
    (
        r"Gateway\.NotAttached",  # hashicorp/terraform-provider-aws#2181
        "",
        "Choose a --subnet of a network with an internet gateway, or leave --static-ip out.",
    ),
    (
        "IncorrectSpotRequestState",
        "",
        "Try again in a few minutes: the spot request of a machine that was just stopped allows no start yet.",
    ),
    (
        "UnauthorizedOperation|AccessDenied|AccessDeniedException",
        "",
        "Ask for the permissions in docs/permissions.md.",
    ),
    (
        "RequestExpired|SignatureDoesNotMatch",
        "",
        "See that this computer's clock is right, and log in anew: aws sso login, or aws configure",
    ),
    ("ExpiredToken|ExpiredTokenException", "", "Your credentials have expired; log in anew: aws sso login"),
    (
        "OptInRequired",
        "",
        "Finish signing up for EC2, or enable the region: https://console.aws.amazon.com/billing/home#/account",
    ),
    (
        "PendingVerification",
        "",
        "AWS is still verifying your account for this region: try again in some hours, or another --region.",
    ),
    (
        "AuthFailure",
        "not able to validate",
        "See that the credentials are right (aws sts get-caller-identity) and that the region is enabled for the account "
        "(aws account list-regions); else choose another --region.",
    ),
    (
        "VPCIdNotSpecified|DefaultVpcDoesNotExist|MissingInput",
        "",
        "Make a default network (aws ec2 create-default-vpc), or name a --subnet.",
    ),
    (r"InvalidSubnetID\.NotFound|InvalidSubnet", "", "Choose a --subnet of this region: aws ec2 describe-subnets"),
    ("InvalidParameterValue", "availability zone", "Choose a --zone of this region: aws ec2 describe-availability-zones"),
    (
        "InvalidParameterValue|InvalidInstanceType",
        r"[Ii]nstance ?[Tt]ype|architecture",
        "Choose a --type of this region, for amd64: aws ec2 describe-instance-types",
    ),
    (
        "InvalidParameterValue|InvalidIamInstanceProfile.*",
        r"(?i)iam ?instance ?profile",
        "See instance_profile in your settings: aws iam list-instance-profiles",
    ),
    (
        "InvalidParameterValue|InvalidParameterCombination|UnknownVolumeType",
        r"(?i)volume|iops",
        "Choose another --disk-type: gp3, gp2.",
    ),
    (r"InvalidAMIID\..*", "", "Take the newest base: ./inv bake --refresh; or choose another image: ./inv images"),
    ("OperationNotPermitted", "disableApi", "Somebody protects it: aws ec2 modify-instance-attribute --no-disable-api-termination"),
    (
        "UnsupportedOperation",
        "one-time Spot",
        "A spot machine that was launched with --on-preempt delete cannot be stopped; delete it instead.",
    ),
)
"""Patterns of a code and of a message, and what to do; the first that fits both holds."""


def advice(code: str, message: str) -> str:
    """Return what to do about a refusal; "" for none of these."""
    for codes, pattern, next_step in _ADVICE:
        if (not codes or re.fullmatch(codes, code)) and re.search(pattern, message):
            return next_step
    return ""
