"""Why Compute Engine rejects a new machine, by literal answers from public threads, and the next step for the user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clouds.driver import Wishes
from clouds.errors import CapacityError, CloudError, ConflictError, InvalidError, NotFoundError, TimedOutError, UnreachableError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine
from clouds.undo import Undo
from tests.clouds.gcp.stub import BASE, NETWORK, SPEC, Reply, Stub, absent, instance, operation, refusal, told, unreachable

ZONE = "zones/us-central1-a"
INSERT, RULES = f"POST {ZONE}/instances", "POST global/firewalls"
RULE = "global/firewalls/bakehouse-lab-ssh"
THERE = f"GET {ZONE}/instances/lab"
NO_NETWORK = refusal(
    400,
    "invalid",
    "Invalid value for field 'resource.networkInterfaces[0].network': 'projects/demo/global/networks/bakehouse'. "
    "The referenced network resource cannot be found.",
)
"""google/anthos-microk8s#1."""
TAKEN = refusal(409, "alreadyExists", f"The resource 'projects/demo/{ZONE}/instances/lab' already exists")
RULE_TAKEN = refusal(409, "alreadyExists", f"The resource 'projects/demo/{RULE}' already exists")
GLOBAL = {"scope": "global"}
BUILDER = replace(SPEC, ports=())


def stub(**more: Any) -> Stub:
    """Return a project with our network, in which everything that a launch asks for is granted."""
    replies: dict[str, Reply | list[Reply]] = {
        "GET global/networks/bakehouse": NETWORK,
        "POST global/networks": operation("net", "global/networks/bakehouse", **GLOBAL),
        "POST global/operations/net/wait": operation("net", "global/networks/bakehouse", **GLOBAL),
        RULES: operation("rule", RULE, **GLOBAL),
        "POST global/operations/rule/wait": operation("rule", RULE, **GLOBAL),
        f"DELETE {RULE}": operation("unrule", RULE, **GLOBAL),
        "POST global/operations/unrule/wait": operation("unrule", RULE, **GLOBAL),
        INSERT: operation("make", f"{ZONE}/instances/lab"),
        "GET zones": {"items": [{"name": "us-central1-a"}, {"name": "europe-west1-b"}, {"name": "europe-west1-c"}]},
    }
    return Stub(replies | more)


# The network


def test_network_is_made_before_the_first_machine_of_a_project_is_asked_for(tmp_path: Path) -> None:
    there: list[Reply] = [absent("global/networks/bakehouse"), NETWORK]
    service = stub(
        **{"GET global/networks/bakehouse": there, INSERT: lambda: NO_NETWORK if len(there) > 1 else operation("make", "x")}
    )
    service.cloud(tmp_path).boot(BUILDER)
    assert service.asked == [
        "GET global/networks/bakehouse",
        "POST global/networks",
        "POST global/operations/net/wait",
        INSERT,
    ]


def test_network_is_asked_for_once_in_a_process(tmp_path: Path) -> None:
    service = stub()
    cloud = service.cloud(tmp_path)
    cloud.boot(BUILDER)
    cloud.boot(replace(BUILDER, name="second", token="t-2"))
    assert service.asked.count("GET global/networks/bakehouse") == 1


def test_network_that_is_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    there: list[Reply] = [NETWORK, absent("global/networks/bakehouse")]
    service = stub(**{"GET global/networks/bakehouse": there, INSERT: [NO_NETWORK, operation("make", "x")]})
    service.cloud(tmp_path).boot(BUILDER)
    assert service.asked.count("POST global/networks") == 1


def test_network_that_another_command_is_making_is_waited_for(tmp_path: Path) -> None:
    half: Reply = {**NETWORK, "subnetworks": []}
    service = stub(**{"GET global/networks/bakehouse": [half, half, NETWORK]})
    service.cloud(tmp_path).boot(BUILDER)
    assert service.asked == ["GET global/networks/bakehouse", "GET zones", *["GET global/networks/bakehouse"] * 2, INSERT]


