"""Vectors come from the endpoint once, and from the file ever after."""

from pathlib import Path

import numpy as np
import pytest

from infra.evaluation.vectors import BATCH, as_text, embed_all
from infra.local import ports
from infra.local.model_server.embeddings import Encoder
from shared.problems import Problem
from shared.settings import Settings
from tests.servers import server

MODEL = "local/all-minilm-l6-v2"
TEXTS = [f"passage number {number}" for number in range(BATCH + 3)]


def settings(url: str, model: str = MODEL) -> Settings:
    return Settings(litellm_base_url=url, litellm_embedding_model=model, embedding_dimensions=384)


def test_a_second_run_needs_no_endpoint_and_gets_the_same(tmp_path: Path) -> None:
    cache, told = tmp_path / "vectors.sqlite", list[int]()
    with server("model-server", "infra.local.model_server", tmp_path, LITELLM_API_KEY="sk-dev-key") as (url, _):
        first = embed_all([*TEXTS, TEXTS[0]], settings(url), cache, told.append)
    assert sorted(told) == [1, 3, BATCH], "a text that occurs twice is embedded once"
    told.clear()
    again = embed_all(list(reversed(TEXTS)), settings(url), cache, told.append)
    assert told == [len(TEXTS)]
    np.testing.assert_array_equal(first[: len(TEXTS)], again[::-1])
    np.testing.assert_array_equal(first[-1], first[0])
    encoder = Encoder()
    try:
        exact = encoder.embed(TEXTS).vectors
    finally:
        encoder.close()
    assert float((first[: len(TEXTS)].astype(np.float32) * exact).sum(axis=1).min()) > 0.999
    with pytest.raises(Problem):
        embed_all(TEXTS, settings(url, "another-model"), cache)


def test_an_endpoint_that_does_not_answer_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{ports.free(['nobody'])['nobody']}"
    with pytest.raises(Problem) as problem:
        embed_all(["text"], settings(url), tmp_path / "vectors.sqlite")
    assert problem.value.code == "embedding_unavailable"


def test_the_text_form_is_exact_at_half_precision() -> None:
    vector = np.random.default_rng(1).standard_normal(384).astype(np.float16)
    read = np.array([float(component) for component in as_text(vector)[1:-1].split(",")], np.float16)
    np.testing.assert_array_equal(read, vector)
