"""The ingestion benchmark: its files are what it says, and its goals can be missed."""

import json
from collections.abc import AsyncIterator, Mapping

import pytest
from starlette.testclient import TestClient

from functions.ingestion import extraction
from shared.embeddings import Model, _vectors
from tests.benchmarks import embedder
from tests.benchmarks.corpus import SHARES, File, corpus
from tests.benchmarks.ingest import (
    ELSEWHERE,
    FLOOR,
    HERE,
    PGVECTOR,
    PGVECTORSTORE,
    PLATFORM,
    THREADS,
    Rounds,
    Run,
    asides,
    verdicts,
)

COUNT = 100
SENTENCE_MARK = "as for "


@pytest.fixture(scope="module")
def files() -> list[File]:
    return corpus("a", COUNT)


def suffix(file: File) -> str:
    return file.name.rpartition(".")[2]


def test_a_seed_gives_the_same_files_and_another_one_others(files: list[File]) -> None:
    assert corpus("a", COUNT) == files
    assert not {file.content for file in corpus("b", COUNT)} & {file.content for file in files}


def test_a_hundred_files_have_the_stated_shares_of_formats(files: list[File]) -> None:
    found = [suffix(file) for file in files]
    assert {name: found.count(name) for name in SHARES} == SHARES


def test_changed_files_have_their_names_and_most_of_their_paragraphs(files: list[File]) -> None:
    changed = corpus("a", COUNT, changed=0.05)
    assert [file.name for file in changed] == [file.name for file in files]
    before, after = (
        [part for file in some if suffix(file) == "md" for part in file.content.decode().split("\n\n")]
        for some in (files, changed)
    )
    assert len(before) == len(after)
    share = sum(one != other for one, other in zip(before, after, strict=True)) / len(before)
    assert 0.01 < share < 0.1


def test_no_passage_occurs_twice(files: list[File]) -> None:
    paragraphs = [
        part
        for file in files
        if suffix(file) in ("md", "txt")
        for part in file.content.decode().split("\n\n")
        if SENTENCE_MARK in part
    ]
    assert len(set(paragraphs)) == len(paragraphs)


@pytest.fixture
async def _no_process_left() -> AsyncIterator[None]:
    yield
    await extraction.close()


@pytest.mark.usefixtures("_no_process_left")
async def test_every_format_is_read_with_its_sentences(files: list[File]) -> None:
    for name in SHARES:
        file = next(file for file in files if suffix(file) == name)
        text = (await extraction.extract(file.content, file.media_type, file.name)).text
        assert " ".join(text.split()).count(SENTENCE_MARK) >= 4


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_the_endpoint_answers_with_one_vector_a_text_at_its_pace(encoding: str) -> None:
    pace = embedder.Pace(replicas=1, tokens_a_second=1e6, request_seconds=0.0)
    texts = ["the pump", "the valve", "the pump"]
    with TestClient(embedder.create_app(pace)) as client:
        answer = client.post("/v1/embeddings", json={"input": texts, "encoding_format": encoding})
    assert answer.status_code == 200
    data = json.loads(answer.text)["data"]
    assert [item["index"] for item in data] == [0, 1, 2]
    assert data[0]["embedding"] == data[2]["embedding"] != data[1]["embedding"]
    if encoding == "float":
        vectors = _vectors(json.loads(answer.text), len(texts), Model(1, embedder.MODEL, embedder.WIDTH))
        assert all(isinstance(vector, str) for vector in vectors)


def test_a_replica_takes_time_by_the_tokens_that_it_reads() -> None:
    pace = embedder.Pace(replicas=4, tokens_a_second=1000.0, request_seconds=0.5)
    assert pace.seconds(2000) == 2.5
    assert embedder.Pace.from_environment(pace.environment()) == pace
    assert embedder.tokens("x" * 10_000) == embedder.MOST_TOKENS


def rounds(seconds: Mapping[str, float], failed: int = 0) -> Rounds:
    return [{name: Run(took, 10, 100, 1000, failed if name == PLATFORM else 0) for name, took in seconds.items()}]


def met(endpoint: str, seconds: Mapping[str, float], failed: int = 0) -> list[bool]:
    return [is_met for is_met, _ in verdicts({endpoint: rounds(seconds, failed)})]


@pytest.mark.parametrize(("platform", "expected"), [(1.3, True), (1.31, False), (0.9, True), (0.89, False)])
@pytest.mark.parametrize("endpoint", [ELSEWHERE, HERE])
def test_the_floor_is_a_goal_at_both_endpoints(endpoint: str, platform: float, *, expected: bool) -> None:
    assert met(endpoint, {PLATFORM: platform, FLOOR: 1.0}) == [expected, True]


@pytest.mark.parametrize(("quicker", "slower"), [(PGVECTOR, PGVECTORSTORE), (PGVECTORSTORE, PGVECTOR)])
def test_the_quicker_of_the_two_stores_counts(quicker: str, slower: str) -> None:
    assert met(ELSEWHERE, {PLATFORM: 1.0, quicker: 3.0, slower: 9.0}) == [True, True]
    assert met(ELSEWHERE, {PLATFORM: 1.0, quicker: 2.9, slower: 9.0}) == [False, True]


def test_a_document_that_failed_misses_a_goal() -> None:
    assert met(HERE, {PLATFORM: 1.0, FLOOR: 1.0}, failed=1) == [True, False]


def test_what_is_no_goal_is_told_and_not_judged() -> None:
    seconds = {PLATFORM: 1.0, PGVECTOR: 1.1, PGVECTORSTORE: 1.2, THREADS: 0.9}
    assert met(HERE, seconds) == [True]
    told = asides({HERE: rounds(seconds)})
    assert [line.partition(";")[0] for line in told] == [
        "documents/s / LangChain's, here: 1.10",
        "documents/s / LangChain's in four threads, here: 0.90",
    ]