def test_region_that_does_not_exist_is_reported_with_the_nearest_one_instead_of_waiting_for_its_subnet(tmp_path: Path) -> None:
    service = stub()
    with pytest.raises(InvalidError, match=r"^unknown region 'europe-wst1' of Google Cloud$") as refused:
        service.cloud(tmp_path, region="europe-wst1").boot(BUILDER)
    assert refused.value.next_step == "Did you mean europe-west1?"
    assert service.asked == ["GET global/networks/bakehouse", "GET zones"]


def test_network_that_never_comes_to_a_region_is_told_with_where_to_look(tmp_path: Path) -> None:
    service = stub(**{"GET global/networks/bakehouse": {**NETWORK, "subnetworks": []}})
    service.replies["GET zones"] = refusal(403, "forbidden", "Required 'compute.zones.list' permission")  # and needs no answer
    with pytest.raises(TimedOutError, match="subnet of network 'bakehouse' in us-central1: timed out after 180 s") as late:
        service.cloud(tmp_path).boot(BUILDER)
    assert "gcloud compute networks subnets list --network bakehouse" in late.value.next_step


def test_network_of_the_user_is_never_made(tmp_path: Path) -> None:
    service = stub(**{INSERT: NO_NETWORK})
    with pytest.raises(InvalidError) as refused:
        service.cloud(tmp_path, network="corporate").boot(BUILDER)
    assert "gcloud compute networks list" in refused.value.next_step
    assert "POST global/networks" not in service.asked


# The image


def no_image(source: str) -> Any:
    """docker-archive/infrakit.gcp#1."""
    field = "Invalid value for field 'resource.disks[0].initializeParams.sourceImage'"
    url = "https://compute.googleapis.com/compute/v1/" + source
    return refusal(400, "invalid", f"{field}: '{url}'. The referenced image resource cannot be found.")


def test_image_that_is_gone_is_told_although_the_code_is_that_of_a_wrong_request(tmp_path: Path) -> None:
    image = "global/images/tiny-0-1-0-1"
    service = stub(**{INSERT: no_image(f"projects/demo/{image}"), f"GET {image}": absent(image)})
    with pytest.raises(NotFoundError, match=r"image 'tiny-0\.1\.0-1' not found on gcp"):
        service.cloud(tmp_path).boot(BUILDER)


def test_image_that_is_there_after_all_leaves_the_refusal_as_it_is(tmp_path: Path) -> None:
    image = "global/images/tiny-0-1-0-1"
    service = stub(**{INSERT: no_image(f"projects/demo/{image}"), f"GET {image}": {"name": "tiny-0-1-0-1"}})
    with pytest.raises(InvalidError, match="sourceImage"):
        service.cloud(tmp_path).boot(BUILDER)


def test_base_that_is_gone_leads_to_the_newest(tmp_path: Path) -> None:
    base = "projects/debian-cloud/global/images/debian-13-trixie-v20250101"
    service = stub(**{INSERT: no_image(base), f"GET /compute/v1/{base}": absent(base)})
    with pytest.raises(NotFoundError) as refused:
        service.cloud(tmp_path).boot(replace(BUILDER, source=base))
    assert refused.value.next_step == "Use the newest base: ./inv bake --refresh"


# Names that are taken


def test_launch_of_a_name_that_is_taken_leaves_the_rule_of_the_machine_that_has_it(tmp_path: Path) -> None:
    theirs = instance("lab", labels={"token": "t-theirs"}, tags={"items": ["bakehouse-lab-ssh"]})
    rule = {"name": "bakehouse-lab-ssh", "description": "machine=lab token=t-theirs"}
    service = stub(**{RULES: RULE_TAKEN, f"GET {RULE}": rule, INSERT: TAKEN, THERE: theirs})
    with pytest.raises(ConflictError, match="machine name 'lab' is taken"), Undo() as undo:
        create_machine(service.cloud(tmp_path), Ledger(tmp_path / "ledger"), undo, SPEC)
    assert not any(key.startswith("DELETE") for key in service.asked)


