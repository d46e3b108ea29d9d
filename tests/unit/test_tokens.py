"""Tokens of the embedding model, by its own vocabulary or estimated."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Vocabulary

from functions.ingestion import tokens
from functions.ingestion.tokens import Estimate, TokenizerFile
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.files import model_directory
from tests.vocabularies import TEXTS, Count, files, qwen

ROOT = Path(__file__).parents[2]
MINILM = model_directory() / "tokenizer.json"


@pytest.fixture(scope="module")
def minilm() -> TokenizerFile:
    return TokenizerFile(MINILM)


@pytest.fixture(scope="module")
def encoder() -> Iterator[Encoder]:
    encoder = Encoder()
    yield encoder
    encoder.close()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_vocabulary_counts_as_the_model_server_does(text: str, minilm: TokenizerFile, encoder: Encoder) -> None:
    assert minilm.count(text) == len(minilm.starts(text)) == encoder.count([text])
    assert minilm.starts(text) == sorted(minilm.starts(text))


def test_offsets_count_characters_not_bytes(minilm: TokenizerFile) -> None:
    assert minilm.starts("🏙 漢字 fox") == [0, 2, 3, 5]


def test_a_text_longer_than_the_window_is_counted_to_its_end(minilm: TokenizerFile) -> None:
    assert minilm.count("fox " * 5000) == 5000


def test_the_window_is_what_the_model_reads_besides_the_tokens_around_it(
    minilm: TokenizerFile, encoder: Encoder
) -> None:
    assert minilm.window == encoder.max_tokens - 2


def folder_with(path: Path, truncation: int | None, read: int | None) -> Path:
    """Write a tokenizer.json that cuts so far, beside a sentence-transformers model that reads so much."""
    vocabulary = Vocabulary.from_file(str(MINILM))
    if truncation is None:
        vocabulary.no_truncation()
    else:
        vocabulary.enable_truncation(truncation)
    vocabulary.save(str(path / "tokenizer.json"))
    if read is not None:
        (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": read}))
    return path / "tokenizer.json"


@pytest.mark.parametrize(
    ("truncation", "read", "window"), [(None, None, None), (128, None, 126), (128, 256, 254), (None, 512, 510)]
)
def test_the_window_is_told_by_the_model_or_its_tokenizer(
    tmp_path: Path, truncation: int | None, read: int | None, window: int | None
) -> None:
    assert TokenizerFile(folder_with(tmp_path, truncation, read)).window == window


@pytest.mark.parametrize("content", ["", "{}", "[1]", "\x00"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"EMBEDDING_TOKENIZER: wrong\.json"):
        TokenizerFile(path)


def test_a_model_that_reads_less_than_a_passage_is_told_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = folder_with(tmp_path, 128, None)
    with caplog.at_level("INFO"):
        first = tokens.load(path, 512)
        assert tokens.load(path, 512) is first
    assert [record.getMessage() for record in caplog.records] == ["tokenizer_loaded", "chunk_size_limited"]
    assert [record.__dict__["fields"] for record in caplog.records] == [
        {"tokenizer": "tokenizer.json", "window": 126},
        {"chunk_size_tokens": 512, "window": 126},
    ]


def test_without_a_vocabulary_tokens_are_estimated(caplog: pytest.LogCaptureFixture) -> None:
    tokens.load.cache_clear()
    with caplog.at_level("INFO"):
        assert tokens.load(None, 512).name == "estimate"
    assert [record.__dict__["fields"] for record in caplog.records] == [{"tokenizer": "estimate", "window": None}]


def test_tokens_are_estimated_by_letters_digits_and_signs() -> None:
    count = Estimate().count
    assert count("") == 0
    assert count("Hello, world!") == 4
    assert count("incomprehensibility") == 4
    assert count("camelCase HTTP") == 4
    assert count("a  b\n\nc") == 4
    assert count("漢字 2026") == 6
    assert Estimate().starts("a 🏙 한") == [0, 2, 2, 2, 4, 4]


@pytest.fixture(scope="module")
def byte_pairs() -> Count:
    return qwen()


@pytest.mark.parametrize("text", [text for kind, text in TEXTS.items() if kind != "spaces"])
def test_an_estimate_is_seldom_too_low_for_any_script(text: str, minilm: TokenizerFile, byte_pairs: Count) -> None:
    # Polish, Korean in word pieces, base64: from 0.79. Byte pairs also count long runs of blanks, passages have none.
    assert Estimate().count(text) >= 0.78 * max(minilm.count(text), byte_pairs(text))


def test_an_estimate_is_at_least_what_documents_have_and_not_much_more(
    minilm: TokenizerFile, byte_pairs: Count
) -> None:
    texts = [text for name, text in files().items() if name.startswith(("docs", "functions", "shared", "sql"))]
    assert len(texts) > 100
    for text in texts:
        estimate = Estimate().count(text)
        assert estimate >= max(minilm.count(text), byte_pairs(text))
        assert estimate <= 2 * max(minilm.count(text), byte_pairs(text))


def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


WITHOUT_A_NETWORK = """
import sys
def refuse(event, arguments):
    if event.startswith("socket.") or event in {"urllib.Request", "subprocess.Popen", "os.exec", "os.fork"}:
        raise RuntimeError(event)
sys.addaudithook(refuse)
from pathlib import Path
from functions.ingestion import chunking, tokens
for path in (Path(sys.argv[1]) if len(sys.argv) > 1 else None, None):
    found = chunking.split("# A\\n\\n" + "word " * 500, "text/markdown", (), size_tokens=64, overlap_tokens=8,
                           tokenizer=tokens.load(path, 64))
    assert len(found) > 5
print([name for name in sys.modules if name.startswith(("huggingface_hub", "httpx", "requests", "aiohttp"))])
"""


def test_nothing_is_downloaded() -> None:
    done = run(WITHOUT_A_NETWORK.replace("sys.argv[1]", repr(str(MINILM))).replace("len(sys.argv) > 1", "True"))
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_name_at_a_hub_is_no_file() -> None:
    with pytest.raises(FileNotFoundError):
        tokens.load(Path("sentence-transformers/all-MiniLM-L6-v2"), 64)
