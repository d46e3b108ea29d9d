"""The estimate of a text's tokens is a bound: a reservation holds at least what the prompt turns out to be.

It is held against two real vocabularies of different kinds: MiniLM's word pieces and Qwen's byte pairs.
"""

import json
from collections.abc import Sequence

import pytest

from infra.local.model_server.embeddings import Encoder
from tests.support import Database
from tests.vocabularies import TEXTS, Count, files, qwen


@pytest.fixture(scope="module", params=["MiniLM", "Qwen"])
def count(request: pytest.FixtureRequest) -> Count:
    """Count a text's tokens."""
    if request.param == "Qwen":
        return qwen()
    encoder = Encoder()
    return lambda text: encoder.count([text])


def estimates(database: Database, texts: Sequence[str]) -> list[int]:
    with database.connect("app") as app:
        return [
            count
            for (count,) in app.query(
                "SELECT budget.estimate_tokens(t.text) FROM unnest(%s::text[]) WITH ORDINALITY AS t (text, place)"
                " ORDER BY t.place",
                [list(texts)],
            )
        ]


def report(texts: dict[str, str], estimated: Sequence[int], counted: Sequence[int], what: str) -> None:
    """Print how far above the truth the estimate is."""
    ratios = sorted((e / c, name) for name, e, c in zip(texts, estimated, counted, strict=True) if c)
    print(  # noqa: T201 - the ratio is what somebody reads this test for
        f"\n{what}: {sum(estimated)} estimated, {sum(counted)} real, ratio {sum(estimated) / sum(counted):.2f};"
        f" lowest {ratios[0][0]:.2f} ({ratios[0][1]}), median {ratios[len(ratios) // 2][0]:.2f},"
        f" highest {ratios[-1][0]:.2f} ({ratios[-1][1]})"
    )


def test_the_estimate_is_never_below_the_real_count_of_this_repositorys_files(
    module_database: Database, count: Count
) -> None:
    texts = files()
    assert len(texts) > 200
    estimated = estimates(module_database, list(texts.values()))
    counted = [count(text) for text in texts.values()]
    report(texts, estimated, counted, f"{len(texts)} files")
    assert {name: (e, c) for name, e, c in zip(texts, estimated, counted, strict=True) if e < c} == {}
    assert sum(estimated) < 3 * sum(counted), "what is held in vain keeps others out"


def test_the_estimate_is_never_below_the_real_count_in_any_language_script_or_notation(
    module_database: Database, count: Count
) -> None:
    estimated = estimates(module_database, list(TEXTS.values()))
    counted = [count(text) for text in TEXTS.values()]
    report(TEXTS, estimated, counted, f"{len(TEXTS)} texts")
    assert {name: (e, c) for name, e, c in zip(TEXTS, estimated, counted, strict=True) if e < c} == {}


def test_a_line_is_bounded_wherever_a_text_is_cut(module_database: Database, count: Count) -> None:
    """A short text has no room for one part to make up for another."""
    lines = sorted({line for text in files().values() for line in text.splitlines() if line.strip()})[::20]
    assert len(lines) > 300
    counted = [count(line) for line in lines]
    below = {
        line: (e, c) for line, e, c in zip(lines, estimates(module_database, lines), counted, strict=True) if e < c
    }
    assert below == {}


IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,xxxx"}}]}
CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{'a': 1} " * 500}}]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "What is this? " * 50},
        {"role": "user", "content": [{"type": "text", "text": "What is this? " * 50}]},
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "assistant", "content": [], "tool_calls": CALLS},
        {"role": "assistant", "tool_calls": CALLS},
        {"role": "user", "name": "x" * 500, "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
    ],
    ids=["text", "parts", "null", "no parts", "no content", "another image"],
)
def test_beside_an_image_all_else_counts_too(database: Database, message: object) -> None:
    with database.connect() as operator:

        def estimate(*messages: object) -> int:
            return int(operator.value("SELECT budget.estimate_prompt(%s::jsonb)", [json.dumps(messages)]))

        alone, image = estimate(message), estimate(IMAGE)
        assert estimate(IMAGE, message) >= alone + image - 20, "but for brackets"
        assert image > 16_384