def test_launch_of_a_name_that_is_taken_in_a_zone_that_no_list_has_leaves_that_machine_alone(tmp_path: Path) -> None:
    """The rule that was made on the way goes, by its token; the machine and its own rule stay."""
    theirs = instance("lab", labels={"token": "t-theirs"}, tags={"items": ["bakehouse-lab-ssh"]})
    lists = unreachable("us-central1-a")
    service = stub(**{INSERT: TAKEN, THERE: theirs, "GET aggregated/instances": lists})
    with pytest.raises(ConflictError, match="machine 'lab' already exists on gcp"), Undo() as undo:
        create_machine(service.cloud(tmp_path), Ledger(tmp_path / "ledger"), undo, SPEC)
    assert [key for key in service.asked if key.startswith("DELETE")] == [f"DELETE {RULE}"]


def test_undo_of_a_launch_whose_machine_is_absent_removes_only_rules_of_its_own_token(tmp_path: Path) -> None:
    rules = {
        "items": [
            {"name": "bakehouse-lab-ssh", "description": "machine=lab token=t-theirs"},
            {"name": "bakehouse-lab-https", "description": "machine=lab token=t-mine"},
        ]
    }
    https = "global/firewalls/bakehouse-lab-https"
    service = stub(
        **{
            INSERT: refusal(400, "invalid", "no"),
            THERE: absent(f"{ZONE}/instances/lab"),
            "GET aggregated/instances": {"items": {}},
            "GET global/firewalls": rules,
            f"DELETE {https}": operation("unrule", https, **GLOBAL),
        }
    )
    cloud = service.cloud(tmp_path)
    with pytest.raises(InvalidError):
        cloud.boot(SPEC)
    cloud._machines.delete("lab")
    assert [key for key in service.asked if key.startswith("DELETE")] == [f"DELETE {https}"]


def test_delete_of_a_name_that_this_process_has_not_launched_removes_no_rules(tmp_path: Path) -> None:
    service = stub(**{"GET aggregated/instances": {"items": {}}})
    assert service.cloud(tmp_path)._machines.delete("lab") == ""
    assert service.asked == ["GET aggregated/instances"]


def test_rule_that_was_made_for_a_name_that_turns_out_to_be_taken_is_removed(tmp_path: Path) -> None:
    service = stub(**{INSERT: TAKEN, THERE: instance("lab", labels={})})
    with pytest.raises(ConflictError):
        service.cloud(tmp_path).boot(SPEC)
    assert service.asked.count(f"DELETE {RULE}") == 1


def test_first_rule_goes_when_the_second_one_is_another_machine_s(tmp_path: Path) -> None:
    https, theirs = "global/firewalls/bakehouse-lab-https", {"description": "machine=lab token=t-theirs"}
    service = stub(**{RULES: [operation("rule", RULE, **GLOBAL), RULE_TAKEN], f"GET {https}": theirs, THERE: instance("lab")})
    with pytest.raises(ConflictError):
        service.cloud(tmp_path).boot(replace(SPEC, wishes=Wishes(https_port=443)))
    assert [key for key in service.asked if key.startswith("DELETE")] == [f"DELETE {RULE}"]


def test_rule_that_cannot_be_removed_then_is_told(tmp_path: Path) -> None:
    denied = refusal(403, "forbidden", "Required 'compute.firewalls.delete' permission")
    service = stub(**{INSERT: TAKEN, THERE: instance("lab", labels={}), f"DELETE {RULE}": denied})
    with pytest.raises(ConflictError) as raised:
        service.cloud(tmp_path).boot(SPEC)
    [note] = raised.value.__notes__
    assert note.startswith("left behind: firewall rule 'bakehouse-lab-ssh'")
    assert note.endswith("./inv gc")


