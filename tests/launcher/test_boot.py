import pytest

from clouds.driver import BootSpec, Endpoint, State
from clouds.errors import CloudError, GuestError, KernelPanicError, TimedOutError
from clouds.names import new_nonce
from launcher.boot import Boot, bring_up, ssh_answers
from tests.fake_cloud import FakeCloud
from tests.fake_services import ssh

NONCE = "0123456789abcdef0123456789abcdef"
OTHER_NONCE = "f" * 32


def said(body: str, nonce: str = NONCE) -> str:
    return f"[   17.123456] bakehouse[412]: {nonce} {body} ;\r\n"


@pytest.fixture
def quiet(fake: FakeCloud) -> FakeCloud:
    """Give a running machine `one` that has printed nothing."""
    fake.boot(BootSpec(name="one", token="t", source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels={}, deadline_s=0))
    fake.world.machines["one"].console = b""
    return fake


def printed(cloud: FakeCloud, text: str) -> None:
    cloud.world.machines["one"].console += text.encode()


def dies(cloud: FakeCloud) -> None:
    cloud.world.machines["one"].state = State.STOPPED


def test_host_key_is_read_from_several_pieces(quiet: FakeCloud) -> None:
    boot = Boot(quiet, "one", NONCE)
    line = said("fact host-key ssh-ed25519 AAAA")
    for at in range(len(line)):
        assert boot.host_key == ""
        printed(quiet, line[at])
        boot.poll()
    assert boot.host_key == "ssh-ed25519 AAAA"


def test_truncated_line_is_not_joined_to_later_output(quiet: FakeCloud) -> None:
    line = said("fact host-key ssh-ed25519 AAAA")
    boot = Boot(quiet, "one", NONCE)
    printed(quiet, line[:-12])
    boot.poll()
    quiet.console_bytes = 12
    printed(quiet, " lost" * 10 + line[-12:])
    boot.poll()
    assert boot.host_key == ""
    printed(quiet, line)
    quiet.console_bytes = len(line)
    boot.poll()
    assert boot.host_key == "ssh-ed25519 AAAA"


def test_host_key_of_an_older_boot_or_of_an_imposter_is_not_believed(quiet: FakeCloud) -> None:
    printed(quiet, said("fact host-key ssh-ed25519 BAD", OTHER_NONCE) + f"{NONCE} fact host-key ssh-ed25519 BAD ;\n")
    boot = Boot(quiet, "one", NONCE)
    boot.poll()
    assert (boot.host_key, boot.has_spoken) == ("", False)


def test_panic_is_reported_at_once_with_its_reason_and_the_last_lines(quiet: FakeCloud) -> None:
    printed(quiet, "[    1.0] Loading\r\n[    1.2] Kernel panic - not syncing: Attempted to kill init!\r\n")
    boot = Boot(quiet, "one", NONCE)
    boot.await_identity()
    with pytest.raises(KernelPanicError, match="Attempted to kill init") as raised:
        boot.check()
    assert raised.value.log[0] == "[    1.0] Loading"


def test_machine_that_powers_off_is_reported_at_once_with_its_last_output(quiet: FakeCloud) -> None:
    printed(quiet, "[    3.0] reboot: Power down\r\n")
    dies(quiet)
    boot = Boot(quiet, "one", NONCE)
    boot.await_identity()
    with pytest.raises(CloudError, match="powered off while it was starting") as raised:
        boot.check()
    assert "reboot: Power down" in raised.value.__notes__[0]


def test_silent_machine_is_waited_for_no_longer_than_the_deadline(quiet: FakeCloud) -> None:
    quiet.slowness = 0.001
    printed(quiet, "[    3.0] waiting for\x1b[31m a disk\r\n")
    with pytest.raises(TimedOutError, match=r"its SSH host key: timed out after 0 s; last seen: .* waiting for a disk"):
        Boot(quiet, "one", NONCE).await_identity()


def test_machine_that_ends_while_its_service_starts_is_reported_at_once(quiet: FakeCloud) -> None:
    boot = Boot(quiet, "one", NONCE)
    dies(quiet)
    with pytest.raises(CloudError, match="powered off while it was starting"):
        boot.await_answer(lambda: False, what="an answer")


def test_machine_whose_service_answers_is_asked_nothing(quiet: FakeCloud) -> None:
    quiet.fault("console", error=CloudError("was asked"))
    quiet.fault("find", error=CloudError("was asked"))
    Boot(quiet, "one", NONCE).await_answer(lambda: True, what="an answer")


def test_machine_that_ends_before_its_first_marker_is_started_once_more(quiet: FakeCloud) -> None:
    told: list[str] = []

    def again(_failed: Boot) -> Boot:
        quiet.start("one", deadline_s=0, facts={"NONCE": NONCE})
        return Boot(quiet, "one", NONCE)

    dies(quiet)
    boot = bring_up(lambda: Boot(quiet, "one", NONCE), again, told.append)
    assert boot.host_key
    assert told == ["machine 'one': it powered off while it was starting; starting it once more"]


def test_machine_that_ends_twice_is_an_error(quiet: FakeCloud) -> None:
    tried: list[str] = []

    def boot() -> Boot:
        tried.append("")
        return Boot(quiet, "one", new_nonce())

    dies(quiet)
    with pytest.raises(CloudError, match="powered off while it was starting"):
        bring_up(boot, lambda _failed: boot(), lambda _line: None)
    assert len(tried) == 2


def test_machine_that_ends_after_its_first_marker_is_not_started_again(quiet: FakeCloud) -> None:
    printed(quiet, said("checkpoint 1/2 boot ok"))
    dies(quiet)
    with pytest.raises(CloudError, match="powered off while it was starting"):
        bring_up(lambda: Boot(quiet, "one", NONCE), lambda _failed: pytest.fail("started again"), lambda _line: None)


def test_greeting_of_an_ssh_server_is_an_answer_and_nothing_else_is() -> None:
    assert ssh_answers(ssh())
    assert not ssh_answers(Endpoint("127.0.0.1", 9))


def test_jupyter_that_always_fails_ends_the_wait_with_its_own_last_lines(quiet: FakeCloud) -> None:
    boot = Boot(quiet, "one", NONCE)
    printed(quiet, "[   20.0] jupyter[9]: ModuleNotFoundError: No module named 'mine'\r\n" + said("fact notebook failed"))
    with pytest.raises(GuestError, match="its Jupyter fails whenever it starts") as raised:
        boot.await_answer(lambda: False, what="response of its notebook")
    assert "No module named 'mine'" in raised.value.log[0]
    assert "configuration" in raised.value.next_step
