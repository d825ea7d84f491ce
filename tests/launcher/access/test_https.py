"""A notebook with TLS: its certificate is reported on the console, pinned, and the only one that is accepted."""

from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import Wishes
from clouds.errors import CloudError, TimedOutError, UsageError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.access.identity import certificate
from launcher.access.notebook import Session, answers
from launcher.launch import Launched, LaunchOptions, launch
from launcher.machines import delete, machines, notebook_url
from launcher.power import start, stop
from tests import fake_services
from tests.fake_memory import MemoryCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import Machine
from tests.launcher.given import put_memory

OPTIONS = LaunchOptions(name="one", wishes=Wishes(https_port=8443))
OTHER = "AA:" * 31 + "AA"


@pytest.fixture
def one(remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path) -> Launched:
    """Launch a machine `one` whose notebook is open with TLS."""
    return launch(remote, ledger, OPTIONS)


def machine(remote: RemoteCloud) -> Machine:
    return remote.world.machines["one"]


def test_notebook_answers_with_tls_and_no_tunnel_is_opened(remote: RemoteCloud, one: Launched, far_ssh: Path) -> None:
    assert one.url == f"https://127.0.0.1:{remote.address('one', 8443).port}/"
    assert answers(one.url, fingerprint=one.certificate)
    assert not (far_ssh / "ssh.calls").exists()


def test_fingerprint_comes_from_the_console_and_is_pinned(remote: RemoteCloud, one: Launched) -> None:
    assert one.certificate == fake_services.certificate().fingerprint
    assert certificate(home(), "faraway", "one") == one.certificate
    assert one.to_json()["certificate"] == one.certificate
    assert (home() / "ssh/certificates/faraway/one").stat().st_mode & 0o777 == 0o600


def test_machine_opens_its_reverse_proxy_and_the_cloud_its_port(remote: RemoteCloud, one: Launched) -> None:
    assert (machine(remote).facts["HTTPS_PORT"], machine(remote).facts["HTTPS_ADDRESS"]) == ("8443", "one")
    assert machine(remote).spec.wishes.https_port == 8443


def test_another_certificate_is_refused_before_anything_is_sent(one: Launched) -> None:
    assert one.url and one.password
    with pytest.raises(CloudError, match="its certificate is not the one that the machine reported") as raised:
        Session(one.url, fingerprint=OTHER).post("/login", {"password": one.password})
    assert raised.value.next_step


def test_no_certificate_at_all_is_trusted_without_a_fingerprint(one: Launched) -> None:
    assert one.url
    with pytest.raises(CloudError, match="its certificate is not the one that the machine reported"):
        answers(one.url)


def test_launch_fails_at_once_and_leaves_nothing_if_another_server_responds_at_its_address(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path
) -> None:
    def tell_another() -> None:
        told = fake_services.certificate().fingerprint
        machine(remote).console = machine(remote).console.replace(told.encode(), OTHER.encode())

    remote.fault("boot", when="after", error=tell_another)
    with pytest.raises(CloudError, match="its certificate is not the one that the machine reported"):
        launch(remote, ledger, OPTIONS)
    assert remote.world.machines == {}
    assert not (home() / "ssh/certificates/faraway/one").exists()


def test_machine_that_reports_no_certificate_is_not_trusted(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path
) -> None:
    def tell_none() -> None:
        remote.slowness = 0.001
        machine(remote).console = machine(remote).console.replace(b"fact certificate", b"fact nothing")

    remote.fault("boot", when="after", error=tell_none)
    with pytest.raises(TimedOutError, match="fingerprint of its certificate"):
        launch(remote, ledger, OPTIONS)


def test_machines_and_open_show_the_url(remote: RemoteCloud, one: Launched) -> None:
    assert [view.url for view in machines(remote)] == [one.url]
    assert notebook_url(remote, "one") == one.url


def test_started_machine_is_open_again_and_its_certificate_known(remote: RemoteCloud, one: Launched) -> None:
    stop(remote, "one")
    (home() / "ssh/certificates/faraway/one").unlink()
    assert start(remote, "one").url == one.url
    assert certificate(home(), "faraway", "one") == one.certificate


def test_certificate_of_a_deleted_machine_is_removed(remote: RemoteCloud, ledger: Ledger, one: Launched) -> None:
    delete(remote, ledger, "one")
    with pytest.raises(CloudError, match="its certificate is not pinned on this computer"):
        certificate(home(), "faraway", "one")


def test_image_without_a_notebook_has_nothing_to_open(remote: RemoteCloud, ledger: Ledger, minimal: str) -> None:
    with pytest.raises(UsageError, match="--https: the image has no notebook"):
        launch(remote, ledger, LaunchOptions(recipe="minimal", wishes=Wishes(https_port=443)))


def test_machine_restored_from_memory_reports_its_certificate_too(keeping: MemoryCloud, ledger: Ledger, jupyter: str) -> None:
    keeping.grants = frozenset({"https_port"})
    put_memory(keeping.world, jupyter)
    launched = launch(keeping, ledger, replace(OPTIONS, wishes=Wishes(https_port=8888)))
    assert [call for call in keeping.calls if call.split()[0] in ("boot", "restore")] == ["restore one"]
    assert launched.url == f"https://127.0.0.1:{keeping.address('one', 8888).port}/"
    assert answers(launched.url, fingerprint=certificate(home(), "fake", "one"))