def test_name_that_is_taken_by_the_same_token_is_the_same_machine(tmp_path: Path) -> None:
    rule = {
        "name": "bakehouse-lab-ssh",
        "description": "machine=lab token=t-mine",
        "network": f"{BASE}global/networks/bakehouse",
        "direction": "INGRESS",
        "priority": 800,
        "sourceRanges": ["203.0.113.7/32"],
        "targetTags": ["bakehouse-lab-ssh"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
    }
    service = stub(**{RULES: RULE_TAKEN, f"GET {RULE}": rule, INSERT: TAKEN, THERE: instance("lab", labels={"token": "t-mine"})})
    assert service.cloud(tmp_path).boot(SPEC).operation == ""


def test_rule_of_a_machine_in_a_zone_that_cannot_be_reached_is_not_taken_over(tmp_path: Path) -> None:
    rule = {"name": "bakehouse-lab-ssh", "description": "machine=lab token=t-theirs"}
    lists = unreachable("us-east1-b")
    service = stub(
        **{RULES: RULE_TAKEN, f"GET {RULE}": rule, THERE: absent(f"{ZONE}/instances/lab"), "GET aggregated/instances": lists}
    )
    with pytest.raises(UnreachableError, match="us-east1-b"):
        service.cloud(tmp_path).boot(SPEC)
    assert f"DELETE {RULE}" not in service.asked


# Machine types


def no_type(kind: str) -> Any:
    """taskcluster/community-tc-config#75."""
    message = (
        f"Invalid value for field 'resource.machineType': '{ZONE}/machineTypes/{kind}'. "
        f"Machine type with name '{kind}' does not exist in zone 'us-central1-a'."
    )
    return refusal(400, "invalid", message)


def offers(*zones: str) -> dict[str, Any]:
    return {
        "items": {f"zones/{zone}": {"machineTypes": [{"name": "c4-standard-2", "zone": f"{BASE}zones/{zone}"}]} for zone in zones}
    }


WITH_TYPE = replace(BUILDER, wishes=Wishes(machine_type="c4-standard-2"))


def test_zones_of_the_region_that_offer_the_type_are_named_as_after_a_stock_out(tmp_path: Path) -> None:
    found = offers("us-central1-f", "us-central1-b", "us-east1-b")
    service = stub(**{INSERT: no_type("c4-standard-2"), "GET aggregated/machineTypes": found})
    with pytest.raises(CapacityError) as refused:
        service.cloud(tmp_path).boot(WITH_TYPE)
    assert (refused.value.zone, refused.value.zones) == ("us-central1-a", ("us-central1-b", "us-central1-f"))
    assert service.queries["GET aggregated/machineTypes"]["filter"] == ['name="c4-standard-2"']


def test_type_that_only_other_regions_offer_is_told_with_their_zones(tmp_path: Path) -> None:
    service = stub(**{INSERT: no_type("c4-standard-2"), "GET aggregated/machineTypes": offers("us-east1-b")})
    with pytest.raises(InvalidError) as refused:
        service.cloud(tmp_path).boot(WITH_TYPE)
    assert refused.value.next_step == "Choose another --zone: 'c4-standard-2' is available in us-east1-b."


def test_type_that_no_zone_offers_is_told_with_how_to_find_one(tmp_path: Path) -> None:
    service = stub(**{INSERT: no_type("c4-standard-2"), "GET aggregated/machineTypes": {"items": {}}})
    with pytest.raises(InvalidError) as refused:
        service.cloud(tmp_path).boot(WITH_TYPE)
    assert "gcloud compute machine-types list" in refused.value.next_step


@pytest.mark.parametrize(
    ("kind", "next_step"),
    [("e2-standart-2", "Did you mean e2-standard-2"), ("xyz", "Choose a --type: gcloud compute machine-types list")],
)
def test_machine_type_that_no_zone_has_is_found_before_anything_is_created(tmp_path: Path, kind: str, next_step: str) -> None:
    service = stub(**{"GET aggregated/machineTypes": {"items": {}}})
    with pytest.raises(InvalidError, match=f"^unknown machine type '{kind}'$") as refused:
        service.cloud(tmp_path).check_options(Wishes(machine_type=kind))
    assert refused.value.next_step.startswith(next_step)
    assert service.asked == ["GET aggregated/machineTypes"]


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("c4-standard-2", offers("us-east1-b")),
        ("n2-custom-4-8192", {"items": {}}),
        ("c4-standard-2", unreachable("us-east1-b")),
        ("c4-standard-2", refusal(403, "forbidden", "Required 'compute.machineTypes.list' permission")),
    ],
)
def test_machine_type_that_some_zone_may_have_is_accepted(tmp_path: Path, kind: str, reply: Reply) -> None:
    service = stub(**{"GET aggregated/machineTypes": reply})
    service.cloud(tmp_path).check_options(Wishes(machine_type=kind))
    service.cloud(tmp_path).check_options(Wishes())
    assert service.asked == ["GET aggregated/machineTypes"]


