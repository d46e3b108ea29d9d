"""Splitting documents into passages."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.ingestion.chunking import Chunk, count_tokens, split

MARKDOWN, PLAIN = "text/markdown", "text/plain"
WORDS = "The quick brown fox jumps over the lazy dog. "


def pieces(text: str, media_type: str = MARKDOWN, size: int = 64, overlap: int = 0) -> list[Chunk]:
    """Split a text; whatever it is, the passages point exactly at themselves and are bounded."""
    found = split(text, media_type, size_tokens=size, overlap_tokens=overlap)
    for number, chunk in enumerate(found, start=1):
        assert chunk.ordinal == number
        assert text[chunk.start_char : chunk.end_char] == chunk.content
        assert chunk.content.strip()
        assert 1 <= chunk.token_count <= size
    assert [c.start_char for c in found] == sorted(c.start_char for c in found)
    return found


def headings(text: str, size: int = 64) -> list[str]:
    """Return the heading of each passage, without repetitions."""
    return list(dict.fromkeys(chunk.heading for chunk in pieces(text, size=size)))


def test_a_short_text_is_one_passage() -> None:
    assert pieces("Hello.") == [Chunk(1, "", "Hello.", 0, 6, 2)]


def test_a_long_text_is_cut_between_sentences() -> None:
    found = pieces(WORDS * 30, PLAIN)
    assert len(found) > 3
    assert all(chunk.content.startswith("The") and chunk.content.endswith("dog.") for chunk in found)
    assert " ".join(chunk.content for chunk in found) == (WORDS * 30).strip()


def test_passages_overlap_when_asked_to() -> None:
    apart, overlapping = pieces(WORDS * 30, PLAIN), pieces(WORDS * 30, PLAIN, overlap=20)
    assert all(second.start_char >= first.end_char for first, second in pairwise(apart))
    assert all(second.start_char < first.end_char for first, second in pairwise(overlapping))


def test_an_overlap_as_large_as_the_size_ends() -> None:
    assert len(pieces(WORDS * 8, PLAIN, size=64, overlap=256)) > 1


def test_offsets_count_characters_not_bytes() -> None:
    text = "# Über Köln 🏙\n\n" + "Größe wächst früh. 漢字も文字。 " * 40
    found = pieces(text)
    assert len(found) > 2
    assert {chunk.heading for chunk in found} == {"Über Köln 🏙"}


def test_every_passage_carries_the_headings_above_it() -> None:
    text = "\n\n".join(f"{line}\n\n{WORDS * 8}" for line in ("# A", "## B #", "### C ##", "## D", "# E"))
    assert headings(text) == ["A", "A > B", "A > B > C", "A > D", "E"]


def test_text_before_the_first_heading_has_none() -> None:
    assert headings(f"{WORDS * 8}\n\n# A\n\n{WORDS * 8}") == ["", "A"]


def test_a_plain_text_has_no_headings() -> None:
    assert {chunk.heading for chunk in pieces(f"# A\n\n{WORDS * 20}", PLAIN)} == {""}


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("# A", "A"),
        ("   ## A", "A"),
        ("#\tA ", "A"),
        ("# A # B ##", "A # B"),
        ("# A#", "A#"),
        ("# C# \\#", "C# \\#"),
        ("#", ""),
        ("# ##", ""),
        ("#A", ""),
        ("    # A", ""),
        ("####### A", ""),
        ("text # A", ""),
        ("\u2028# A", ""),
    ],
)
def test_what_is_a_heading_is_as_commonmark_says(line: str, heading: str) -> None:
    assert headings(f"{line}\n\n{WORDS}") == [heading]


@pytest.mark.parametrize(
    "code",
    [
        "```\n# no\n```",
        "```sh\n# no\n```",
        "~~~\n# no\n```\n# no\n~~~",
        "````\n```\n# no\n````",
        "```\n# no\n``` sh\n# no\n```",
        "   ```\n# no\n   ```",
    ],
)
def test_a_comment_in_code_is_no_heading(code: str) -> None:
    assert headings(f"# A\n\n{code}\n\n{WORDS * 20}") == ["A"]


def test_code_in_a_line_opens_no_block() -> None:
    assert headings(f"``` a ``` b\n\n# A\n\n{WORDS * 20}")[-1] == "A"


def test_comments_of_a_long_script_are_kept() -> None:
    script = "```sh\n" + "\n".join(f"# comment number {number} of the script" for number in range(60)) + "\n```"
    whole = "".join(chunk.content for chunk in pieces(script))
    assert all(f"comment number {number} " in whole for number in range(60))


def test_headings_alone_are_no_passage() -> None:
    assert pieces("# A\n\n## B\n\n### C\n") == []
    assert pieces("") == []
    assert pieces(" \n\n\t") == []


def test_sections_without_text_leave_their_headings_in_the_path() -> None:
    text = f"# A\n\n## Empty\n\n## B\n\n{WORDS * 12}"
    assert "A > B" in headings(text)


def test_windows_line_ends_change_nothing() -> None:
    text = f"# A\n\n{WORDS * 8}\n\n## B\n\n{WORDS * 8}\n\n```\n# no\n```\n\n{WORDS * 8}"
    assert headings(text.replace("\n", "\r\n")) == headings(text) == ["A", "A > B"]


def test_a_single_long_line_is_cut() -> None:
    assert len(pieces("word " * 5000, PLAIN)) > 50
    assert len(pieces("x" * 20_000)) > 50


def test_a_heading_of_enormous_length_is_cut_short() -> None:
    found = pieces(f"# {'long ' * 20_000}\n\n{WORDS}")
    assert max(len(chunk.heading) for chunk in found) <= 200


def test_thousands_of_headings_are_read_once() -> None:
    text = "".join(f"# Heading {number}\n\nText.\n\n" for number in range(2000))
    found = pieces(text)
    assert found[0].heading == "Heading 0"
    assert found[-1].heading.startswith("Heading 19")


def test_tokens_are_estimated_by_word_pieces_and_signs() -> None:
    assert count_tokens("") == 0
    assert count_tokens("Hello, world!") == 4
    assert count_tokens("incomprehensibility") == 4
    assert count_tokens("a  b\n\nc") == 3


STRUCTURE = [
    "# One",
    "## Two ##",
    "```",
    "~~~~",
    "    # code",
    "- item",
    "| a | b |",
    "",
    "ü漢🏙",
    "\t",
    "> # quote",
    "a" * 400,
]
LINES = st.sampled_from([*STRUCTURE, WORDS])


@given(
    lines=st.lists(LINES | st.text(max_size=60), max_size=30),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    media_type=st.sampled_from([MARKDOWN, PLAIN]),
    overlap=st.integers(0, 64),
)
@settings(max_examples=150, deadline=None)
def test_any_text_is_split_into_passages_that_hold_all_its_words(
    lines: list[str], end: str, media_type: str, overlap: int
) -> None:
    text = end.join(lines)
    found = pieces(text, media_type, overlap=overlap)
    covered: set[int] = set()
    for chunk in found:
        covered.update(range(chunk.start_char, chunk.end_char))
    if media_type == PLAIN:
        assert all(at in covered for at, character in enumerate(text) if character.isalnum())
