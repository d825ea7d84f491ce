"""Wrong requests to the Compute Engine server: each is refused as the real service refuses it, and leaves nothing behind.

Each row names where the refusal is known from: the service's documentation, a public thread that quotes it, or
Google's discovery document, from which it follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.servers.asking import REGION, ZONE, ask, boot, boot_disk, done, get, machine
from tests.servers.gce import Gce, serve

SCHEMA = "discovery document"
DOCS = "https://cloud.google.com/compute/docs/"
THREAD = "https://github.com/"
INSTANCES = f"{ZONE}/instances"
BOOT = "resource.disks[0].initializeParams"
NIL = "00000000-0000-0000-0000-000000000000"
LONG = "x" * (256 * 1024 + 1)


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong request, and what the real service says to it."""

    title: str
    source: str
    method: str
    path: str
    body: Any
    status: int
    reason: str
    message: str
    query: dict[str, Any] = field(default_factory=dict)
    project: str = "demo"


def _insert(title: str, source: str, status: int, reason: str, message: str, **changes: Any) -> Wrong:
    return Wrong(title, source, "POST", INSTANCES, machine("new") | changes, status, reason, message)


def _post(title: str, source: str, path: str, body: Any, status: int, reason: str, message: str, **query: Any) -> Wrong:
    return Wrong(title, source, "POST", path, body, status, reason, message, query)


def _get(title: str, source: str, path: str, status: int, reason: str, message: str, **query: Any) -> Wrong:
    return Wrong(title, source, "GET", path, None, status, reason, message, query)


def _delete(title: str, source: str, path: str, status: int, reason: str, message: str, **more: Any) -> Wrong:
    return Wrong(title, source, "DELETE", path, None, status, reason, message, **more)


def _scheduling(**values: Any) -> dict[str, Any]:
    return {"scheduling": values}


def _metadata(*items: tuple[str, str]) -> dict[str, Any]:
    return {"metadata": {"items": [{"key": key, "value": value} for key, value in items]}}


REQUEST_FORM = [
    _insert("unknown field", SCHEMA, 400, "badRequest", "Unknown name \"colour\" at 'resource': Cannot find field.", colour="red"),
    _insert("unknown nested field", SCHEMA, 400, "badRequest", "at 'resource.scheduling'", **_scheduling(spot=True)),
    _insert("field of another type", SCHEMA, 400, "badRequest", "'resource.canIpForward' (TYPE_BOOL)", canIpForward="yes"),
    _insert("text for a number", SCHEMA, 400, "badRequest", "(TYPE_INT64)", disks=boot_disk(diskSizeGb="much")),
    _insert("enum without such a value", SCHEMA, 400, "invalid", "provisioningModel", **_scheduling(provisioningModel="CHEAP")),
    _insert("list for a message", SCHEMA, 400, "badRequest", "Proto field is not repeating", tags=["a"]),
    _insert(
        "underscore in a name",
        THREAD + "skypilot-org/skypilot/issues/139",
        400,
        "invalid",
        "Invalid value for field 'resource.name': 'a_b'. Must be a match of regex '(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'",
        name="a_b",
    ),
    _insert("no name", SCHEMA, 400, "required", "Required field 'resource.name' not specified", name=None),
    _post(
        "no body",
        THREAD + "googleapis/google-api-python-client/issues/608",
        INSTANCES,
        {},
        400,
        "required",
        "Required field 'resource' not specified",
    ),
    _post(
        "no network body",
        THREAD + "stackql-registry/stackql-provider-google/issues/41",
        "global/networks",
        {},
        400,
        "required",
        "Required field 'resource' not specified",
    ),
    _post("no JSON", SCHEMA, INSTANCES, b"{", 400, "badRequest", "Invalid JSON payload received."),
    _get(
        "name in the path",
        THREAD + "rapid7/insightconnect-plugins/pull/751",
        f"{INSTANCES}/on-",
        400,
        "invalid",
        "Invalid value for field 'instance': 'on-'. Must be a match of regex",
    ),
    _get(
        "unknown parameter",
        SCHEMA,
        INSTANCES,
        400,
        "badRequest",
        'Unknown name "colour": Cannot bind query parameter',
        colour="red",
    ),
    _get("serial port 5", SCHEMA, f"{INSTANCES}/on/serialPort", 400, "invalid", "'port'", port=5),
    _get("no such method", SCHEMA, f"{ZONE}/ovens", 404, "notFound", "was not found on this server"),
    _post("request id is no UUID", SCHEMA, INSTANCES, machine("new"), 400, "invalid", "requestId", requestId="once"),
    _post("request id is the zero UUID", SCHEMA, INSTANCES, machine("new"), 400, "invalid", "requestId", requestId=NIL),
    _get(
        "unknown zone",
        THREAD + "googleapis/python-compute/issues/224",
        "zones/us-central1-z/instances",
        400,
        "invalid",
        "Unknown zone.",
    ),
    _post(
        "new instance in a region for a zone",
        THREAD + "inspec/inspec-gcp/issues/301",
        "zones/us-east1/instances",
        machine("new"),
        400,
        "invalid",
        "Invalid value for field 'zone': 'us-east1'. Unknown zone.",
    ),
    _get("zone that does not exist", SCHEMA, "zones/us-central1-z", 404, "notFound", "zones/us-central1-z' was not found"),
    _get(
        "unknown region",
        THREAD + "googleapis/python-compute/issues/224",
        "regions/mars/addresses",
        400,
        "invalid",
        "Invalid value for field 'region': 'mars'. Unknown region.",
    ),
]