# What to do


def field(name: str, value: str, said: str) -> str:
    return f"Invalid value for field '{name}': '{value}'. {said}"


@pytest.mark.parametrize(
    ("status", "reason", "message", "advice"),
    [
        (400, "invalid", field("zone", "us-west1", "Unknown zone."), "--region that exists: gcloud compute zones list"),
        (
            404,
            "notFound",
            "The resource 'projects/demo/zones/us-x1-a' was not found",
            "--region that exists: gcloud compute zones list",
        ),
        (404, "notFound", "The resource 'projects/demo/regions/us-x1' was not found", "--region: gcloud compute regions list"),
        (
            404,
            "notFound",
            "The resource 'projects/demo/zones/us-central1-a/diskTypes/pd-fast' was not found",
            "--disk-type that the zone and the machine type support",
        ),
        (
            400,
            "invalid",
            field(
                "resource.disks[0].initializeParams.diskType",
                "zones/us-central1-a/diskTypes/x",
                "The referenced diskType resource cannot be found.",
            ),
            "--disk-type that the zone and the machine type support",
        ),
        (
            400,
            "badRequest",
            "[pd-balanced] features are not compatible for creating instance.",
            "--disk-type that the zone and the machine type support",
        ),
        (
            400,
            "invalid",
            field(
                "resource.networkInterfaces[0].subnetwork",
                "projects/demo/regions/us-central1/subnetworks/x",
                "The referenced subnetwork resource cannot be found.",
            ),
            "gcloud compute networks subnets list",
        ),
        (
            400,
            "invalid",
            field("resource.networkInterfaces[0]", "", "Subnetwork should be specified for custom subnetmode network"),
            "gcloud compute networks subnets list",
        ),
        (
            412,
            "conditionNotMet",
            "Constraint constraints/compute.vmExternalIpAccess violated for project 111111111111. Add instance projects/demo/zones/"
            "europe-west3-c/instances/lab to the constraint to use external IP with it.",
            "use --no-public-ip",
        ),
        (
            412,
            "conditionNotMet",
            "Constraint constraints/compute.requireShieldedVm violated for project projects/demo.",
            "A policy of",
        ),
    ],
    ids=["zone", "zone-404", "region", "disk-type-404", "disk-type", "disk-type-of-series", "subnet", "custom", "no-ip", "policy"],
)
def test_each_refusal_of_a_value_says_what_to_change(status: int, reason: str, message: str, advice: str) -> None:
    assert advice in told(refusal(status, reason, message)).next_step


def test_permission_that_is_missing_is_not_taken_for_a_wrong_value() -> None:
    message = "Required 'compute.subnetworks.use' permission for 'projects/demo/regions/us-central1/subnetworks/x'"
    assert "--subnet" not in told(refusal(403, "forbidden", message)).next_step


def test_address_of_a_wrong_name_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    service = stub()
    with pytest.raises(CloudError, match="address 'My_Address': not a valid name") as refused:
        service.cloud(tmp_path).boot(replace(BUILDER, wishes=Wishes(static_ip="My_Address")))
    assert "--static-ip" in refused.value.next_step
    assert INSERT not in service.asked
