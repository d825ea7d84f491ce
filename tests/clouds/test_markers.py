import subprocess
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from clouds.markers import Checkpoint, Fact, LogLine, Marker, Progress, advance, panic, parse, split_lines
from clouds.names import new_nonce

NONCE = "0123456789abcdef0123456789abcdef"
OLD_NONCE = "fedcba9876543210fedcba9876543210"
NAMES = ("boot", "prepare", "packages", "seal")

plain_text = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))


def line_of(body: str, nonce: str = NONCE) -> str:
    return f"[   17.123456] bakehouse[412]: {nonce} {body} ;"


def checkpoint_line(seq: int, status: str = "ok", nonce: str = NONCE) -> str:
    return line_of(f"checkpoint {seq}/{len(NAMES)} {NAMES[seq - 1]} {status}", nonce)


def read(pieces: Iterable[str], nonce: str = NONCE) -> list[Marker]:
    tail, found = "", []
    for piece in pieces:
        lines, tail = split_lines(tail, piece)
        found += [marker for line in lines if (marker := parse(line, nonce))]
    return found


def progress(lines: Sequence[str]) -> Progress:
    return advance(Progress(NAMES), read(line + "\r\n" for line in lines))


CONSOLE = "\r\n".join(
    [
        "[    0.000000] Linux version 6.12",
        checkpoint_line(1),
        "[   18.0] audit: type=1400",
        checkpoint_line(2),
        line_of("fact host-key ssh-ed25519 AAAA"),
        line_of("log E: Unable to locate package nosuch"),
        checkpoint_line(3, "failed line=12 exit=100"),
        "",
    ]
)
MARKERS = [
    Checkpoint(1, 4, "boot"),
    Checkpoint(2, 4, "prepare"),
    Fact("host-key", "ssh-ed25519 AAAA"),
    LogLine("E: Unable to locate package nosuch"),
    Checkpoint(3, 4, "packages", 12, 100),
]


def test_a_test_that_cannot_run_here_is_skipped_with_its_reason_and_not_failed() -> None:
    [marker] = read([checkpoint_line(4, "skipped no GPU here") + "\n"])
    assert marker == Checkpoint(4, 4, "seal", skipped="no GPU here")
    assert progress([checkpoint_line(4, "skipped no GPU here")]).done


def test_markers_are_read_from_a_console() -> None:
    assert read([CONSOLE]) == MARKERS


@given(st.sets(st.integers(1, len(CONSOLE) - 1)))
def test_every_split_of_the_input_gives_the_same_markers(cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(CONSOLE)]
    assert read(CONSOLE[start:end] for start, end in pairwise(places)) == MARKERS


def test_input_byte_by_byte_gives_the_same_markers() -> None:
    assert read(CONSOLE) == MARKERS


def test_unfinished_line_is_no_marker_yet() -> None:
    assert read([checkpoint_line(1)]) == []


@given(st.integers(0, len(checkpoint_line(2))), plain_text)
def test_kernel_noise_inside_a_line_loses_at_most_that_marker(at: int, noise: str) -> None:
    line = checkpoint_line(2)
    cut = line[:at] + f"[   17.2] {noise}" + line[at:]
    found = read([f"{checkpoint_line(1)}\r\n{cut}\r\n{checkpoint_line(3)}\r\n"])
    assert [marker for marker in found if marker != Checkpoint(2, 4, "prepare")] == [MARKERS[0], Checkpoint(3, 4, "packages")]


@given(st.integers(0, len(checkpoint_line(2))), plain_text)
def test_kernel_line_that_breaks_a_line_in_two_never_makes_a_wrong_marker(at: int, noise: str) -> None:
    line = checkpoint_line(2)
    found = read([f"{line[:at]}\r\n[   17.2] {noise}\r\n{line[at:]}\r\n"])
    assert found in ([], [Checkpoint(2, 4, "prepare")])


def test_lost_marker_is_made_good_by_the_number_of_the_next() -> None:
    assert progress([checkpoint_line(1), checkpoint_line(3)]).reached == 3


def test_failure_tells_that_the_steps_before_it_are_done() -> None:
    failed = progress([checkpoint_line(1), checkpoint_line(3, "failed line=12 exit=100")])
    assert (failed.reached, failed.failure, failed.current) == (2, Checkpoint(3, 4, "packages", 12, 100), "packages")