REFERENCES = [
    _insert(
        "malformed image URL",
        THREAD + "hashicorp/packer/issues/11089",
        400,
        "invalid",
        "The URL is malformed.",
        disks=boot_disk("https://www.googleapis.com/compute/v1/demo/global/images/mine"),
    ),
    _insert(
        "bare image name",
        THREAD + "hashicorp/packer/issues/11089",
        400,
        "invalid",
        "The URL is malformed.",
        disks=boot_disk("mine"),
    ),
    _insert(
        "no such family",
        THREAD + "PackageKit/PackageKit/issues/825",
        404,
        "notFound",
        "The resource 'projects/debian-cloud/global/images/family/debian-1' was not found",
        disks=boot_disk("projects/debian-cloud/global/images/family/debian-1"),
    ),
    _insert(
        "no such image",
        THREAD + "docker-archive/infrakit.gcp/issues/1",
        400,
        "invalid",
        f"'{BOOT}.sourceImage': 'global/images/none'. The referenced image resource cannot be found.",
        disks=boot_disk("global/images/none"),
    ),
    _insert(
        "no such network",
        THREAD + "google/anthos-microk8s/issues/1",
        400,
        "invalid",
        "'resource.networkInterfaces[0].network': 'global/networks/none'. The referenced network resource cannot be found.",
        networkInterfaces=[{"network": "global/networks/none"}],
    ),
    _insert(
        "no such subnetwork",
        THREAD + "hashicorp/terraform-provider-google/issues/2140",
        400,
        "invalid",
        f"'resource.networkInterfaces[0].subnetwork': '{REGION}/subnetworks/none'. "
        "The referenced subnetwork resource cannot be found.",
        networkInterfaces=[{"subnetwork": f"{REGION}/subnetworks/none"}],
    ),
    _post(
        "firewall rule without its network",
        THREAD + "skyplane-project/skyplane/issues/683",
        "global/firewalls",
        {"name": "new", "network": "global/networks/none", "allowed": [{"IPProtocol": "tcp"}]},
        404,
        "notFound",
        "The resource 'projects/demo/global/networks/none' was not found",
    ),
    _post(
        "subnetwork without its network",
        THREAD + "fortinet/fortigate-tutorial-gcp/issues/1",
        f"{REGION}/subnetworks",
        {"name": "new", "network": "global/networks/none", "ipCidrRange": "10.8.0.0/24"},
        404,
        "notFound",
        "The resource 'projects/demo/global/networks/none' was not found",
    ),
    _insert(
        "no such disk type",
        THREAD + "broadinstitute/cromwell/issues/3776",
        400,
        "invalid",
        f"'{BOOT}.diskType': '{ZONE}/diskTypes/PERSISTENT_SSD'. The referenced diskType resource cannot be found.",
        disks=boot_disk(diskType=f"{ZONE}/diskTypes/PERSISTENT_SSD"),
    ),
    _insert(
        "bare name of a disk type",
        THREAD + "hashicorp/terraform-provider-google/issues/322",
        400,
        "invalid",
        f"'{BOOT}.diskType': 'pd-standard'. The URL is malformed.",
        disks=boot_disk(diskType="pd-standard"),
    ),
    _insert(
        "no such disk",
        THREAD + "arunoda/fastai-shell/issues/5",
        400,
        "invalid",
        f"'resource.disks[0].source': '{ZONE}/disks/none'. The referenced disk resource cannot be found.",
        disks=[{"boot": True, "source": f"{ZONE}/disks/none"}],
    ),
    _insert(
        "machine type of another zone",
        DOCS + "regions-zones",
        400,
        "invalid",
        "resource.machineType",
        machineType="zones/us-east1-b/machineTypes/e2-small",
    ),
    _insert(
        "machine type that no zone has",
        THREAD + "gruntwork-io/terratest/issues/1132",
        400,
        "invalid",
        f"'resource.machineType': '{ZONE}/machineTypes/t2d-standard-1'. "
        "Machine type with name 't2d-standard-1' does not exist in zone 'us-central1-a'.",
        machineType=f"{ZONE}/machineTypes/t2d-standard-1",
    ),
    Wrong(
        "machine type that other zones of the region have",
        THREAD + "GoogleCloudPlatform/bank-of-anthos/issues/1234",
        "POST",
        "zones/us-central1-f/instances",
        machine("new", machineType="zones/us-central1-f/machineTypes/n4-standard-2"),
        400,
        "invalid",
        "Machine type with name 'n4-standard-2' does not exist in zone 'us-central1-f'.",
    ),
    _post(
        "new machine type that the zone lacks",
        THREAD + "gruntwork-io/terratest/issues/1132",
        f"{INSTANCES}/off/setMachineType",
        {"machineType": f"{ZONE}/machineTypes/t2d-standard-1"},
        400,
        "invalid",
        "Machine type with name 't2d-standard-1' does not exist in zone 'us-central1-a'.",
    ),
    _insert("no machine type", SCHEMA, 400, "invalid", "resource.machineType", machineType=None),
    _insert(
        "custom network without subnetwork",
        THREAD + "mitchellh/vagrant-google/issues/164",
        400,
        "invalid",
        "Subnetwork should be specified for custom subnetmode network",
        networkInterfaces=[{"network": "global/networks/vpc"}],
    ),
    _insert(
        "reserved address that there is not",
        THREAD + "hashicorp/terraform/issues/16095",
        400,
        "invalid",
        "The specified external IP address '192.0.2.1' was not found in region 'us-central1'.",
        networkInterfaces=[{"accessConfigs": [{"natIP": "192.0.2.1"}]}],
    ),
    _post(
        "network of another project",
        THREAD + "AppScale/appscale-tools/issues/339",
        "global/firewalls",
        {"name": "new", "network": "projects/other/global/networks/default", "allowed": [{"IPProtocol": "tcp"}]},
        400,
        "invalid",
        "Cross-project references for this resource type are not allowed.",
    ),
    _get("no such instance", DOCS + "reference/rest/v1/instances/get", f"{INSTANCES}/none", 404, "notFound", "was not found"),
    Wrong(
        "another project",
        THREAD + "cloudyr/googleComputeEngineR/issues/94",
        "DELETE",
        "global/images/debian-13-trixie-v20261111",
        None,
        403,
        "forbidden",
        "Required 'compute.images.delete' permission for 'projects/debian-cloud'",
        project="debian-cloud",
    ),
]

