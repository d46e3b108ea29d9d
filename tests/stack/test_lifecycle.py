"""Stacks of a test's own, from start to end: nothing is left running, and what was stored is still there."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.local import ports
from infra.local.assembly import ROOT
from infra.local.environment import EXTERNAL
from infra.local.process import birth
from infra.local.state import StateDir
from tests.documents import docx, paragraph, readable_documents
from tests.stack.conftest import MANUAL, QUESTION
from tests.stack.platform import PATIENCE_SECONDS, Platform
from tests.stack.reader import Transcript, User, connections

AT_ONCE = {"MODEL_TOKENS_PER_SECOND": "0"}


async def ask(platform: Platform, *, document: str | None = None) -> Transcript:
    async with connections() as session:
        user = User(platform, session, platform.stack.tenant_id)
        if document is not None:
            await user.upload("manual.md", document)
        return await user.answer(QUESTION)


def test_a_stack_leaves_nothing_running_and_finds_its_documents_again(tmp_path: Path) -> None:
    platform = Platform.in_folder(tmp_path / "state", **AT_ONCE)
    with platform.stack as stack:
        first = asyncio.run(ask(platform, document=MANUAL))
        pids = {name: platform.pid(name) for name in stack.processes}
        listening = [int(url.rpartition(":")[2]) for url in stack.urls.values()]
    assert {name: birth(pid) for name, pid in pids.items()} == dict.fromkeys(pids)
    assert [port for port in listening if connects(port)] == []

    with stack:
        second = asyncio.run(ask(platform))
    assert second.text == first.text
    assert second.data["turn.citations"]["citations"]


def connects(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((ports.HOST, port)) == 0


def environment(**variables: str) -> dict[str, str]:
    """Return our environment without what would lead to stores of somebody's."""
    kept = {name: value for name, value in os.environ.items() if name not in {*EXTERNAL, "MIGRATION_DATABASE_URL"}}
    return {**kept, "NO_COLOR": "1", **variables}


@contextmanager
def command(*arguments: str, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of the local stack; what a failing test leaves of it is asked to end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local", *arguments],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_dev_that_is_interrupted_during_its_start_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    state = StateDir(tmp_path / "state")
    numbers = {ports.variable(part): str(port) for part, port in ports.free(ports.DEFAULTS).items()}
    with command("dev", LOCAL_STATE_DIR=str(state.path), **numbers) as dev:
        assert dev.stdout is not None
        # PostgreSQL is the first to be started that is not at once ready.
        for line in dev.stdout:
            if "postgres started" in line:
                break
        record = state.read_record()
        assert record is not None
        dev.send_signal(number)
        rest, _ = dev.communicate(timeout=PATIENCE_SECONDS)
    assert dev.returncode == 130, rest
    assert "Stopped during the start." in rest
    assert "Traceback" not in rest
    assert [name for name, process in record.processes.items() if process.alive] == []
    assert state.holder() is None


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    for document in readable_documents():
        (tmp_path / document.name).write_bytes(document.content)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\x00")
    return tmp_path


def test_the_demo_answers_from_documents_of_every_format_and_tells_what_it_leaves_out(documents: Path) -> None:
    title, _, text = MANUAL.removeprefix("# ").partition("\n")
    (documents / "manual.docx").write_bytes(docx(paragraph(title, "Heading1") + paragraph(text.strip())))
    with command("demo", DOCS=str(documents), ASK=QUESTION, **AT_ONCE) as demo:
        printed, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, printed
    assert "Left out, 1 of a kind that is not read: picture.png" in printed
    assert "[1] manual.docx > Harbour pump P-7" in printed
    assert "budget left today" in printed
    assert "Traceback" not in printed


def test_the_demo_fails_with_a_document_that_cannot_be_read_and_an_answer_that_cites_nothing(documents: Path) -> None:
    (documents / "empty.md").touch()
    (documents / "damaged.pdf").write_bytes(b"%PDF-1.7 and no more")
    question = "Who won the chess olympiad of 1974?"
    with command("demo", DOCS=str(documents), ASK=question, **AT_ONCE) as demo:
        printed, _ = demo.communicate(timeout=300)
    assert demo.returncode == 1, printed
    assert "damaged_document" in printed
    assert "error: could not index empty.md" in printed
    assert "error: could not index damaged.pdf" in printed
    assert f"error: {question!r}: the answer cites nothing" in printed
    assert "budget left today" in printed
    assert "Traceback" not in printed