def test_all_checkpoints_make_it_done() -> None:
    assert progress([checkpoint_line(seq) for seq in (1, 2, 3, 4)]).done


@given(st.lists(st.sampled_from([1, 2, 3, 4])))
def test_repeated_and_late_markers_never_set_progress_back(seqs: list[int]) -> None:
    assert progress([checkpoint_line(seq) for seq in seqs]).reached == max(seqs, default=0)


def test_nothing_counts_after_a_failure() -> None:
    failed = [checkpoint_line(1), line_of("log why"), checkpoint_line(2, "failed line=1 exit=3")]
    assert progress([*failed, line_of("log why"), *failed, checkpoint_line(4)]) == progress(failed)


def test_markers_of_another_script_change_nothing() -> None:
    others = ["checkpoint 1/5 boot ok", "checkpoint 2/4 other ok", "checkpoint 0/4 boot ok", "checkpoint 5/4 boot ok"]
    assert progress([line_of(other) for other in others]) == Progress(NAMES)


def test_exit_status_zero_is_still_a_failure() -> None:
    assert progress([checkpoint_line(1, "failed line=1 exit=0")]).failure


def test_marker_of_an_older_boot_is_none() -> None:
    assert read([checkpoint_line(4, nonce=OLD_NONCE) + "\r\n"]) == []


@given(plain_text)
def test_line_without_the_nonce_is_never_a_marker(text: str) -> None:
    assert parse(text, NONCE) is None


@given(plain_text, st.sampled_from(["bakehouse[412]", "bakehouse", "kernel", "sudo[1]"]))
def test_output_of_a_package_cannot_fake_a_marker(text: str, tag: str) -> None:
    assert parse(f"[   17.1] {tag}: {text} checkpoint 4/4 seal ok ;", NONCE) is None


def test_nonce_told_under_another_tag_is_no_marker() -> None:
    assert parse(checkpoint_line(4).replace("bakehouse", "apt"), NONCE) is None


WRITE = """
a={a}; b={b}
say() {{ printf '%s%s %s ;\\n' "$a" "$b" "$1" | sed 's/^/[   17.1] bakehouse[412]: /'; }}
say 'checkpoint 1/4 boot ok'
"""


def test_script_run_under_set_x_shows_a_marker_only_where_it_writes_one() -> None:
    nonce = new_nonce()
    script = WRITE.format(a=nonce[:16], b=nonce[16:])
    run = subprocess.run(["bash", "-xv", "-c", "set -xv\n" + script], capture_output=True, text=True, check=True)
    assert nonce not in script + run.stderr
    assert read([script, run.stderr, run.stdout], nonce) == [Checkpoint(1, 4, "boot")]


@given(plain_text)
def test_any_line_of_a_log_is_told(text: str) -> None:
    assert read([line_of(f"log {text}") + "\r\n"]) == [LogLine(text)]


def test_log_line_that_imitates_a_checkpoint_is_still_a_log_line() -> None:
    assert parse(line_of("log bakehouse[1]: checkpoint 4/4 seal ok"), NONCE) == LogLine("bakehouse[1]: checkpoint 4/4 seal ok")


def test_panic_is_known_by_the_kernels_own_line() -> None:
    assert panic("[   17.2] Kernel panic - not syncing: Attempted to kill init!") == "Attempted to kill init!"
    assert panic("[    3.1] PANIC: double fault, error_code: 0x0") == "double fault, error_code: 0x0"
    assert panic("[   17.2] Kernel panic - not syncing: ") == "no reason given"


def test_panic_whose_first_line_was_lost_is_known_by_the_last() -> None:
    cut = "[   17.1] bakehouse[412]: 0123 checkp[   17.2] Kernel panic - not syncing: Fatal exception"
    assert panic(cut) == ""
    assert panic("[   17.3] ---[ end Kernel panic - not syncing: Fatal exception ]---") == "Fatal exception"


def test_talk_of_a_panic_is_none() -> None:
    assert panic("Unpacking kernel-panic-tools: Kernel panic - not syncing: a manual") == ""


def test_panic_quoted_in_the_log_of_a_step_is_none() -> None:
    assert panic(line_of("log [   17.2] Kernel panic - not syncing: seen elsewhere")) == ""
