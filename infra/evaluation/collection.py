"""A test collection in BEIR's layout: documents, queries, and which documents a person judged relevant to which query.

    corpus.jsonl      {"_id": "...", "title": "...", "text": "..."}, one document a line; the title may be missing
    queries.jsonl     {"_id": "...", "text": "...", "metadata": {"kind": "..."}}, one query a line; the metadata too
    qrels/test.tsv    query-id <TAB> corpus-id <TAB> score, below a line of these names; a score above 0 is relevant

Source: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval Models", NeurIPS 2021.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.text import storable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

MAX_ID_CHARS = 255
"""An id becomes the name of a document."""
QRELS_FIELDS = 3


class CollectionError(ValueError):
    """A file of the collection is missing or broken; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document of the collection; `text` is never blank, `title` may be empty."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and of what kind its author says that it is; the kind is empty in most collections."""

    id: str
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection; `judgements` has scores by query and document, for exactly the `queries`."""

    name: str
    documents: Sequence[Entry]
    queries: Sequence[Query]
    judgements: Mapping[str, Mapping[str, int]]
    empty_documents: int
    """Documents without title and text, which are left out: nothing can find them."""
    unknown_judged: int
    """Judgements of documents that the corpus lacks. As in trec_eval they count as documents that nobody finds."""


def read(folder: Path, split: str = "test") -> Collection:
    """Read a collection. As in BEIR, only the queries with a judgement in this split are asked.

    Raises CollectionError.
    """
    documents, empty = _documents(folder / "corpus.jsonl")
    queries = _queries(folder / "queries.jsonl")
    path = folder / "qrels" / f"{split}.tsv"
    judgements = _judgements(path)
    unknown = next((query for query in judgements if query not in queries), None)
    if unknown is not None:
        raise CollectionError(f"{path}: judges the query {unknown!r}, which queries.jsonl lacks")
    if not any(score > 0 for judged in judgements.values() for score in judged.values()):
        raise CollectionError(f"{path}: judges no document relevant")
    known = {document.id for document in documents}
    return Collection(
        name=folder.resolve().name,
        documents=documents,
        queries=[query for query in queries.values() if query.id in judgements],
        judgements=judgements,
        empty_documents=empty,
        unknown_judged=sum(document not in known for judged in judgements.values() for document in judged),
    )


def _documents(path: Path) -> tuple[list[Entry], int]:
    documents: dict[str, Entry] = {}
    empty = 0
    for where, line in _objects(path):
        name = _id(where, line, documents)
        title, text = _text(where, line, "title", ""), _text(where, line, "text", "")
        if not (title or text):
            empty += 1
            continue
        # A document that is only a title is found by it.
        documents[name] = Entry(name, title, text or title)
    if not documents:
        raise CollectionError(f"{path}: has no document")
    return list(documents.values()), empty


def _queries(path: Path) -> dict[str, Query]:
    queries: dict[str, Query] = {}
    for where, line in _objects(path):
        name = _id(where, line, queries)
        text = _text(where, line, "text")
        if not text:
            raise CollectionError(f"{where}: the text is blank")
        metadata = line.get("metadata")
        kind = metadata.get("kind", "") if isinstance(metadata, dict) else ""
        queries[name] = Query(name, text, str(kind))
    return queries


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        where, fields = f"{path}, line {number}", line.split("\t")
        if len(fields) != QRELS_FIELDS:
            raise CollectionError(f"{where}: has {len(fields)} fields between tabs, not query, document and score")
        query, document, score = fields
        if number == 1 and not score.strip().lstrip("-").isdecimal():
            continue  # the names of the columns
        try:
            judged = int(score)
        except ValueError:
            raise CollectionError(f"{where}: the score {score!r} is no whole number") from None
        if document in judgements.setdefault(query, {}):
            raise CollectionError(f"{where}: judges {document!r} for the query {query!r} a second time")
        judgements[query][document] = judged
    if not judgements:
        raise CollectionError(f"{path}: has no judgement")
    return judgements


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (file and line for messages, JSON object) of each line."""
    for number, text in _lines(path):
        where = f"{path}, line {number}"
        try:
            line = json.loads(text)
        except ValueError as error:
            raise CollectionError(f"{where}: is not JSON: {error}") from None
        if not isinstance(line, dict):
            raise CollectionError(f"{where}: is no JSON object")
        yield where, line


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of the lines that are not blank."""
    try:
        # Only \n ends a line: a text may hold other separators of Unicode.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (FileNotFoundError, NotADirectoryError):
        raise CollectionError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CollectionError(f"{path}: cannot be read: {error}") from error


def _id(where: str, line: Mapping[str, Any], known: Mapping[str, object]) -> str:
    name = line.get("_id")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str) or not name or name != storable(name) or len(name) > MAX_ID_CHARS:
        raise CollectionError(f"{where}: the _id must be a text of 1 to {MAX_ID_CHARS} characters")
    if name in known:
        raise CollectionError(f"{where}: the _id {name!r} occurs a second time")
    return name


def _text(where: str, line: Mapping[str, Any], field: str, default: str | None = None) -> str:
    value = line.get(field, default)
    if value is None and default is not None:
        value = default
    if not isinstance(value, str):
        raise CollectionError(f"{where}: has no text {field!r}")
    return storable(value).strip()
