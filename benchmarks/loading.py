"""Measure what it takes to load a client for Compute Engine and to make one: ours, Google's library whole, and a part of it.

    .venv/bin/python benchmarks/loading.py [--runs 5]

Each time in a process of its own, in turn; seconds within the process, without Python's own start. Needs requirements-dev.lock.
The part is what a driver would use, with the two modules skipped that import all clients and all their types. Prints a table in
Markdown, with the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

_BEGIN = "import json, resource, sys, time\nbegan = time.perf_counter()\n"
_END = """
wall_s = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, len(sys.modules)]))
"""
_GOOGLE = """
from google.auth.credentials import AnonymousCredentials
from google.api_core.client_options import ClientOptions
options = ClientOptions(api_endpoint="http://127.0.0.1:9")
clients = [kind(credentials=AnonymousCredentials(), client_options=options, transport="rest") for kind in kinds]
"""
CLIENTS = ("instances", "images", "firewalls", "networks", "disks", "addresses", "zone_operations", "global_operations")
_PART = f"""
import importlib, importlib.machinery, pathlib, types
import google.cloud
root = next(pathlib.Path(path, "compute_v1") for path in google.cloud.__path__ if pathlib.Path(path, "compute_v1").is_dir())
for name in ("google.cloud.compute_v1", "google.cloud.compute_v1.services"):
    module = types.ModuleType(name)
    module.__path__ = [str(root / pathlib.Path(*name.split(".")[3:]))]
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    sys.modules[name] = module
kinds = []
for name in {CLIENTS!r}:
    module = importlib.import_module(f"google.cloud.compute_v1.services.{{name}}")
    kinds.append(getattr(module, name.title().replace("_", "") + "Client"))
"""
_WHOLE = f"""
from google.cloud import compute_v1
kinds = [getattr(compute_v1, name.title().replace("_", "") + "Client") for name in {CLIENTS!r}]
"""
WAYS = {
    "Python alone": "",
    "Bakehouse's driver, connected": """
import pathlib
from clouds import gcp
gcp.connect(pathlib.Path("/nonexistent"), {"project": "demo", "endpoint": "http://127.0.0.1:9"})
""",
    "the same, ready for its first request": """
import pathlib
from clouds import gcp
from clouds.gcp.calls import sender
gcp.connect(pathlib.Path("/nonexistent"), {"project": "demo", "endpoint": "http://127.0.0.1:9"})
sender(anonymous=True)
""",
    "google-cloud-compute, in part": _PART + _GOOGLE,
    "google-cloud-compute, whole": _WHOLE + _GOOGLE,
}


def measure(code: str) -> list[float]:
    """Return wall seconds, CPU seconds (Python's start too), MiB and modules of one way, in a new process."""
    command = [sys.executable, "-c", _BEGIN + code + _END]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True)
    figures: list[float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure all ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    for code in WAYS.values():
        measure(code)  # fills the cache of files and of bytecode
    found = [{name: measure(code) for name, code in WAYS.items()} for _ in range(runs)]
    print("| | seconds | CPU seconds | MiB | modules |\n|---|---|---|---|---|")
    for name in WAYS:
        wall_s, cpu_s, size_mb, modules = (statistics.median(run[name][i] for run in found) for i in range(4))
        print(f"| {name} | {wall_s:.2f} | {cpu_s:.2f} | {size_mb:.0f} | {modules:.0f} |")


if __name__ == "__main__":
    main()