TAKEN = [
    _insert(
        "name of an instance",
        THREAD + "scylladb/scylla-machine-image/issues/184",
        409,
        "alreadyExists",
        f"The resource 'projects/demo/{INSTANCES}/on' already exists",
        name="on",
    ),
    _insert(
        "name of a disk",
        THREAD + "mitchellh/vagrant-google/issues/82",
        409,
        "alreadyExists",
        f"The resource 'projects/demo/{ZONE}/disks/loose' already exists",
        name="loose",
    ),
    _post(
        "name of an image",
        THREAD + "hashicorp/terraform-provider-google/issues/18089",
        "global/images",
        {"name": "mine", "sourceDisk": f"{ZONE}/disks/loose"},
        409,
        "alreadyExists",
        "global/images/mine' already exists",
    ),
    _post(
        "name of a firewall rule",
        THREAD + "hashicorp/terraform-provider-google/issues/18089",
        "global/firewalls",
        {"name": "web", "allowed": [{"IPProtocol": "tcp"}]},
        409,
        "alreadyExists",
        "firewalls/web' already exists",
    ),
]

IN_USE = [
    _insert(
        "disk of another instance",
        THREAD + "hashicorp/terraform/issues/23698",
        400,
        "resourceInUseByAnotherResource",
        f"The disk resource 'projects/demo/{ZONE}/disks/on' is already being used by 'projects/demo/{INSTANCES}/on'",
        disks=[{"boot": True, "source": f"{ZONE}/disks/on"}],
    ),
    _post(
        "image of a disk in use",
        THREAD + "ansible/ansible/issues/61634",
        "global/images",
        {"name": "new", "sourceDisk": f"{ZONE}/disks/on"},
        400,
        "resourceInUseByAnotherResource",
        f"is already being used by 'projects/demo/{INSTANCES}/on'",
    ),
    _delete(
        "disk in use",
        THREAD + "hashicorp/terraform/issues/12760",
        f"{ZONE}/disks/on",
        400,
        "resourceInUseByAnotherResource",
        "is already being used by",
    ),
    _delete(
        "subnetwork in use",
        THREAD + "genevieve/leftovers/issues/6",
        f"{REGION}/subnetworks/sub",
        400,
        "resourceInUseByAnotherResource",
        f"is already being used by 'projects/demo/{INSTANCES}/inside'",
    ),
    _delete(
        "address in use",
        DOCS + "ip-addresses/configure-static-external-ip-address",
        f"{REGION}/addresses/held",
        400,
        "resourceInUseByAnotherResource",
        "is already being used by",
    ),
    _delete(
        "protected instance",
        THREAD + "hashicorp/terraform-provider-google/pull/1211",
        f"{INSTANCES}/inside",
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion.'.",
    ),
]

