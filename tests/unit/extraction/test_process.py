"""Whatever a document makes the process do that reads it, the server lives, knows what happened, and nothing is left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from functions.ingestion.extraction import READER, Extraction, Extractor, Limits
from functions.ingestion.reading.sandbox import landlock_version
from shared.problems import Problem
from tests import documents

ROOT = Path(__file__).parents[3]
HOSTILE = "tests.unit.extraction.hostile_reader:read"
MEBIBYTE = 1024 * 1024
SANDBOXED = pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")


@pytest.fixture
async def extractor() -> AsyncIterator[Extractor]:
    extractor = Extractor(HOSTILE)
    yield extractor
    await extractor.close()


async def do(extractor: Extractor, deed: str, original: bytes = b"", **limits: float) -> Extraction:
    return await extractor.extract(original, "text/plain", deed, Limits(**limits))  # type: ignore[arg-type]


def children(process: int) -> list[int]:
    """Return the ids of the living children of a process."""
    tasks = Path(f"/proc/{process}/task")
    listed = " ".join((task / "children").read_text() for task in tasks.iterdir()) if tasks.exists() else ""
    return [int(child) for child in listed.split()]


def templates(process: int | None = None) -> list[int]:
    """Return the ids of a process's templates, by default of this one, which has servers among its children in a whole run."""

    def command(child: int) -> bytes:
        try:
            return Path(f"/proc/{child}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return b""

    return [child for child in children(process or os.getpid()) if b"template.py" in command(child)]


def lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until_gone(*processes: int) -> None:
    async with asyncio.timeout(30):
        while any(map(lives, processes)):  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0.02)


async def grandchild(process: int) -> tuple[int, int]:
    """Wait until a process has a template and that has a child, and return both."""
    async with asyncio.timeout(30):
        while True:
            for template in templates(process):
                for child in children(template):
                    return template, child
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("deed", "code", "said"),
    [
        ("eat", "extraction_out_of_memory", "256 MiB"),
        ("kill itself", "extraction_out_of_memory", "256 MiB"),
        ("segfault", "extraction_crashed", "SIGSEGV"),
        ("abort", "extraction_crashed", "SIGABRT"),
        ("raise", "extraction_crashed", "exit 70"),
        ("leave", "extraction_crashed", "exit 3"),
        ("say nothing", "extraction_crashed", "without an answer"),
        ("hang", "extraction_timeout", "0.5 seconds"),
        ("spin", "extraction_timeout", "0.5 seconds"),
    ],
)
async def test_a_child_that_fails_is_a_problem_and_the_next_document_is_read(
    extractor: Extractor, deed: str, code: str, said: str
) -> None:
    patience = 0.5 if code == "extraction_timeout" else 60
    with pytest.raises(Problem) as raised:
        await do(extractor, deed, memory_bytes=256 * MEBIBYTE, seconds=patience)
    assert (raised.value.code, raised.value.status) == (code, 422)
    assert said in raised.value.detail
    assert (await do(extractor, "load a codec")).text == "Пр"


async def test_an_answer_longer_than_any_text_may_be_is_never_taken(extractor: Extractor) -> None:
    with pytest.raises(Problem) as raised:
        await do(extractor, "say much", characters=1000)
    assert raised.value.code == "document_too_large"


async def test_what_a_child_leaves_running_ends_with_it(extractor: Extractor) -> None:
    with pytest.raises(Problem):
        await do(extractor, "fork and hang")
    (template,) = templates()
    assert children(template) == []


async def test_a_document_meets_memory_that_no_other_has_touched(extractor: Extractor) -> None:
    first, second = await do(extractor, "spoil"), await do(extractor, "spoil")
    assert (first.text, second.text) == ("1", "1")
    assert len(templates()) == 1, "one template served both"


async def test_the_child_is_given_the_document_and_nothing_else(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:secret@localhost/x")
    told = json.loads((await do(extractor, "tell", b"12345")).text)
    assert set(told["environment"]) <= {
        "LANG",
        "MALLOC_ARENA_MAX",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
        "LC_CTYPE",
        "LD_LIBRARY_PATH",
    }
    assert told["length"] == 5
    # Standard input and output, which lead nowhere, and the two files in memory for answer and errors.
    assert len(told["files"]) == 4
    assert told["files"][:3] == [0, 1, 2]


@SANDBOXED
@pytest.mark.parametrize("deed", ["read a file", "write a file", "read its parent", "run a program", "kill its parent"])
async def test_the_child_reaches_nothing_outside(extractor: Extractor, tmp_path: Path, deed: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    assert (await do(extractor, deed, str(secret).encode())).text in {
        "refused: Permission denied",
        "refused: Operation not permitted",
    }
    assert secret.read_text() == "secret"


@SANDBOXED
async def test_the_child_reaches_no_network(extractor: Extractor) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await do(extractor, "connect", str(port).encode())).text == "refused: Permission denied"
    server.close()
    await server.wait_closed()


async def test_a_cancelled_extraction_leaves_no_process(extractor: Extractor) -> None:
    task = asyncio.create_task(do(extractor, "hang"))
    template, child = await grandchild(os.getpid())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(template, child)
    assert (await do(extractor, "load a codec")).text == "Пр"


async def test_a_template_that_is_killed_takes_its_child_along(extractor: Extractor) -> None:
    task = asyncio.create_task(do(extractor, "hang"))
    template, child = await grandchild(os.getpid())
    os.kill(template, signal.SIGKILL)
    with pytest.raises(Problem) as raised:
        await task
    assert raised.value.code == "extraction_crashed"
    await until_gone(template, child)


async def test_template_and_child_end_with_the_server() -> None:
    program = (
        "import asyncio\nfrom functions.ingestion.extraction import Extractor, Limits\n"
        f"asyncio.run(Extractor({HOSTILE!r}).extract(b'', 'text/plain', 'hang', Limits()))"
    )
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    template, child = await grandchild(server.pid)
    server.kill()
    await server.wait()
    await until_gone(template, child)


async def test_more_documents_than_places_are_read_one_after_the_other() -> None:
    extractor = Extractor(HOSTILE, parallel=2)
    told = await asyncio.gather(*(do(extractor, "tell", b"x" * length) for length in range(9)))
    assert [json.loads(extraction.text)["length"] for extraction in told] == list(range(9))
    assert len({json.loads(extraction.text)["pid"] for extraction in told}) == 9
    assert len(templates()) == 2
    await extractor.close()
    assert templates() == []


async def test_a_reader_that_cannot_start_is_an_error_of_our_own() -> None:
    extractor = Extractor("tests.unit.extraction.no_such_module:read")
    with pytest.raises(RuntimeError, match="did not start"):
        await extractor.extract(b"", "text/plain", "x", Limits())
    assert templates() == []


async def test_a_document_that_takes_too_much_memory_is_told_so_by_the_real_reader() -> None:
    extractor = Extractor(READER)
    rows = documents.xlsx({"a": [tuple(f"text {row}" for _ in range(8)) for row in range(40_000)]})
    with pytest.raises(Problem) as raised:
        await extractor.extract(rows, documents.XLSX, "rows.xlsx", Limits(memory_bytes=280 * MEBIBYTE))
    assert raised.value.code == "extraction_out_of_memory"
    assert (await extractor.extract(b"Hello", "text/plain", "a.txt", Limits())).text == "Hello"
    await extractor.close()
