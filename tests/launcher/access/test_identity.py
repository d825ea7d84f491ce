import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clouds.driver import BootSpec
from clouds.errors import BakehouseError, CloudError, MissingToolError
from clouds.home import home
from launcher.access.identity import (
    certificate,
    forget,
    key_file,
    known_hosts,
    locked,
    pin,
    pin_certificate,
    sync,
    user_key,
)
from tests.fake_cloud import FakeCloud

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHcPRm0OgAPXrhuHWLprZvTCMmoJ3CqNDWGWnMCOxvr5"


def boot(fake: FakeCloud, name: str, **more: str) -> None:
    labels = {"project": "bakehouse", **more}
    fake.boot(
        BootSpec(name=name, token=name, source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels=labels, deadline_s=0, ports=(22,))
    )


def as_ssh_reads_it(config: Path, machine: str) -> dict[str, str]:
    """Return the settings that the real ssh reads from a config (`ssh -G` does not connect)."""
    shown = subprocess.run(["ssh", "-G", "-F", config, machine], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)


def test_key_is_made_once_and_private() -> None:
    first = user_key(home())
    assert first.startswith("ssh-ed25519 ")
    assert user_key(home()) == first
    assert key_file(home()).stat().st_mode & 0o777 == 0o600
    assert (home() / "ssh").stat().st_mode & 0o777 == 0o700


def test_commands_at_the_same_time_agree_on_one_key() -> None:
    program = "from clouds.home import home; from launcher.access.identity import user_key; print(user_key(home()))"
    with ThreadPoolExecutor() as pool:
        keys = list(pool.map(lambda _: subprocess.check_output([sys.executable, "-c", program], text=True), range(4)))
    assert len(set(keys)) == 1


def test_half_a_key_is_made_anew() -> None:
    first = user_key(home())
    key_file(home()).unlink()
    assert user_key(home()) != first
    assert key_file(home()).exists()


@pytest.mark.parametrize("content", [None, b"", b"ssh-ed25519 AAAA", b"\xff" * 200])
def test_public_half_that_is_missing_or_damaged_is_derived_from_the_private_one(content: bytes | None) -> None:
    first = user_key(home())
    public = key_file(home()).with_suffix(".pub")
    public.unlink() if content is None else public.write_bytes(content)
    assert user_key(home()).split()[:2] == first.split()[:2]


def test_damaged_key_is_kept_and_reported() -> None:
    user_key(home())
    key_file(home()).write_text("-----BEGIN")
    key_file(home()).with_suffix(".pub").unlink()
    with pytest.raises(BakehouseError, match="not a readable private key"):
        user_key(home())
    assert key_file(home()).read_text() == "-----BEGIN"


def test_missing_openssh_is_reported_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingToolError, match="ssh-keygen") as raised:
        user_key(home())
    assert "openssh-client" in raised.value.next_step


def test_ssh_reads_the_config_as_it_is_meant(fake: FakeCloud) -> None:
    boot(fake, "one")
    pin(home(), "fake", "one", HOST_KEY)
    settings = as_ssh_reads_it(sync(home(), fake), "one")
    endpoint = fake.address("one", 22)
    assert (settings["hostname"], settings["port"], settings["user"]) == (endpoint.host, str(endpoint.port), "notebook")
    assert settings["identityfile"] == str(key_file(home()))
    assert settings["userknownhostsfile"] == str(known_hosts(home(), "fake", "one"))
    assert settings["hostkeyalias"] == "one"
    assert settings["stricthostkeychecking"] in ("yes", "true")
    assert settings["forwardagent"] == "no"
    assert settings["identitiesonly"] == "yes"


