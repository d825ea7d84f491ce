"""What the benchmarks of bakes share: a store of their own, one bake of ours, and one build of the same script by Packer.

Packer has no search of the disk, no memory of a booted machine and no fresh-boot test, so those stages are told apart. Both get
the same virtual hardware, kernel and disk cache; Packer's guest is let in over SSH, which its provisioner needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bakery.order import base_of
from bakery.recipe.recipe import Recipe
from bakery.script.render import render
from bakery.script.resolve import resolve
from clouds import names
from clouds.driver import BootSpec, Kind, State
from clouds.home import home
from clouds.local import connect
from clouds.local.base.esp import boot_arguments
from clouds.local.base.host_environment import build_archive, build_files, host_settings
from clouds.local.vm.qemu import arguments
from clouds.local.vm.record import new_record

PROJECT = Path(__file__).parents[1]
TOLD_APART = ("inspect", "memory", "test")
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


@contextmanager
def own_store(recipe: Recipe) -> Iterator[None]:
    """Let all bakes have a store of their own beside the user's, with the same bases: no layer is in it that is not theirs.

    The recipe's base is there; no machine of ours runs.
    """
    users = home()
    if running := [found.name for found in connect(users).owned({}, {Kind.MACHINE}) if found.state is State.RUNNING]:
        raise SystemExit(f"these machines run, and would take their share: {', '.join(running)} (./inv stop NAME)")
    cloud = connect(users)
    cloud.resolve_base(base_of(cloud, recipe), tell=lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=users) as folder:
        (Path(folder) / "local").mkdir(mode=0o700)
        (Path(folder) / "local/bases").symlink_to(users / "local/bases")
        os.environ["BAKEHOUSE_HOME"] = folder
        yield


def bake(recipe: str, *flags: str) -> dict[str, float]:
    """Bake once and return the seconds of each stage, `whole`, and `alike`: without what Packer has nothing like."""
    began = time.monotonic()
    done = _inv("bake", "--recipe", recipe, "--json", *flags)
    wall_s = time.monotonic() - began
    image = json.loads(done.splitlines()[-1])["image"]
    stages: dict[str, float] = json.loads((home() / "local/images" / image / "files/result.json").read_text())["seconds"]
    _inv("delete-image", image, "--yes")
    stages = {name: seconds for name, seconds in stages.items() if not name.startswith("test ")}
    return stages | {"whole": wall_s, "alike": wall_s - sum(stages[name] for name in TOLD_APART)}


def _inv(*words: str) -> str:
    return _finish([str(PROJECT / "inv"), *words])


def _finish(command: list[str], **environment: str) -> str:
    """Run a command and return what it prints. After a Ctrl-C, which reaches it too, it has the time to clean up."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        try:
            told, errors = process.communicate()
        except KeyboardInterrupt:
            process.communicate()
            raise
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{told}\n{errors}")
    return told


def packer(recipe: Recipe, folder: Path) -> float:
    """Build once with Packer and return its seconds."""
    template = folder / "template.json"
    template.write_text(json.dumps(packer_template(recipe, folder)))
    began = time.monotonic()
    _finish(["packer", "build", str(template)], PACKER_CACHE_DIR=str(folder / "cache"), CHECKPOINT_DISABLE="1", PACKER_LOG="0")
    return time.monotonic() - began


def packer_template(recipe: Recipe, folder: Path) -> dict[str, object]:
    """Return a template of Packer 1.6 with the machine, script and settings that Bakehouse's own builder has."""
    cloud = connect(home())
    base = home() / "local/bases" / cloud.resolve_base(base_of(cloud, recipe)).id
    key = folder / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    script = render(recipe, resolve(recipe, home() / "resolved", refresh=False), cloud=cloud.name).for_boot(
        names.new_nonce(), deadline_s=7200
    )
    (folder / "provision.sh").write_text(script)
    (folder / "let-in.sh").write_text(_LET_IN.format(key=key.with_suffix(".pub").read_text().strip()))
    (folder / "build.tar.gz").write_bytes(build_archive(build_files(host_settings())))
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
    record = replace(new_record(spec, created_at=0), waits=False)  # for nobody would tell it to go on
    ours = arguments(record, connect(home()).accelerator, boot_arguments(base))
    paths = {
        "file=disk.qcow2": f"file={disk}",
        " init_on_free=1": "",  # the price of our layers, and not Packer's to pay
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
