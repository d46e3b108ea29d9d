import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.local.process import ChildProcess, PartError, birth, end_group

# Ends at SIGTERM like any program, or ignores it.
OBEDIENT = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
# Starts a child of its own, tells its id, and waits for it.
PARENT = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"

Spawn = Callable[[str], ChildProcess]


@pytest.fixture
def spawn(tmp_path: Path) -> Spawn:
    def start(program: str) -> ChildProcess:
        child = ChildProcess(
            "child",
            [sys.executable, "-c", program],
            env={},
            cwd=tmp_path,
            log_path=tmp_path / "logs" / "child.log",
            patience=0.3,
        )
        child.start()
        return child

    return start


def first_line(child: ChildProcess) -> str:
    while not child.log_tail():
        time.sleep(0.01)
    return child.log_tail().splitlines()[0]


@pytest.mark.parametrize("program", [OBEDIENT, STUBBORN])
def test_a_stopped_process_is_gone_whether_it_obeys_or_not(spawn: Spawn, program: str) -> None:
    child = spawn(program)
    first_line(child)
    assert child.running
    pid = child.pid
    assert pid is not None
    child.stop()
    assert birth(pid) is None
    assert child.pid is None
    assert not child.running


def test_what_a_process_started_itself_goes_with_it(spawn: Spawn) -> None:
    child = spawn(PARENT)
    grandchild = int(first_line(child))
    assert birth(grandchild) is not None
    child.stop()
    assert birth(grandchild) is None


def test_its_end_is_noticed_with_status_and_last_words(spawn: Spawn) -> None:
    child = spawn("import sys; print('why'); sys.exit(3)")
    assert child.wait(10) == 3
    assert not child.running
    assert (child.exit_status, child.log_tail()) == (3, "why")


def test_the_log_tail_begins_at_the_last_start(spawn: Spawn) -> None:
    child = spawn("print('x')")
    child.wait(10)
    child.stop()
    child.start()
    child.wait(10)
    assert child.log_tail() == "x"
    assert child.log_path.read_text() == "x\nx\n"


def test_stop_may_be_repeated_and_start_starts_once(spawn: Spawn) -> None:
    child = spawn(OBEDIENT)
    pid = child.pid
    child.start()
    assert child.pid == pid
    child.stop()
    child.stop()


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    child = ChildProcess("child", ["./nothing"], env={}, cwd=tmp_path, log_path=tmp_path / "child.log")
    with pytest.raises(PartError, match=r"child: cannot start \./nothing"):
        child.start()


def test_a_wait_has_an_end(spawn: Spawn) -> None:
    child = spawn(OBEDIENT)
    with pytest.raises(PartError, match="did not end within"):
        child.wait(0.01)
    child.stop()


def test_birth_tells_processes_apart_and_the_dead_have_none() -> None:
    with subprocess.Popen([sys.executable, "-c", OBEDIENT], stdout=subprocess.DEVNULL) as process:
        born = birth(process.pid)
        assert born is not None
        assert birth(process.pid) == born
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert birth(process.pid) is None


def test_a_zombie_counts_as_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OBEDIENT], start_new_session=True, stdout=subprocess.DEVNULL
    ) as process:
        end_group(process.pid, 5.0)  # nobody reaps it meanwhile
        assert birth(process.pid) is None


def test_ending_a_group_that_is_gone_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as process:
        process.wait()
    end_group(process.pid, 0.1)
