"""Bake the same script from the same base on the same accelerator with Bakehouse and with Packer's qemu builder, in turn.

    .venv/bin/python benchmarks/bake.py [--recipe NAME] [--pairs 3]

Needs Debian's package `packer` (boot_wait 0). Prints a table in Markdown: seconds of each run, medians, the ratio of the medians,
and how the seconds of a bake divide. Packer has no fresh-boot test and no search of the disk, so those are told apart.
Both get the same virtual hardware, kernel and disk cache; Packer's guest is let in over SSH, which its provisioner needs.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bakery.recipe import Recipe, load
from bakery.render import render
from bakery.resolve import resolve
from clouds import names
from clouds.driver import Base, BootSpec
from clouds.home import home
from clouds.local import connect
from clouds.local.esp import boot_arguments
from clouds.local.qemu import arguments
from clouds.local.record import new_record
from clouds.local.settings import build_archive, build_files, host_settings

PROJECT = Path(__file__).parents[1]
TOLD_APART = ("inspect", "test")
"""The stages of a bake that Packer has nothing like."""
_LET_IN = """\
mkdir --parents --mode=0700 /root/.ssh
printf '%s\\n' '{key}' >/root/.ssh/authorized_keys
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
systemctl start ssh.service
"""
_PROVISION = [
    "systemd-run --quiet --unit=provision bash /run/provision.sh",
    "journalctl --follow --lines=all --identifier=bakehouse --output=cat | grep --quiet --max-count=1 ' seal ok'",
]


def bake(recipe: str) -> dict[str, float]:
    """Bake once and return the seconds of each stage, and `total` without what Packer has nothing like."""
    command = [str(PROJECT / "inv"), "bake", "--recipe", recipe, "--force", "--json"]
    began = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall_s = time.monotonic() - began
    image = json.loads(done.stdout.splitlines()[-1])["image"]
    stages: dict[str, float] = json.loads((home() / "local/images" / image / "files/result.json").read_text())["seconds"]
    subprocess.run([str(PROJECT / "inv"), "delete-image", image, "--yes"], check=True, capture_output=True)
    stages = {name: seconds for name, seconds in stages.items() if not name.startswith("test ")}
    return stages | {"whole": wall_s, "total": wall_s - sum(stages[name] for name in TOLD_APART)}


def packer(recipe: Recipe, folder: Path) -> float:
    """Build once with Packer and return its seconds."""
    template = folder / "template.json"
    template.write_text(json.dumps(packer_template(recipe, folder)))
    environment = os.environ | {"PACKER_CACHE_DIR": str(folder / "cache"), "CHECKPOINT_DISABLE": "1", "PACKER_LOG": "0"}
    began = time.monotonic()
    done = subprocess.run(["packer", "build", str(template)], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"packer failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - began


def packer_template(recipe: Recipe, folder: Path) -> dict[str, object]:
    """Return a template of Packer 1.6 with the machine, script and settings that Bakehouse's own builder has."""
    cloud = connect(home())
    base = home() / "local/bases" / cloud.resolve_base(Base(recipe.base.suite, recipe.base.architecture)).id
    key = folder / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    script = render(recipe, resolve(recipe, home() / "resolved", refresh=False)).for_boot(names.new_nonce(), deadline_s=7200)
    (folder / "provision.sh").write_text(script)
    (folder / "let-in.sh").write_text(_LET_IN.format(key=key.with_suffix(".pub").read_text().strip()))
    (folder / "build.tar.gz").write_bytes(build_archive(build_files(host_settings(), recipe.base.suite)))
    output = folder / "output"
    return {
        "builders": [
            {
                "type": "qemu",
                "accelerator": cloud.accelerator.name,
                "disk_image": True,
                "use_backing_file": True,
                "qemu_img_args": {"create": ["-F", "qcow2"]},  # else qemu-img refuses the backing file
                "skip_compaction": True,
                "iso_url": str(base / "disk.qcow2"),
                "iso_checksum": "none",
                "disk_size": f"{recipe.builder.disk_gb}G",
                "format": "qcow2",
                "output_directory": str(output),
                "vm_name": "disk.qcow2",
                "headless": True,
                "disable_vnc": True,
                "boot_wait": "0s",
                "ssh_username": "root",
                "ssh_private_key_file": str(key),
                "ssh_timeout": "15m",
                "shutdown_command": "systemctl poweroff",
                "shutdown_timeout": "15m",
                "qemuargs": packer_arguments(recipe, base, folder, output / "disk.qcow2"),
            }
        ],
        "provisioners": [
            {"type": "file", "source": str(folder / "provision.sh"), "destination": "/run/provision.sh"},
            {"type": "shell", "inline": _PROVISION},
        ],
        "post-processors": [{"type": "shell-local", "inline": [f"rm -r '{output}'"]}],
    }


def packer_arguments(recipe: Recipe, base: Path, folder: Path, disk: Path) -> list[list[str]]:
    """Return the arguments of Bakehouse's own builder, as Packer takes them: one list per flag with its value."""
    spec = BootSpec(
        name="packer",
        token="packer",  # noqa: S106 - a name, no secret
        source=base.name,
        cpus=recipe.builder.cpus,
        memory_mb=recipe.builder.memory_mb,
        disk_gb=recipe.builder.disk_gb,
        labels={},
        deadline_s=0,
        script="let in",
        build_settings=True,
    )
    ours = arguments(new_record(spec, created_at=0), connect(home()).accelerator, boot_arguments(base))
    paths = {
        "file=disk.qcow2": f"file={disk}",
        "file=script": f"file={folder / 'let-in.sh'}",
        "file=build": f"file={folder / 'build.tar.gz'}",
        "path=": f"path={folder}/",
        "user,id=net,ipv6=off": "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22",
    }
    words: list[list[str]] = []
    for word in ours:
        for old, new in paths.items():
            word = word.replace(old, new)
        if word.startswith("-"):
            words.append([word])
        else:
            words[-1].append(str(base / word) if words[-1][0] in ("-kernel", "-initrd") else word)
    return [word for word in words if word[0] not in ("-mon", "-sandbox", "-name") and "id=qmp" not in word[-1]]


def table(baked: list[dict[str, float]], packed: list[float]) -> str:
    """Return the results as Markdown."""
    ours, theirs = statistics.median(run["total"] for run in baked), statistics.median(packed)
    rows = ["| pair | Bakehouse, without its tests | Packer |", "|---|---|---|"]
    rows += [f"| {n} | {run['total']:.1f} s | {other:.1f} s |" for n, (run, other) in enumerate(zip(baked, packed, strict=True), 1)]
    rows += [f"| median | {ours:.1f} s | {theirs:.1f} s |", "", f"Ratio of the medians: {ours / theirs:.2f}", ""]
    stages = [name for name in baked[0] if name not in ("whole", "total")]
    rows += ["| stage of a bake | median |", "|---|---|"]
    rows += [f"| {name} | {statistics.median(run[name] for run in baked):.1f} s |" for name in (*stages, "whole")]
    return "\n".join(rows)


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="jupyter")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    recipe = load(given.recipe)
    connect(home()).resolve_base(Base(recipe.base.suite, recipe.base.architecture), tell=lambda line: print(line, file=sys.stderr))
    baked, packed = [], []
    for _ in range(given.pairs):
        baked.append(bake(given.recipe))
        with tempfile.TemporaryDirectory() as folder:
            packed.append(packer(recipe, Path(folder)))
        print(f"Bakehouse {baked[-1]['total']:.1f} s, Packer {packed[-1]:.1f} s", file=sys.stderr)
    print(table(baked, packed))


if __name__ == "__main__":
    main()
