"""The output of the serial ports."""

from __future__ import annotations

from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import Json, not_ready
from tests.servers.gce.schema import Call
from tests.servers.gce.store import link, parent_of


@serves("compute.instances.getSerialPortOutput")
def get_serial_port_output(cloud: Cloud, call: Call) -> Json:
    """Return what a port has printed since `start`; only an instance that is on has any.

    https://cloud.google.com/compute/docs/troubleshooting/viewing-serial-port-output
    """
    path = parent_of(call.path)
    instance = cloud.store.get(path)
    if instance["status"] in ("TERMINATED", "SUSPENDED", "PROVISIONING"):
        raise not_ready(path)
    start, data = cloud.vms.serial(path, call.params.get("port", 1)).read(int(call.params.get("start", 0)))
    return {
        "kind": "compute#serialPortOutput",
        "selfLink": link(f"{path}/serialPort"),
        "contents": data.decode(errors="replace"),
        "start": str(start),
        "next": str(start + len(data)),
    }
