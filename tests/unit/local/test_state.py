import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.process import birth
from infra.local.state import Record, Running, StateDir, StateError

HOLD = """
import sys, time
from pathlib import Path
from infra.local.state import StateDir
state = StateDir(Path(sys.argv[1]))
state.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.create()
    return made


def test_a_folder_is_made_once_and_recognised(state: StateDir) -> None:
    assert state.ours
    state.create()
    assert state.logs.is_dir()


def test_a_folder_with_other_contents_is_never_taken_or_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.md").write_text("years of work")
    state = StateDir(tmp_path)
    with pytest.raises(StateError, match="holds other files"):
        state.create()
    with pytest.raises(StateError, match="nothing was deleted"):
        state.delete()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.md"]


def test_delete_removes_everything_but_not_what_links_point_to(state: StateDir, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (state.path / "link").symlink_to(outside)
    (state.path / "postgres" / "data").mkdir(parents=True)
    state.delete()
    assert not state.path.exists()
    assert (outside / "kept").exists()


def test_passwords_are_kept_private_and_differ_by_role(state: StateDir) -> None:
    app, relay = state.password("app"), state.password("relay")
    assert app != relay
    assert StateDir(state.path).password("app") == app
    assert stat.S_IMODE((state.path / "passwords.json").stat().st_mode) == 0o600


def test_record_is_private_and_read_back(state: StateDir) -> None:
    record = Record(urls={"chat": "http://x"}, processes={"chat": Running(1, "2")}, variables={"redis_url": "r"})
    state.write_record(record)
    assert state.read_record() == record
    assert stat.S_IMODE((state.path / "stack.json").stat().st_mode) == 0o600
    state.forget_record()
    assert state.read_record() is None


def test_one_process_holds_the_folder_until_it_ends_in_whatever_way(state: StateDir) -> None:
    command = [sys.executable, "-c", HOLD, str(state.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert state.holder() == holder.pid
        with pytest.raises(StateError, match=r"a stack runs in .* already"):
            state.acquire()
        holder.kill()
    assert state.holder() is None
    state.acquire()
    assert StateDir(state.path).holder() == os.getpid()
    state.release()
    assert state.holder() is None


def test_left_over_processes_are_ended_and_others_left_alone(state: StateDir) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    with (
        subprocess.Popen(sleeper, start_new_session=True) as leftover,
        subprocess.Popen(sleeper, start_new_session=True) as stranger,
    ):
        # The stranger has a recorded process id by chance: it was born at another time.
        processes = {"chat": Running.of(leftover.pid), "relay": Running(stranger.pid, "0")}
        state.write_record(Record(processes=processes))
        assert state.end_leftovers() == ["chat"]
        assert birth(leftover.pid) is None
        assert birth(stranger.pid) is not None
        stranger.kill()
    assert state.read_record() is None
    assert state.end_leftovers() == []


def test_a_large_log_is_set_aside(state: StateDir) -> None:
    (state.logs / "chat.log").write_bytes(b"x" * (6 * 1024 * 1024))
    (state.logs / "relay.log").write_bytes(b"x")
    state.create()
    assert sorted(path.name for path in state.logs.iterdir()) == ["chat.log.1", "relay.log"]