VALUES = [
    _insert(
        "disk smaller than its image",
        THREAD + "elasticluster/elasticluster/issues/716",
        400,
        "invalid",
        "'resource.disks[0].initializeParams.diskSizeGb': '5'. Requested disk size cannot be smaller than the image size (10 GB)",
        disks=boot_disk(diskSizeGb="5"),
    ),
    _post(
        "new disk smaller than its image",
        THREAD + "NixOS/nixops/issues/1072",
        f"{ZONE}/disks",
        {"name": "new", "sizeGb": "5", "sourceImage": "global/images/mine"},
        400,
        "invalid",
        "Invalid value for field 'resource.sizeGb': '5'. Requested disk size cannot be smaller than the image size (10 GB)",
    ),
    _post(
        "disk made smaller",
        DOCS + "disks/resize-persistent-disk",
        f"{ZONE}/disks/loose/resize",
        {"sizeGb": "10"},
        400,
        "invalid",
        "sizeGb",
    ),
    _insert(
        "disk type that the machine cannot use",
        THREAD + "rancher/harvester-cloud/issues/249",
        400,
        "badRequest",
        "hyperdisk-balanced disk type cannot be used by e2-small machine type.",
        disks=boot_disk(diskType=f"{ZONE}/diskTypes/hyperdisk-balanced"),
    ),
    _insert("no boot disk", DOCS + "reference/rest/v1/instances/insert", 400, "required", "resource.disks", disks=[]),
    _insert(
        "image of another architecture",
        DOCS + "instances/arm-on-compute",
        400,
        "invalidResourceUsage",
        "architecture (ARM64)",
        disks=boot_disk("projects/debian-cloud/global/images/family/debian-13-arm64"),
    ),
    _insert(
        "upper case in a label",
        THREAD + "googleapis/gax-nodejs/issues/1375",
        400,
        "invalid",
        "Invalid value for field 'resource.labels': ''. Label value 'By-Me' violates format constraints.",
        labels={"by": "By-Me"},
    ),
    _insert(
        "point in a label",
        THREAD + "oap-project/cloudtik/issues/14",
        400,
        "invalid",
        "Label value '1.2.3' violates format constraints.",
        labels={"version": "1.2.3"},
    ),
    _insert("long label", DOCS + "labeling-resources", 400, "invalid", "violates format constraints", labels={"digest": "0" * 64}),
    _insert("digit first in a label key", DOCS + "labeling-resources", 400, "invalid", "Label key '1st'", labels={"1st": "a"}),
    _insert(
        "tag with an underscore",
        "https://cloud.google.com/vpc/docs/add-remove-network-tags",
        400,
        "invalid",
        "resource.tags.items[0]",
        tags={"items": ["a_b"]},
    ),
    _insert(
        "value of metadata too large",
        DOCS + "metadata/setting-custom-metadata",
        400,
        "invalid",
        "Value is too large",
        **_metadata(("a", LONG)),
    ),
    _insert(
        "metadata too large in all",
        DOCS + "metadata/setting-custom-metadata",
        400,
        "invalid",
        "Metadata is too large",
        **_metadata(("a", LONG[1:]), ("b", LONG[1:])),
    ),
    _insert(
        "metadata key twice",
        DOCS + "metadata/setting-custom-metadata",
        400,
        "invalid",
        "duplicate key",
        **_metadata(("a", ""), ("a", "")),
    ),
    _insert(
        "point in a metadata key",
        DOCS + "reference/rest/v1/instances/insert",
        400,
        "invalid",
        "items[0].key",
        **_metadata(("a.b", "")),
    ),
    _insert(
        "Spot that restarts",
        THREAD + "elasticluster/elasticluster/issues/568",
        400,
        "invalid",
        "'resource.scheduling.preemptible': 'true'. Scheduling must have preemptible be false when AutomaticRestart is true.",
        **_scheduling(provisioningModel="SPOT", automaticRestart=True),
    ),
    _insert(
        "Spot that migrates",
        THREAD + "lighttransport/francine/issues/5",
        400,
        "invalid",
        "Scheduling must have preemptible be false when OnHostMaintenance isn't TERMINATE.",
        **_scheduling(preemptible=True, onHostMaintenance="MIGRATE"),
    ),
    _insert(
        "run of ten seconds",
        DOCS + "instances/limit-vm-runtime",
        400,
        "invalid",
        "maxRunDuration",
        **_scheduling(maxRunDuration={"seconds": "10"}, instanceTerminationAction="DELETE"),
    ),
    _insert(
        "run of 121 days",
        DOCS + "instances/limit-vm-runtime",
        400,
        "invalid",
        "maxRunDuration",
        **_scheduling(maxRunDuration={"seconds": 121 * 86400}, instanceTerminationAction="DELETE"),
    ),
    _insert(
        "limited run without an action",
        DOCS + "instances/limit-vm-runtime",
        400,
        "invalid",
        "instanceTerminationAction",
        **_scheduling(maxRunDuration={"seconds": "3600"}),
    ),
    _insert(
        "action without an end",
        DOCS + "instances/create-use-spot",
        400,
        "invalid",
        "instanceTerminationAction",
        **_scheduling(instanceTerminationAction="DELETE"),
    ),
    _post(
        "image of two sources",
        THREAD + "ansible-collections/google.cloud/issues/378",
        "global/images",
        {"name": "new", "sourceDisk": f"{ZONE}/disks/loose", "sourceImage": "global/images/mine"},
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Must specify exactly one source for an image.'.",
    ),
    _post(
        "family in upper case",
        THREAD + "GoogleCloudDataproc/cloud-dataproc/issues/67",
        "global/images",
        {"name": "new", "sourceDisk": f"{ZONE}/disks/loose", "family": "None"},
        400,
        "invalid",
        "Invalid value for field 'resource.family': 'None'. Must be a match of regex",
    ),
    _post(
        "range with bits of the host",
        THREAD + "CartoDB/cartodb/pull/15649",
        "global/firewalls",
        {"name": "new", "allowed": [{"IPProtocol": "tcp"}], "sourceRanges": ["12.12.12.12/24"]},
        400,
        "invalid",
        "resource.sourceRanges[0]",
    ),
    _post(
        "port past the end",
        DOCS + "reference/rest/v1/firewalls/insert",
        "global/firewalls",
        {"name": "new", "allowed": [{"IPProtocol": "tcp", "ports": ["70000"]}]},
        400,
        "invalid",
        "resource.allowed[0].ports[0]",
    ),
    _post(
        "rule that allows and denies",
        DOCS + "reference/rest/v1/firewalls/insert",
        "global/firewalls",
        {"name": "new", "allowed": [{"IPProtocol": "tcp"}], "denied": [{"IPProtocol": "udp"}]},
        400,
        "invalidResourceUsage",
        "both",
    ),
    _post(
        "subnetwork over another one",
        "https://cloud.google.com/vpc/docs/subnets",
        f"{REGION}/subnetworks",
        {"name": "new", "network": "global/networks/vpc", "ipCidrRange": "10.9.0.0/16"},
        400,
        "invalidResourceUsage",
        "conflicts",
    ),
    _get(
        "filter over a list",
        THREAD + "googleapis/google-api-go-client/issues/1019",
        "global/firewalls",
        400,
        "invalid",
        "Invalid list filter expression.",
        filter="targetTags=bake",
    ),
    _get(
        "filter with eq and AND",
        THREAD + "googleapis/nodejs-compute/issues/48",
        INSTANCES,
        400,
        "invalid",
        "Invalid list filter expression.",
        filter="status eq RUNNING AND name eq on",
    ),
    _get(
        "filter with ~",
        THREAD + "googleapis/google-api-go-client/issues/406",
        INSTANCES,
        400,
        "invalid",
        "Invalid list filter expression.",
        filter="name!~gke",
    ),
    _get("501 results", SCHEMA, INSTANCES, 400, "invalid", "maxResults", maxResults=501),
    _get("order by status", SCHEMA, INSTANCES, 400, "invalid", "orderBy", orderBy="status"),
    _get(
        "page that there is not",
        DOCS + "reference/rest/v1/instances/list",
        INSTANCES,
        400,
        "invalid",
        "pageToken",
        pageToken="next",
    ),
]