def test_users_ssh_forwards_the_port_of_their_editor_but_no_command_of_bakehouse_does(fake: FakeCloud) -> None:
    for name, labels in {"one": {"rsub": "1"}, "two": {}}.items():
        boot(fake, name, **labels)
        pin(home(), "fake", name, HOST_KEY)
    part, both = sync(home(), fake), home() / "ssh/config"
    assert as_ssh_reads_it(both, "one")["remoteforward"] == "[127.0.0.1]:52698 [127.0.0.1]:52698"
    for config, name in ((both, "two"), (part, "one"), (part, "two")):
        assert "remoteforward" not in as_ssh_reads_it(config, name)


def test_folder_with_spaces_and_percents_is_read_by_ssh(fake: FakeCloud, tmp_path: Path) -> None:
    folder = tmp_path / "a home of 50% space"
    folder.mkdir()
    boot(fake, "one")
    pin(folder, "fake", "one", HOST_KEY)
    settings = as_ssh_reads_it(sync(folder, fake), "one")
    assert settings["userknownhostsfile"].replace("%%", "%") == str(folder / "ssh/known_hosts/fake/one")
    assert settings["identityfile"].replace("%%", "%") == str(folder / "ssh/id_ed25519")


def test_pinned_key_is_found_by_ssh_under_the_machines_name(fake: FakeCloud) -> None:
    pin(home(), "fake", "one", HOST_KEY)
    found = subprocess.run(["ssh-keygen", "-F", "one", "-f", known_hosts(home(), "fake", "one")], capture_output=True, text=True)
    assert HOST_KEY in found.stdout


def test_key_is_not_pinned_while_another_command_forgets_machines() -> None:
    pinned = known_hosts(home(), "fake", "one")
    with ThreadPoolExecutor() as pool:
        with locked(home() / "ssh"):
            pinning = pool.submit(pin, home(), "fake", "one", "ssh-ed25519 AAAA")
            with pytest.raises(TimeoutError):
                pinning.result(timeout=0.1)
            assert not pinned.parent.exists()
        pinning.result(timeout=20)
    assert pinned.exists()


def test_machine_without_a_pinned_key_is_left_out(fake: FakeCloud) -> None:
    boot(fake, "one")
    assert "one" not in sync(home(), fake).read_text()


def test_deleted_machine_is_removed_from_the_config_with_its_host_key(fake: FakeCloud) -> None:
    boot(fake, "one")
    pin(home(), "fake", "one", HOST_KEY)
    assert "Host one\n" in sync(home(), fake).read_text()
    fake.world.machines.clear()
    assert "one" not in sync(home(), fake).read_text()
    assert not known_hosts(home(), "fake", "one").exists()


def test_one_machine_is_forgotten_while_the_others_stay_and_the_cloud_is_not_asked(fake: FakeCloud) -> None:
    for name in ("one", "two"):
        boot(fake, name)
        pin(home(), "fake", name, HOST_KEY)
        pin_certificate(home(), "fake", name, "3A:F0")
    config = sync(home(), fake)
    fake.world.machines.clear()
    forget(home(), fake, "one")
    for path in (config, home() / "ssh/config"):
        assert "Host two\n" in path.read_text()
        assert "Host one\n" not in path.read_text()
    assert known_hosts(home(), "fake", "two").exists()
    assert certificate(home(), "fake", "two") == "3A:F0"
    assert not known_hosts(home(), "fake", "one").exists()
    with pytest.raises(CloudError):
        certificate(home(), "fake", "one")


def test_machine_without_any_ssh_settings_is_forgotten(fake: FakeCloud) -> None:
    forget(home(), fake, "one")
    assert not (home() / "ssh/config").exists()


def test_machines_of_another_cloud_stay_in_the_config(fake: FakeCloud) -> None:
    boot(fake, "one")
    pin(home(), "fake", "one", HOST_KEY)
    sync(home(), fake)
    other = FakeCloud(type(fake.world)(fake.world.folder))
    other.name = "other"
    sync(home(), other)
    assert "Host one\n" in (home() / "ssh/config").read_text()
    assert known_hosts(home(), "fake", "one").exists()
