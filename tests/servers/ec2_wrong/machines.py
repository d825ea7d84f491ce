"""Requests that the state of a machine forbids."""

from __future__ import annotations

from tests.servers.ec2_wrong.rows import API, CODES, THREAD, ask

MACHINES = [
    ask(
        "start of a terminated machine",
        CODES,
        "StartInstances",
        "IncorrectInstanceState",
        "from which it can be started",
        InstanceId__1="{gone}",
    ),
    ask(
        "stop of a terminated machine",
        THREAD + "ansible-collections/amazon.aws/issues/146",
        "StopInstances",
        "IncorrectInstanceState",
        InstanceId__1="{gone}",
    ),
    ask(
        "stop of a pending machine",
        THREAD + "cloud-custodian/cloud-custodian/pull/6014",
        "StopInstances",
        "IncorrectInstanceState",
        InstanceId__1="{new}",
    ),
    ask(
        "stop of a one-time spot machine",
        THREAD + "diodonfrost/terraform-aws-lambda-scheduler-stop-start/pull/8",
        "StopInstances",
        "UnsupportedOperation",
        "associated with a one-time Spot Instance request",
        InstanceId__1="{spot}",
    ),
    ask("reboot of a stopped machine", CODES, "RebootInstances", "IncorrectInstanceState", InstanceId__1="{off}"),
    ask(
        "end of a protected machine",
        THREAD + "rebuy-de/aws-nuke/issues/279",
        "TerminateInstances",
        "OperationNotPermitted",
        InstanceId__1="{kept}",
    ),
    ask(
        "protection of a spot machine",
        THREAD + "cloud-custodian/cloud-custodian/issues/2083",
        "ModifyInstanceAttribute",
        "UnsupportedOperation",
        "is not supported for spot instances",
        InstanceId="{spot}",
        DisableApiTermination__Value="true",
    ),
    ask(
        "user data of a running machine",
        API + "API_ModifyInstanceAttribute.html",
        "ModifyInstanceAttribute",
        "IncorrectInstanceState",
        "is not in the 'stopped' state",
        InstanceId="{on}",
        UserData__Value="eA==",
    ),
    ask(
        "latest console of a Xen machine",
        API + "API_GetConsoleOutput.html",
        "GetConsoleOutput",
        "UnsupportedOperation",
        InstanceId="{xen}",
        Latest="true",
    ),
]