STATES = [
    _post(
        "labels without a fingerprint",
        THREAD + "googleapis/google-cloud-go/issues/7802",
        f"{INSTANCES}/on/setLabels",
        {"labels": {"a": "b"}},
        412,
        "conditionNotMet",
        "Labels fingerprint either invalid or resource labels have changed",
    ),
    _post(
        "labels with an old fingerprint",
        THREAD + "skypilot-org/skypilot/issues/4571",
        f"{INSTANCES}/on/setLabels",
        {"labels": {"a": "b"}, "labelFingerprint": "AAAAAAAAAAA="},
        412,
        "conditionNotMet",
        "Labels fingerprint either invalid",
    ),
    _post(
        "metadata with an old fingerprint",
        DOCS + "metadata/setting-custom-metadata",
        f"{INSTANCES}/on/setMetadata",
        {"items": [], "fingerprint": "AAAAAAAAAAA="},
        412,
        "conditionNotMet",
        "does not match current metadata fingerprint",
    ),
    _post(
        "machine type of a running instance",
        THREAD + "hashicorp/terraform-provider-google/issues/7101",
        f"{INSTANCES}/on/setMachineType",
        {"machineType": f"{ZONE}/machineTypes/e2-medium"},
        400,
        "invalidResourceUsage",
        "Invalid resource usage: 'Instance should be in the STOPPED state.'.",
    ),
    _post(
        "resume of a running instance",
        DOCS + "instances/suspend-resume-instance",
        f"{INSTANCES}/on/resume",
        {},
        400,
        "invalidResourceUsage",
        "RUNNING",
    ),
    _post(
        "suspend of a stopped instance",
        DOCS + "instances/suspend-resume-instance",
        f"{INSTANCES}/off/suspend",
        {},
        400,
        "invalidResourceUsage",
        "TERMINATED",
    ),
    _get(
        "console of a stopped instance",
        DOCS + "troubleshooting/viewing-serial-port-output",
        f"{INSTANCES}/off/serialPort",
        400,
        "resourceNotReady",
        "is not ready",
    ),
    _post(
        "boot disk of a running instance",
        DOCS + "disks/detach-reattach-boot-disk",
        f"{INSTANCES}/on/detachDisk",
        {},
        400,
        "invalidResourceUsage",
        "boot disk",
        deviceName="persistent-disk-0",
    ),
]

