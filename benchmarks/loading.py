"""Measure what it takes to load a client for Compute Engine or EC2, and a whole command that makes one request.

    .venv/bin/python benchmarks/loading.py [--runs 5]

First table: each way to load in a process of its own, in turn: seconds within the process, without Python's own start; and seconds
of the whole process, with its start and its end. Second table: whole commands against the strict servers of the tests, which answer
at once. Needs requirements-dev.lock. Prints tables in Markdown, with the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers import ec2
from tests.servers.ec2_asking import environment
from tests.servers.gce.server import serve

PROJECT = Path(__file__).parents[1]
_BEGIN = "import json, resource, sys, time\nbegan = time.perf_counter()\n"
_END = """
wall_s = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
peak_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([wall_s, used.ru_utime + used.ru_stime, peak_kb / 1024, len(sys.modules)]))
"""
_CONNECT = """
import pathlib
from clouds import gcp
client = gcp.connect(pathlib.Path("/nonexistent"), {"project": "demo", "endpoint": "http://127.0.0.1:9"})._client
"""
SERVICES = ("instances", "images", "firewalls", "networks", "disks", "addresses", "zone_operations", "global_operations")
_WHOLE = f"""
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
options = ClientOptions(api_endpoint="http://127.0.0.1:9")
for name in {SERVICES!r}:
    kind = getattr(compute_v1, name.title().replace("_", "") + "Client")
    kind(credentials=AnonymousCredentials(), client_options=options, transport="rest")
"""
_CONNECT_AWS = """
import pathlib
from clouds import aws
client = aws.connect(pathlib.Path("/nonexistent"), {"region": "us-east-1"})._client
"""
_BOTO3 = """
import boto3
boto3.client("ec2", region_name="us-east-1")
"""
WAYS = {
    "Python alone": "",
    "Bakehouse's driver, connected": _CONNECT,
    "the same, ready to list machines": _CONNECT + "client.services.instances",
    "the same, ready for a bake and a launch": _CONNECT + f"[getattr(client.services, name) for name in {SERVICES!r}]",
    "google-cloud-compute, imported whole": _WHOLE,
    "Bakehouse's driver for EC2, connected": _CONNECT_AWS,
    "the same, ready for all requests": _CONNECT_AWS + "client.is_local",
    "boto3 with a client of EC2": _BOTO3,
}
_INV = ("-P", "-m", "invoke", "--search-root", str(PROJECT))
_LAUNCHER = ("-P", "-m", "launcher")
COMMANDS = {
    "`./inv machines --cloud gcp`": (*_INV, "machines", "--cloud", "gcp"),
    "`./inv machines --cloud aws`": (*_INV, "machines", "--cloud", "aws"),
    "`python -m launcher machines --cloud gcp`": (*_LAUNCHER, "machines", "--cloud", "gcp"),
    "`python -m launcher machines --cloud aws`": (*_LAUNCHER, "machines", "--cloud", "aws"),
    "`python -m launcher machines --cloud local`": (*_LAUNCHER, "machines", "--cloud", "local"),
}


def measure(code: str) -> list[float]:
    """Return wall seconds, CPU seconds (Python's start too), MiB, modules, and seconds of the whole process of one way."""
    command = [sys.executable, "-c", _BEGIN + code + _END]
    began = time.perf_counter()
    variables = {**os.environ, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "EXAMPLEKEY"}
    done = subprocess.run(command, cwd=PROJECT, env=variables, check=True, capture_output=True, text=True)
    figures: list[float] = json.loads(done.stdout)
    return [*figures, time.perf_counter() - began]


def command_s(words: tuple[str, ...], home: str, servers: Mapping[str, str]) -> float:
    """Return the seconds of a whole command; `servers` are the variables with which it reaches them."""
    variables = {
        **os.environ,
        **servers,
        "PYTHONPATH": str(PROJECT),
        "BAKEHOUSE_HOME": home,
        "BAKEHOUSE_CONFIG": os.devnull,
    }
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=home, env=variables, check=True, capture_output=True)
    return time.perf_counter() - began


def tell(every: list[float]) -> str:
    """Return the median, and all in brackets."""
    return f"{statistics.median(every):.2f} ({', '.join(f'{one:.2f}' for one in every)})"


def main() -> None:
    """Measure all ways and commands in turn, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    found: list[dict[str, list[float]]] = []
    commands: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as home, serve() as google, ec2.serve() as amazon:
        servers = {"BAKEHOUSE_GCE_ENDPOINT": google.url, "GOOGLE_CLOUD_PROJECT": "demo", **environment(amazon)}
        for _ in range(runs + 1):
            found.append({name: measure(code) for name, code in WAYS.items()})
            commands.append({name: command_s(words, home, servers) for name, words in COMMANDS.items()})
    del found[0], commands[0]  # the first round fills the cache of files and of bytecode
    print("| | seconds | CPU seconds | MiB | modules | whole process, seconds |\n|---|---|---|---|---|---|")
    for name in WAYS:
        wall_s, cpu_s, size_mb, modules, _ = (statistics.median(run[name][i] for run in found) for i in range(5))
        whole = tell([run[name][4] for run in found])
        print(f"| {name} | {wall_s:.2f} | {cpu_s:.2f} | {size_mb:.0f} | {modules:.0f} | {whole} |")
    print("\n| command | seconds |\n|---|---|")
    for name in COMMANDS:
        print(f"| {name} | {tell([run[name] for run in commands])} |")


if __name__ == "__main__":
    main()
