"""LangChain's ingestion as its documentation shows it: load a folder, split, add to PostgreSQL.

Runs in an environment of its own (`make install-langchain`), as a process that takes one job a line and answers with one line:

    {"folder": path, "how": "pgvector"}  ->  {"steps": {"load": s, "split": s, "store": s}, "chunks": n, "characters": n}

    pgvector        DirectoryLoader for each kind of file, RecursiveCharacterTextSplitter, PGVector.add_documents of all at once
    pgvectorstore   the same with PGVectorStore, which its documentation recommends for new projects
    index           the same with the indexing API, which knows what is stored already: index(cleanup="incremental")
    four threads    no pattern of the documentation: `pgvector`, each of four threads with its share of the files

`store` contains the embedding: OpenAIEmbeddings asks for 1,000 texts at a time, one request after the other. All settings are
the libraries' own, but for `check_embedding_ctx_length=False`, which they document for endpoints that take text and no token
numbers, and the size of the chunks, which is about that of the platform's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_classic.indexes import SQLRecordManager, index
from langchain_community.document_loaders import (
    BSHTMLLoader,
    CSVLoader,
    DirectoryLoader,
    Docx2txtLoader,
    PyPDFLoader,
    TextLoader,
)
from langchain_openai import OpenAIEmbeddings
from langchain_postgres import PGEngine, PGVector, PGVectorStore
from langchain_text_splitters import RecursiveCharacterTextSplitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.documents import Document

LOADERS: dict[str, Any] = {
    "md": TextLoader,
    "txt": TextLoader,
    "html": BSHTMLLoader,
    "docx": Docx2txtLoader,
    "csv": CSVLoader,
    "pdf": PyPDFLoader,
}
THREADS = 4
TABLE = "chunks"


class Pipeline:
    """The stores, made once; each job adds to them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._embeddings = OpenAIEmbeddings(
            model=options.model, base_url=options.endpoint, api_key=options.key, check_embedding_ctx_length=False
        )
        self._splitter = RecursiveCharacterTextSplitter(
            chunk_size=options.chunk_size, chunk_overlap=options.chunk_overlap
        )
        self._pgvector = self._store("documents", options)
        self._indexed = self._store("indexed", options)
        self._records = SQLRecordManager("pgvector/indexed", db_url=options.database)
        self._records.create_schema()
        engine = PGEngine.from_connection_string(url=options.database)
        engine.init_vectorstore_table(table_name=TABLE, vector_size=options.width)
        self._pgvectorstore = PGVectorStore.create_sync(
            engine=engine, table_name=TABLE, embedding_service=self._embeddings
        )
        self._ways: dict[str, Callable[[list[Document]], object]] = {
            "pgvector": self._pgvector.add_documents,
            "pgvectorstore": self._pgvectorstore.add_documents,
            "index": lambda chunks: index(
                chunks,
                self._records,
                self._indexed,
                cleanup="incremental",
                source_id_key="source",
                key_encoder="sha256",
            ),
        }

    def _store(self, collection: str, options: argparse.Namespace) -> PGVector:
        return PGVector(
            embeddings=self._embeddings, collection_name=collection, connection=options.database, use_jsonb=True
        )

    def run(self, folder: Path, how: str) -> dict[str, Any]:
        """Ingest a folder's files; return the seconds of each step and the number of chunks."""
        if how == "four threads":
            return self._threads(folder)
        began = time.perf_counter()
        documents = _load(folder)
        loaded = time.perf_counter()
        chunks = self._splitter.split_documents(documents)
        split = time.perf_counter()
        self._ways[how](chunks)
        stored = time.perf_counter()
        return {
            "steps": {"load": loaded - began, "split": split - loaded, "store": stored - split},
            "chunks": len(chunks),
            "characters": sum(len(chunk.page_content) for chunk in chunks),
        }

    def _threads(self, folder: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as parent, ThreadPoolExecutor(THREADS) as pool:
            parts = [Path(parent) / str(number) for number in range(THREADS)]
            for part in parts:
                part.mkdir()
            for number, path in enumerate(sorted(folder.iterdir())):
                shutil.copy(path, parts[number % THREADS])
            began = time.perf_counter()
            results = list(pool.map(lambda part: self.run(part, "pgvector"), parts))
            seconds = time.perf_counter() - began
        sums = {name: sum(result[name] for result in results) for name in ("chunks", "characters")}
        return {"steps": {"all": seconds}, **sums}


def _load(folder: Path) -> list[Document]:
    return [
        document
        for suffix, loader in LOADERS.items()
        for document in DirectoryLoader(str(folder), glob=f"*.{suffix}", loader_cls=loader).load()
    ]


def main() -> None:
    """Say `ready`, then do the jobs of standard input."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("endpoint", "model", "key", "database"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("width", "chunk-size", "chunk-overlap"):
        parser.add_argument(f"--{name}", type=int, required=True)
    pipeline = Pipeline(parser.parse_args())
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(pipeline.run(Path(job["folder"]), job["how"])), flush=True)


if __name__ == "__main__":
    main()
