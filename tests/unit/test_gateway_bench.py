"""The gateway's benchmark sees what it is to see: an answer that is not right, and the CPU of processes that are gone."""

import os
import subprocess
import sys

import pytest

from tests.benchmarks import processes, upstream
from tests.benchmarks.gateway import KINDS, PLATFORM, Figures, Kind, verdicts
from tests.benchmarks.load import Block, check

MODEL = upstream.CHAT_MODELS[0]
WHOLE = upstream.whole(MODEL)
STREAM = upstream.at_once(MODEL, with_usage=True)
SPIN = "import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
SPUN_SECONDS = 0.3


def block(*, streamed: bool) -> Block:
    return Block("http://x", "k", {"stream": streamed}, 1, 1, 1, upstream.TEXT, len(upstream.TOKENS))


@pytest.mark.parametrize(("raw", "streamed"), [(WHOLE, False), (STREAM, True)])
def test_a_right_answer_is_no_failure(raw: bytes, streamed: bool) -> None:
    assert check(raw, block(streamed=streamed)) == ""


@pytest.mark.parametrize(
    ("raw", "streamed"),
    [
        (b"", False),
        (b"", True),
        (WHOLE[:-20], False),
        (STREAM[:-200], True),
        (STREAM.replace(b"token30", b"token31"), True),
        (WHOLE.replace(b"token30", b"token31"), False),
        (WHOLE.replace(b'"completion_tokens":60', b'"completion_tokens":59'), False),
        (STREAM.replace(b'"completion_tokens":60', b'"completion_tokens":59'), True),
        (upstream.at_once(MODEL, with_usage=False), True),
        (STREAM.replace(b"[DONE]", b"[DENO]"), True),
        (upstream.refusal(404, "no", "no"), False),
    ],
)
def test_a_wrong_cut_or_miscounted_answer_is_a_failure(raw: bytes, streamed: bool) -> None:
    assert check(raw, block(streamed=streamed))


def test_the_cpu_of_children_that_ended_counts() -> None:
    before = processes.seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", SPIN.format(seconds=SPUN_SECONDS)], check=True)
    assert processes.seconds([os.getpid()]) - before >= 0.9 * SPUN_SECONDS, "less what the kernel rounds off"


def test_the_cpu_of_a_tree_counts_the_children_that_run() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1] + '\\nprint(1, flush=True)\\ninput()'])"
    with subprocess.Popen(
        [sys.executable, "-c", script, SPIN.format(seconds=SPUN_SECONDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        spent = processes.seconds([process.pid])
        process.communicate(b"\n")
    assert spent >= 0.9 * SPUN_SECONDS


def figures(seconds: float) -> Figures:
    return Figures([1 / seconds], [seconds] * 10, [seconds] * 10, {"all": seconds}, 10)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
@pytest.mark.parametrize(("own", "met"), [(0.2, True), (0.5, False)])
def test_a_goal_is_missed_beyond_its_limit(kind: Kind, own: float, met: bool) -> None:
    times = {"direct": 0.0001, "litellm": 1.0, PLATFORM: own}
    table = {(kind.name, 16, party): figures(seconds) for party, seconds in times.items()}
    assert all(passed for passed, _ in verdicts(table)) is met


def test_a_single_failure_misses_the_goal() -> None:
    table = {("whole", 16, PLATFORM): figures(0.1)}
    assert all(passed for passed, _ in verdicts(table))
    table["whole", 16, PLATFORM].failed = 1
    assert not all(passed for passed, _ in verdicts(table))