TABLE = [*REQUEST_FORM, *REFERENCES, *TAKEN, *IN_USE, *VALUES, *STATES]


@pytest.fixture(scope="module")
def town() -> Iterator[Gce]:
    """Give a server with one thing of each kind."""
    with serve(operation_s=0.001) as gce:
        done(gce, "POST", "global/networks", {"name": "vpc", "autoCreateSubnetworks": False})
        done(gce, "POST", f"{REGION}/subnetworks", {"name": "sub", "network": "global/networks/vpc", "ipCidrRange": "10.9.0.0/24"})
        done(gce, "POST", f"{REGION}/addresses", {"name": "held"})
        held = get(gce, f"{REGION}/addresses/held")["address"]
        boot(gce, "on", networkInterfaces=[{"accessConfigs": [{"natIP": held}]}])
        boot(gce, "inside", networkInterfaces=[{"subnetwork": f"{REGION}/subnetworks/sub"}], deletionProtection=True)
        boot(gce, "off")
        done(gce, "POST", f"{INSTANCES}/off/stop")
        done(gce, "POST", "global/images", {"name": "mine", "sourceDisk": f"{ZONE}/disks/off"})
        done(gce, "POST", f"{ZONE}/disks", {"name": "loose", "sizeGb": "10"})
        done(gce, "POST", "global/firewalls", {"name": "web", "allowed": [{"IPProtocol": "tcp", "ports": ["80"]}]})
        yield gce


@pytest.mark.matrix(sample=40)
@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.title)
def test_a_wrong_request_is_refused_and_leaves_nothing(town: Gce, wrong: Wrong) -> None:
    before = town.inventory()
    answer = ask(town, wrong.method, wrong.path, wrong.body, project=wrong.project, **wrong.query)
    assert (answer.status, answer.reason) == (wrong.status, wrong.reason), answer.message
    assert wrong.message in answer.message
    assert town.inventory() == before
    assert not town.crashes


def test_each_row_has_a_title_of_its_own_and_a_source() -> None:
    assert len({wrong.title for wrong in TABLE}) == len(TABLE)
    assert all(wrong.source == SCHEMA or wrong.source.startswith("https://") for wrong in TABLE)


def test_the_error_has_the_form_of_the_real_service(gce: Gce) -> None:
    message = f"The resource 'projects/demo/{INSTANCES}/none' was not found"
    item = {"message": message, "domain": "global", "reason": "notFound"}
    assert ask(gce, "GET", f"{INSTANCES}/none").body == {"error": {"code": 404, "message": message, "errors": [item]}}
