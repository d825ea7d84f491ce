"""A builder that receives its script: what it tells, that it checks everything, and that it runs the script. Bash runs it here."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from bakery.recipe.recipe import Copy, Recipe, Step
from bakery.script.render import Part, Script, frame, receiver, render
from bakery.script.resolve import Resolution
from bakery.shipment import SCRIPT, Shipment, carry
from clouds import markers
from clouds.driver import Limits
from tests.bash_guest import NONCE, Guest, new_guest

pytestmark = pytest.mark.program

KEY = "ssh-ed25519 AAAAclient bake-1"


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    made = new_guest(tmp_path / "guest")
    for name, body in {
        "ssh-keygen": 'printf "ssh-ed25519 AAAAhost \\n" | tee "${@: -1}" >"${@: -1}.pub"',
        "getent": 'printf "%s\\n" "root:${LOCKED-*}:1::::::"',
        "fstrim": 'printf "%s\\n" "fstrim $*" >>"$CALLS"',
        # The client sends everything while the builder sleeps for the first time.
        "sleep": f"cp {tmp_path}/sent/* {made.root}/var/lib/bakehouse/received/ 2>/dev/null || true",
    }.items():
        made.write(f"bin/{name}", f"#!/bin/bash\n{body}\n")
        (made.root / "bin" / name).chmod(0o755)
    made.write("disk", "5000")
    return made


def script_with_a_file(folder: Path) -> Script:
    (folder / "data").write_text("1,2\n")
    copy = Copy(**{"from": "data", "to": f"{folder}/guest/srv/data", "owner": "root"})
    return render(Recipe(name="one", folder=folder, steps=(Step(name="files", copy=(copy,)),)), Resolution({}, ""))


def send(folder: Path, shipment: Shipment, *, damage: str = "") -> None:
    """Lay out what the client sends."""
    (folder / "sent").mkdir(exist_ok=True)
    sums = ""
    for name in shipment.sizes:
        content = bytearray()
        if name == SCRIPT:
            content.extend(shipment.script.encode())
        else:
            shipment.archives[0].write(content.extend)
        sums += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        (folder / "sent" / name).write_bytes(bytes(content) + (b"x" if name == damage else b""))
    (folder / "sent/complete").write_text(sums)


def run(guest: Guest, sizes: dict[str, int], *, deadline_s: int = 60, total: int = 3) -> list[markers.Marker]:
    """Boot with the script that receives; return what it tells."""
    text = receiver(total, NONCE, KEY, sizes, deadline_s=deadline_s)
    console = guest.run_text(text)
    return [marker for line in console.splitlines() if (marker := markers.parse(line, NONCE))]


@pytest.fixture
def shipment(guest: Guest, tmp_path: Path) -> Shipment:
    """Give a short script and an archive, sent whole."""
    (archive,) = script_with_a_file(tmp_path).archives(0)
    made = Shipment(f"printf 'ran\\n' >>{guest.root}/ran\n", (archive,))
    send(tmp_path, made)
    return made


def test_a_builder_tells_its_host_key_receives_everything_and_runs_the_script(guest: Guest, shipment: Shipment) -> None:
    told = run(guest, shipment.sizes)
    assert told == [markers.Fact("host-key", "ssh-ed25519 AAAAhost")]
    assert guest.read("ran") == "ran\n"
    server = next(line for line in guest.read("calls").splitlines() if "sshd" in line)
    for word in (
        "AllowUsers=root",
        "ForceCommand=internal-sftp",
        "AuthenticationMethods=publickey",
        "UsePAM=no",
        "DisableForwarding",
    ):
        assert word in server
    assert "systemctl stop bakehouse-receive.service" in guest.read("calls")


def test_the_keys_are_in_memory_and_gone_when_the_script_runs(guest: Guest, shipment: Shipment) -> None:
    run(guest, shipment.sizes)
    assert not (guest.root / "run/bakehouse/receive").exists()
    assert not list(guest.root.rglob("authorized_keys"))


def test_a_locked_root_account_is_let_in_by_pam(guest: Guest, shipment: Shipment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKED", "!*")
    run(guest, shipment.sizes)
    assert "UsePAM=yes" in guest.read("calls")


def test_a_restart_in_a_step_runs_the_script_again_and_receives_nothing(guest: Guest, shipment: Shipment) -> None:
    run(guest, shipment.sizes)
    guest.reboot()
    assert run(guest, shipment.sizes) == []
    assert guest.read("ran") == "ran\nran\n"


@pytest.mark.parametrize("damage", [SCRIPT, "archive"])
def test_what_is_damaged_is_not_run(guest: Guest, shipment: Shipment, tmp_path: Path, damage: str) -> None:
    send(tmp_path, shipment, damage=next(iter(shipment.sizes)) if damage == "archive" else damage)
    told = run(guest, shipment.sizes)
    assert markers.LogLine("bakehouse: what was received is not what was sent") in told
    assert isinstance(told[-1], markers.Checkpoint)
    assert (told[-1].seq, told[-1].total, told[-1].name, told[-1].ok) == (1, 3, "boot", False)
    assert not (guest.root / "ran").exists()
    assert "systemctl poweroff --force" in guest.read("calls")


def test_a_disk_that_is_too_small_is_told_before_anything_is_sent(guest: Guest, shipment: Shipment) -> None:
    guest.write("disk", "1000")
    told = run(guest, {**shipment.sizes, "other.tar": 600_000_000})
    assert markers.LogLine("bakehouse: disk full (1000 MB are free now; the files and their archives need 1250 MB)") in told
    assert "sshd" not in guest.read("calls")


def test_what_does_not_arrive_in_time_is_told(guest: Guest, shipment: Shipment, tmp_path: Path) -> None:
    (tmp_path / "sent/complete").unlink()
    told = run(guest, shipment.sizes, deadline_s=0)
    assert markers.LogLine("bakehouse: not everything was received within 0 s") in told


def test_where_the_disk_becomes_a_layer_the_script_is_in_memory(guest: Guest, shipment: Shipment) -> None:
    guest.write("run/bakehouse/await", "1")
    run(guest, shipment.sizes)
    left = sorted(path.name for path in (guest.root / "var/lib/bakehouse/received").iterdir())
    assert left == sorted(name for name in shipment.sizes if name != SCRIPT)
    assert (guest.root / "run/bakehouse/received.sh").exists()


def unpack_step(guest: Guest, digest: str) -> str:
    """Run `unpack` as a step would; return what it prints."""
    lib = (Path(__file__).parents[2] / "templates/frame/lib.sh.j2").read_text()
    text = re.sub(r"(?<![\w.}/-])(?=/(?:var|run)\b)", str(guest.root), f"set -e\n{lib}\nunpack {digest}\n")
    done = subprocess.run(["bash", "-c", text], env=guest.environ(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="tar gives files to root")
@pytest.mark.parametrize("is_layered", [False, True])
def test_a_step_unpacks_what_was_received_and_leaves_no_archive_in_a_layer(
    guest: Guest, shipment: Shipment, tmp_path: Path, is_layered: bool
) -> None:
    if is_layered:
        guest.write("run/bakehouse/await", "1")
    run(guest, shipment.sizes)
    unpack_step(guest, shipment.archives[0].sha256)
    assert (guest.root / "srv/data").read_text() == "1,2\n"
    archive = guest.root / f"var/lib/bakehouse/received/{shipment.archives[0].sha256}.tar"
    assert archive.exists() != is_layered
    assert ("fstrim /" in guest.read("calls")) == is_layered


@pytest.mark.skipif(os.getuid() != 0, reason="tar gives files to root")
@pytest.mark.parametrize("is_layered", [False, True])
def test_a_step_unpacks_what_its_script_carries(tmp_path: Path, is_layered: bool) -> None:
    guest = new_guest(tmp_path / "guest")
    guest.write("bin/fstrim", "#!/bin/sh\n")
    (guest.root / "bin/fstrim").chmod(0o755)
    (files,) = script_with_a_file(tmp_path).archives(0)
    script = frame("a test", [Part("files", f"unpack {files.sha256}\n", archive=files), Part("seal", "true\n")], is_bake=True)
    carried = carry([files], Limits())
    assert carried is not None
    if is_layered:
        guest.write("run/bakehouse/await", "1")
    console = guest.run_text(script.for_boot(NONCE, deadline_s=0, done=1, carried=carried))
    assert guest.progress(script, console).reached >= 2, console
    assert (guest.root / "srv/data").read_text() == "1,2\n"
    assert bool(list((guest.root / "run/bakehouse/files").iterdir())) != is_layered
