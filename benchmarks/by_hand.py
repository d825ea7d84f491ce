"""The commands of the clouds' own tools that tutorials give for a bake and a launch: gcloud and the AWS CLI; and Packer's bake.

The tools bake the same script as Bakehouse, and try the image with the same tests; and they launch from that image. Packer bakes
the same script.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clouds import markers, names
from clouds.aws import user_data
from clouds.gcp.instances import FACTS, SCRIPT, write_facts
from launcher.access.password import generate
from tasks import find_packer
from tests import packer
from tests.fake_guest import read_script
from tests.servers.ec2.catalog import DEBIAN

POLL_S = 5
_ZONE = ("--zone=us-central1-a",)


class ByHand(Protocol):
    """The tool of a cloud: `tool` is its name; `run` starts a command and returns what it prints; files go to `folder`."""

    tool: str

    def __init__(self, run: Callable[..., str], folder: Path, source: str) -> None:
        """`source` is the range (CIDR) that machines admit."""

    def bake(self, script: str, tests: str, image: str) -> None:
        """Bake a script into an image, and try that with tests."""

    def launch(self, name: str) -> None:
        """Launch from the image of the last bake, open SSH to the caller, and find out where the machine answers."""

    def delete(self, name: str) -> None:
        """Delete a machine, with what opens SSH to it."""


@dataclass
class Gcloud:
    """gcloud compute."""

    run: Callable[..., str]
    folder: Path
    source: str
    tool = "gcloud"

    def bake(self, script: str, tests: str, image: str) -> None:
        """Create a builder, watch it, stop it, create the image, delete the builder; then the same for the tests."""
        self._create("by-hand", "--image-family=debian-13", "--image-project=debian-cloud", metadata={SCRIPT: script})
        _poll(lambda: is_done(self._console("by-hand"), script))
        self._gcloud("instances", "stop", "by-hand", *_ZONE)
        self._gcloud("images", "create", image, "--source-disk=by-hand", "--source-disk-zone=us-central1-a", "--family=by-hand")
        self._gcloud("instances", "delete", "by-hand", *_ZONE)
        self._create("trial", f"--image={image}", metadata={SCRIPT: tests})
        _poll(lambda: is_done(self._console("trial"), tests))
        self._gcloud("instances", "delete", "trial", *_ZONE)

    def launch(self, name: str) -> None:
        """Create a firewall rule and a machine, watch it, and read its address."""
        nonce = names.new_nonce()
        rule = ("--allow=tcp:22", f"--source-ranges={self.source}", f"--target-tags={name}")
        self._gcloud("firewall-rules", "create", f"{name}-ssh", *rule)
        self._create(name, "--image-family=by-hand", f"--tags={name}", metadata={FACTS: write_facts(_facts(name, nonce))})
        _poll(lambda: f"{nonce} fact host-key" in self._console(name))
        self._gcloud("instances", "describe", name, *_ZONE, "--format=get(networkInterfaces[0].accessConfigs[0].natIP)")

    def delete(self, name: str) -> None:
        """Delete a machine and its firewall rule."""
        self._gcloud("instances", "delete", name, *_ZONE)
        self._gcloud("firewall-rules", "delete", f"{name}-ssh")

    def _gcloud(self, *words: str) -> str:
        return self.run("gcloud", "compute", *words)

    def _create(self, name: str, *words: str, metadata: Mapping[str, str]) -> None:
        """Create a machine; long metadata comes from files."""
        files = []
        for key, value in metadata.items():
            (self.folder / f"{name}-{key}").write_text(value)
            files.append(f"{key}={self.folder / f'{name}-{key}'}")
        from_files = f"--metadata-from-file={','.join(files)}"
        self._gcloud("instances", "create", name, *_ZONE, *words, "--machine-type=e2-small", from_files)

    def _console(self, name: str) -> str:
        return self._gcloud("instances", "get-serial-port-output", name, *_ZONE)


@dataclass
class AwsCli:
    """aws ec2. It knows machines and images by their ids, which the commands that make them print."""

    run: Callable[..., str]
    folder: Path
    source: str
    tool = "the AWS CLI"
    _image = ""
    _group = ""
    _launched = ""

    def bake(self, script: str, tests: str, image: str) -> None:
        """Run a builder, watch it, stop it, create the image, terminate the builder; then the same for the tests."""
        builder = self._create(self._base(), user_data.build({}, script))
        _poll(lambda: is_done(self._console(builder), script))
        self._aws("stop-instances", "--instance-ids", builder)
        self._aws("wait", "instance-stopped", "--instance-ids", builder)
        self._image = self._aws("create-image", "--instance-id", builder, "--name", image, "--query", "ImageId")
        self._aws("wait", "image-available", "--image-ids", self._image)
        self._aws("terminate-instances", "--instance-ids", builder)
        trial = self._create(self._image, user_data.build({}, tests))
        _poll(lambda: is_done(self._console(trial), tests))
        self._aws("terminate-instances", "--instance-ids", trial)

    def launch(self, name: str) -> None:
        """Create a security group and a machine, watch it, and read its address."""
        nonce = names.new_nonce()
        named = ("--group-name", name, "--description", name)
        self._group = self._aws("create-security-group", *named, "--query", "GroupId")
        rule = ("--protocol", "tcp", "--port", "22", "--cidr", self.source)
        self._aws("authorize-security-group-ingress", "--group-id", self._group, *rule)
        data = user_data.build(_facts(name, nonce), "")
        self._launched = self._create(self._image, data, "--security-group-ids", self._group)
        _poll(lambda: f"{nonce} fact host-key" in self._console(self._launched))
        address = "Reservations[0].Instances[0].PublicIpAddress"
        self._aws("describe-instances", "--instance-ids", self._launched, "--query", address)

    def delete(self, name: str) -> None:
        """Terminate the machine of the last launch, and delete its security group."""
        self._aws("terminate-instances", "--instance-ids", self._launched)
        self._aws("wait", "instance-terminated", "--instance-ids", self._launched)
        self._aws("delete-security-group", "--group-id", self._group)

    def _aws(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "awscli", "ec2", *words, "--output", "text").strip()

    def _base(self) -> str:
        """Return the id of the newest Debian 13, as wiki.debian.org/Cloud/AmazonEC2Image looks it up."""
        newest = ("--query", "sort_by(Images, &CreationDate)[-1].ImageId")
        return self._aws("describe-images", "--owners", DEBIAN, "--filters", "Name=name,Values=debian-13-amd64-*", *newest)

    def _create(self, image: str, data: bytes, *words: str) -> str:
        """Run a machine and wait for it; return its id."""
        file = self.folder / "user-data"
        file.write_bytes(data)
        made = ("--image-id", image, "--instance-type", "t3.small", "--user-data", f"fileb://{file}")
        instance = self._aws("run-instances", *made, *words, "--query", "Instances[0].InstanceId")
        self._aws("wait", "instance-running", "--instance-ids", instance)
        return instance

    def _console(self, instance: str) -> str:
        found = self.run(sys.executable, "-m", "awscli", "ec2", "get-console-output", "--latest", "--instance-id", instance)
        return str(json.loads(found).get("Output", ""))


@dataclass
class Packer:
    """Packer's builder amazon-ebs, without a communicator: it neither waits for the end of the script nor tries the image."""

    run: Callable[..., str]
    folder: Path

    def bake(self, script: str, image: str) -> None:
        """Build an image; Packer cleans up after itself."""
        program = find_packer()
        if program is None:
            raise SystemExit("no Packer with the builder amazon-ebs found; on Debian 12: apt-get install packer")
        data, template = self.folder / "packer-data", self.folder / "packer.json"
        data.write_bytes(user_data.build({}, script))
        plain = packer.builder(image, source_ami_filter=packer.NEWEST_DEBIAN, user_data_file=str(data))
        packer.write_template(template, plain)
        variables = (f"{name}={value}" for name, value in packer.variables(self.folder).items())
        self.run("env", *variables, program, "build", "-color=false", str(template))


def is_done(console: str, script: str) -> bool:
    """Say whether a console holds the marker of the last checkpoint of a script."""
    watched = read_script(script)
    found = [markers.parse(line, watched.nonce) for line in console.splitlines()]
    return markers.advance(markers.Progress(watched.names), [marker for marker in found if marker]).done


def _facts(name: str, nonce: str) -> dict[str, str]:
    return {"MACHINE": name, "NONCE": nonce, "AUTHORIZED_KEY": "ssh-ed25519 AAAA", "PASSWORD_HASH": generate()}


def _poll(is_over: Callable[[], bool]) -> None:
    """Look again and again until something is over."""
    while not is_over():
        time.sleep(POLL_S)
