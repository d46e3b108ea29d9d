"""Documents that get a job of their own: from the upload to a search, and through the death of whoever works on them."""

import io
import json
import os
import signal
from typing import Any
from uuid import uuid4

import pytest

from infra.local.process import birth
from tests.stack.platform import LARGE_DOCUMENT_BYTES, Platform
from tests.stack.reader import User

SENTENCE = "The bascule bridge of Norhaven opens for the pilot boat at a quarter past four."
WORKING = "SELECT 1 FROM rag.documents WHERE id = %s AND status = 'processing' AND stage IN ('extracting', 'chunking')"


def page(size: int) -> bytes:
    """Return a page of so many bytes with one sentence of text: reading it takes a while, embedding it does not."""
    head = f"<html><head><script>{uuid4()}"
    return (
        head + "x();" * ((size - len(head)) // 4 + 1) + f"</script></head><body><p>{SENTENCE}</p></body></html>"
    ).encode()


async def upload(user: User, body: bytes) -> str:
    status, _, document = await user.request(
        "POST",
        "ingestion/documents",
        params={"name": "bridge.html"},
        data=io.BytesIO(body),
        headers={"Content-Type": "text/html"},
    )
    assert status == 202, document
    return str(document["id"])


def started(platform: Platform, document: str) -> list[int]:
    """Return the ids of the processes that were started for a document."""
    lines = (platform.stack.state.logs / "job-sink.log").read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    jobs = {line["job"] for line in told if line["message"] == "job_accepted" and line["subject"] == document}
    return [line["pid"] for line in told if line["message"] == "job_started" and line["job"] in jobs]


def chunked_by(platform: Platform, document: str) -> list[str]:
    """Return the parts that say to have chunked a document."""
    logs = (platform.stack.state.logs / f"{part}.log" for part in ("ingestion-job", "ingestion-worker"))
    lines = ((log.stem, line) for log in logs if log.exists() for line in log.read_text().splitlines())
    return [part for part, line in lines if "document_chunked" in line and document in line]


async def found(user: User) -> list[str]:
    status, _, results = await user.request(
        "GET", "retrieval/search", params={"q": "When does the bascule bridge open?"}
    )
    assert status == 200, results
    return [result["content"] for result in results["results"]]


def settled(platform: Platform, document: str) -> tuple[Any, ...]:
    """Return (status, large, attempts, passages that searches see)."""
    [row] = platform.query(
        "SELECT status, large, attempts,"
        " (SELECT count(*) FROM rag.chunks AS c WHERE c.document_id = d.id AND c.live)"
        " FROM rag.documents AS d WHERE id = %s",
        [document],
    )
    return row


@pytest.mark.parametrize(("size", "large"), [(LARGE_DOCUMENT_BYTES, True), (1000, False)])
async def test_a_large_document_is_indexed_by_a_job_and_a_small_one_by_the_service(
    platform: Platform, stranger: User, size: int, large: bool
) -> None:
    document = await upload(stranger, page(size))
    await platform.indexed(document)
    assert settled(platform, document) == ("indexed", large, 1, 1)
    assert [SENTENCE in passage for passage in await found(stranger)] == [True]
    assert chunked_by(platform, document) == ["ingestion-job" if large else "ingestion-worker"]


async def test_a_job_dies_in_the_middle_and_the_document_is_indexed_once(platform: Platform, stranger: User) -> None:
    document = await upload(stranger, page(4_000_000))
    await platform.until(lambda: platform.query(WORKING, [document]), "nobody works on it", "job-sink", "ingestion-job")
    os.kill(started(platform, document)[-1], signal.SIGKILL)
    assert platform.query(WORKING, [document]), "it was too quick to be interrupted"
    # Its lease would hold for half a minute.
    platform.query("UPDATE rag.documents SET leased_until = now() WHERE id = %s", [document])
    await platform.indexed(document)
    assert settled(platform, document) == ("indexed", True, 2, 1)
    assert [SENTENCE in passage for passage in await found(stranger)] == [True]


async def test_the_runner_of_jobs_dies_and_takes_them_along(platform: Platform, stranger: User) -> None:
    # The runner waits until another worker has the document: so its job waits, too.
    os.kill(platform.pid("job-sink"), signal.SIGSTOP)
    document = await upload(stranger, page(LARGE_DOCUMENT_BYTES))
    platform.query(
        "UPDATE rag.documents SET status = 'processing', stage = 'extracting', leased_by = 'other',"
        " leased_until = now() + interval '1 hour' WHERE id = %s",
        [document],
    )
    os.kill(platform.pid("job-sink"), signal.SIGCONT)
    await platform.until(lambda: started(platform, document), "no job was started", "job-sink", "broker")
    [pid] = started(platform, document)
    assert birth(pid) is not None
    platform.kill("job-sink")
    await platform.back("job-sink")
    assert birth(pid) is None
    # The other worker is gone as well, and the sweeper asks again.
    platform.query("UPDATE rag.documents SET leased_until = now() WHERE id = %s", [document])
    await platform.indexed(document)
    assert settled(platform, document) == ("indexed", True, 1, 1)
