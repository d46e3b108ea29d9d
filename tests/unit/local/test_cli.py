import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from infra.local import cli, ports
from infra.local.assembly import ROOT
from infra.local.process import birth
from infra.local.state import StateDir

Dev = Callable[[], "subprocess.Popen[str]"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "LITELLM_BASE_URL", "PORT_OFFSET"):
        monkeypatch.delenv(name, raising=False)
    for part, port in ports.free(ports.DEFAULTS).items():
        monkeypatch.setenv(ports.variable(part), str(port))
    monkeypatch.setenv("LOCAL_STATE_DIR", str(tmp_path / "state"))
    return StateDir(tmp_path / "state")


@pytest.fixture
def dev(state: StateDir) -> Iterator[Dev]:
    """Start `dev` as a terminal does; whatever a test leaves running is ended."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local", "dev"],
            cwd=ROOT,
            env={**os.environ, "LOCAL_STATE_DIR": str(state.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert cli.main(["stop"]) == 0


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} is not in {seen}")


def test_without_a_stack_there_is_nothing_to_show_stop_or_delete(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status"]) == 3
    assert cli.main(["env"]) == 3
    assert cli.main(["stop"]) == 0
    assert cli.main(["reset"]) == 0
    assert cli.main(["logs", "--no-follow"]) == 1
    shown = capsys.readouterr()
    assert f"No stack runs in {state.path}." in shown.out
    assert f"There is no local state in {state.path}." in shown.out
    assert "there are no logs" in shown.err


def test_a_folder_of_somebody_else_is_neither_used_nor_deleted(
    state: StateDir, capsys: pytest.CaptureFixture[str]
) -> None:
    state.path.mkdir()
    (state.path / "thesis.md").touch()
    assert cli.main(["reset"]) == 1
    assert "nothing was deleted" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["nonsense"])
    assert (state.path / "thesis.md").exists()


def test_a_taken_port_stops_the_start_before_anything_is_started(state: StateDir, dev: Dev) -> None:
    with socket.create_server((ports.HOST, int(os.environ["PORT_ROUTING"]))):
        process = dev()
        shown = read_until(process, "PORT_OFFSET=")
        assert process.wait(30) == 1
    assert f"port {os.environ['PORT_ROUTING']} for routing is taken; move it with PORT_ROUTING=<port>" in shown
    assert not state.postgres.exists()


@pytest.mark.stack
def test_dev_runs_until_it_is_interrupted_and_a_second_one_reuses_its_state(
    state: StateDir, dev: Dev, capsys: pytest.CaptureFixture[str]
) -> None:
    first = dev()
    shown = read_until(first, "/chat\n")
    token = re.findall(r"Bearer ([\w.-]+)", shown)[0]
    record = state.read_record()
    assert record is not None
    pids = [process.pid for process in record.processes.values()]

    assert cli.main(["status"]) == 0
    assert "not ready" not in capsys.readouterr().out
    second = dev()
    assert "already; `make dev-status`" in read_until(second, "already")

    assert cli.main(["env"]) == 0
    assert f"export REDIS_URL={record.variables['redis_url']}" in capsys.readouterr().out
    turn = ask(record.urls["chat"], token)

    first.send_signal(signal.SIGINT)
    read_until(first, "nothing is left running")
    assert first.wait(30) == 0
    assert [birth(pid) for pid in pids] == [None] * len(pids)
    assert cli.main(["status"]) == 3

    third = dev()
    read_until(third, "/chat\n")
    # The token of the first run still names the same tenant, and the turn is still there.
    record = state.read_record()
    assert record is not None
    assert json.loads(call(record.urls["chat"], "GET", f"/turns/{turn}", token))["status"] == "completed"
    assert cli.main(["stop"]) == 0
    assert third.wait(30) == 0
    assert cli.main(["reset"]) == 0
    assert not state.path.exists()


def ask(chat: str, token: str) -> str:
    """Ask something, wait for the end of the stream, and return the turn's id."""
    stream = call(chat, "POST", "/chat", token, '{"message": "Hello?"}')
    assert "event: turn.completed" in stream
    data = next(line for line in stream.splitlines() if line.startswith("data:"))
    return str(json.loads(data.removeprefix("data:"))["turn_id"])


def call(url: str, method: str, path: str, token: str, body: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with closing(HTTPConnection(url.removeprefix("http://"), timeout=60)) as connection:
        connection.request(method, path, body, headers)
        return connection.getresponse().read().decode()
