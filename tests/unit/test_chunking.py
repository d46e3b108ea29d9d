"""Splitting documents into passages."""

import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Vocabulary
from tokenizers import decoders, models, pre_tokenizers, trainers

from functions.ingestion import chunking
from functions.ingestion.chunking import Chunk, split
from functions.ingestion.tokens import Estimate, Tokenizer, TokenizerFile
from infra.local.model_server.files import model_directory
from shared.problems import Problem

ROOT = Path(__file__).parents[2]
MARKDOWN, PLAIN, SOURCE = "text/markdown", "text/plain", "text/x-source"
FORMATS = (MARKDOWN, PLAIN, SOURCE)
SENTENCE = "The quick brown fox jumps over the lazy dog. "
"""Ten word pieces."""
MINILM = TokenizerFile(model_directory() / "tokenizer.json")
HEADING_LINE = re.compile(r" {0,3}(#{1,6}([ \t].*)?|=+[ \t]*|-{2,}[ \t]*)$")
DELIMITER = re.compile(r"[\r\n][ |:-]*-[ |:-]*[\r\n]")


class Wide:
    """MiniLM's word pieces for a model that reads any length."""

    name = "wide"
    window: int | None = None
    starts = staticmethod(MINILM.starts)
    count = staticmethod(MINILM.count)


@pytest.fixture(scope="module")
def byte_pairs(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    """A vocabulary to which the blank before a word belongs: a text has other tokens by itself than within another."""
    vocabulary = Vocabulary(models.BPE())
    vocabulary.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    vocabulary.train_from_iterator([path.read_text() for path in (ROOT / "docs").glob("*.md")], trainer)
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    vocabulary.save(str(path))
    return TokenizerFile(path)


def pieces(
    text: str,
    format_: str = MARKDOWN,
    size: int = 64,
    overlap: int = 0,
    *,
    pages: Sequence[int] = (),
    tokenizer: Tokenizer = MINILM,
    name: str = "",
) -> list[Chunk]:
    """Split a text; whatever it is, what holds for all passages holds for these."""
    found = split(text, format_, pages, size_tokens=size, overlap_tokens=overlap, tokenizer=tokenizer, name=name)
    for number, chunk in enumerate(found, start=1):
        assert chunk.ordinal == number
        own = text[chunk.start_char : chunk.end_char]
        assert own.strip()
        assert own == own.rstrip()
        assert chunk.content.endswith(own)
        header = chunk.content.removesuffix(own)
        if header:
            assert header in text[: chunk.start_char]
            assert len(header.splitlines()) == 2
            assert DELIMITER.search(header)
        assert chunk.token_count == max(1, tokenizer.count(chunk.content)) <= size
        assert chunk.page == (sum(page <= chunk.start_char for page in pages) or None)
    for one, other in pairwise(found):
        assert one.start_char < other.start_char
        assert one.end_char < other.end_char
        if other.start_char < one.end_char:
            assert one.heading == other.heading
            assert tokenizer.count(text[other.start_char : one.end_char].strip()) <= overlap + 2
    covered = [False] * len(text)
    for chunk in found:
        covered[chunk.start_char : chunk.end_char] = [True] * (chunk.end_char - chunk.start_char)
    lines = [line.span() for line in re.finditer(r"[^\r\n]+", text)]
    for number, (start, end) in enumerate(lines):
        if any(not text[at].isspace() and not covered[at] for at in range(start, end)):
            # Only a heading that stands above nothing but headings, or the one line above a line that makes it a heading.
            assert format_ == MARKDOWN
            assert any(HEADING_LINE.match(text[slice(*line)]) for line in lines[number : number + 2])
    return found


def headings(text: str, size: int = 64) -> list[str]:
    """Return the heading of each passage, without repetitions."""
    return list(dict.fromkeys(chunk.heading for chunk in pieces(text, size=size)))


def test_a_short_text_is_one_passage() -> None:
    assert pieces("Hello.") == [Chunk(1, "", None, "Hello.", 0, 6, 2)]


def test_a_text_that_just_fits_is_one_passage_and_one_word_more_is_another() -> None:
    assert [chunk.token_count for chunk in pieces("fox " * 64, PLAIN)] == [64]
    assert sum(chunk.token_count for chunk in pieces("fox " * 65, PLAIN)) == 65


def test_a_long_text_is_cut_between_sentences() -> None:
    found = pieces(SENTENCE * 30, PLAIN)
    assert [chunk.token_count for chunk in found] == [60] * 5
    assert " ".join(chunk.content for chunk in found) == (SENTENCE * 30).strip()


def test_a_paragraph_that_fits_is_never_cut() -> None:
    paragraphs = [f"{SENTENCE * count}".strip() for count in (2, 3, 5, 6, 1, 4)]
    for format_ in (MARKDOWN, PLAIN):
        found = pieces("\n\n".join(paragraphs), format_)
        assert [len(chunk.content.split("\n\n")) for chunk in found] == [2, 1, 1, 2]


def test_a_paragraph_that_does_not_fit_fills_the_passage_before_it() -> None:
    found = pieces(f"Lead.\n\n{SENTENCE * 12}", PLAIN)
    assert found[0].content.startswith("Lead.\n\nThe quick")
    assert [chunk.token_count for chunk in found] == [62, 60]


def test_passages_overlap_by_sentences() -> None:
    found = pieces(SENTENCE * 30, PLAIN, overlap=25)
    for one, other in pairwise(found):
        assert MINILM.count(one.content[other.start_char - one.start_char :]) == 20
        assert other.content.startswith("The")


def test_passages_overlap_by_words_where_a_sentence_is_longer() -> None:
    found = pieces(" ".join(f"w{number}" for number in range(200)), PLAIN, overlap=16)
    assert len(found) > 4
    for one, other in pairwise(found):
        assert other.start_char < one.end_char
        assert other.content.startswith("w")


def test_passages_of_different_sections_do_not_overlap() -> None:
    found = pieces(f"# A\n\n{SENTENCE * 6}\n\n# B\n\n{SENTENCE * 6}", overlap=32)
    for one, other in pairwise(found):
        assert (other.start_char < one.end_char) == (one.heading == other.heading)


def test_an_overlap_as_large_as_the_size_ends() -> None:
    assert len(pieces(SENTENCE * 30, PLAIN, size=64, overlap=256)) < 20


def test_offsets_count_characters_not_bytes() -> None:
    text = "# Über Köln 🏙\n\n" + "Größe wächst früh. 漢字も文字。 " * 40
    found = pieces(text)
    assert len(found) > 2
    assert {chunk.heading for chunk in found} == {"Über Köln 🏙"}


def test_a_passage_is_on_the_page_of_its_first_character() -> None:
    pages = [f"Page {number}. {SENTENCE * 7}\n\n" for number in (1, 2, 3)]
    text = "".join(pages)
    starts = [0, len(pages[0]), len(pages[0] + pages[1])]
    assert [chunk.page for chunk in pieces(text, PLAIN, pages=starts)] == [1, 1, 2, 3]
    assert {chunk.page for chunk in pieces(text, PLAIN)} == {None}


# --- headings


def test_every_passage_carries_the_headings_above_it() -> None:
    text = "\n\n".join(f"{line}\n\n{SENTENCE * 8}" for line in ("# A", "## B #", "### C ##", "## D", "# E"))
    assert headings(text) == ["A", "A > B", "A > B > C", "A > D", "E"]


def test_text_before_the_first_heading_has_none() -> None:
    assert headings(f"Short.\n\n# A\n\n{SENTENCE * 8}") == ["", "A"]


@pytest.mark.parametrize("format_", [PLAIN, SOURCE])
def test_only_markdown_has_headings(format_: str) -> None:
    assert {chunk.heading for chunk in pieces(f"# A\n\n{SENTENCE * 20}", format_)} == {""}


def test_small_sections_share_a_passage_under_the_heading_they_have_in_common() -> None:
    text = "# A\n\nOne.\n\n## B\n\nTwo.\n\n## C\n\nThree.\n\n### D\n\nFour.\n\n## E\n\n" + SENTENCE * 6
    found = pieces(text)
    assert [chunk.heading for chunk in found] == ["A", "A > E"]
    assert found[0].content == text[: text.index("\n\n## E")]


def test_small_sections_without_a_heading_above_them_stay_apart() -> None:
    assert headings("# A\n\nOne.\n\n# B\n\nTwo.\n\n# C\n\nThree.") == ["A", "B", "C"]


def test_a_section_does_not_share_with_those_of_another_parent() -> None:
    assert headings("# A\n\n## B\n\n### C\n\nOne.\n\n## D\n\nTwo.\n\n# E\n\n## F\n\nThree.") == ["A", "E > F"]
    text = f"# A\n\n## B\n\n{SENTENCE * 3}\n\n### C\n\nOne.\n\n## D\n\nTwo."
    assert headings(text) == ["A > B", "A > B > C", "A > D"]


def test_sections_that_are_not_small_do_not_share_though_they_would_fit() -> None:
    text = f"# A\n\n## B\n\n{SENTENCE * 2}\n\n## C\n\n{SENTENCE * 2}"
    assert headings(text) == ["A > B", "A > C"]


def test_small_sections_share_until_the_passage_is_full() -> None:
    text = "# A\n\n" + "\n\n".join(f"## B{number}\n\n{SENTENCE}" for number in range(12))
    found = pieces(text)
    assert {chunk.heading for chunk in found} == {"A"}
    assert [chunk.content.count("## B") for chunk in found] == [4, 4, 4]


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
        ("A\n===", "A"),
        ("A\n---", "A"),
        ("A\n   =  ", "A"),
        ("A\n\n---", ""),
        ("A\nB\n---", ""),
        ("- A\n---", ""),
        ("---\ntitle: A\n---", ""),
    ],
)
def test_what_is_a_heading_is_as_commonmark_says(line: str, heading: str) -> None:
    assert headings(f"{line}\n\n{SENTENCE}") == [heading]


@pytest.mark.parametrize(
    "code",
    [
        "```\n# no\n```",
        "```sh\n# no\n```",
        "~~~\n# no\n```\n# no\n~~~",
        "````\n```\n# no\n````",
        "```\n# no\n``` sh\n# no\n```",
        "   ```\n# no\n   ```",
        "    # no\n\n    # no",
        "- item\n\n      # no",
    ],
)
def test_a_comment_in_code_is_no_heading(code: str) -> None:
    assert headings(f"# A\n\n{code}\n\n{SENTENCE * 20}") == ["A"]


def test_code_in_a_line_opens_no_block() -> None:
    assert headings(f"``` a ``` b\n\n# A\n\n{SENTENCE * 20}")[-1] == "A"


def test_headings_alone_are_no_passage() -> None:
    assert pieces("# A\n\n## B\n\n### C\n") == []
    assert pieces("") == []
    assert pieces(" \n\n\t") == []


def test_sections_without_text_leave_their_headings_in_the_path() -> None:
    text = f"# A\n\n## Empty\n\n## B\n\n{SENTENCE * 12}"
    assert headings(text) == ["A > B"]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_change_nothing(end: str) -> None:
    text = f"# A\n\n{SENTENCE * 8}\n\n## B\n\n{SENTENCE * 8}\n\n```\n# no\n```\n\n{SENTENCE * 8}\n\n|a|b|\n|-|-|\n|1|2|"
    assert [chunk.content.replace(end, "\n") for chunk in pieces(text.replace("\n", end))] == [
        chunk.content for chunk in pieces(text)
    ]


def test_a_heading_of_enormous_length_is_cut_short() -> None:
    found = pieces(f"# {'long ' * 20_000}\n\n{SENTENCE}")
    assert max(len(chunk.heading) for chunk in found) <= 200


# --- the model's window


class Narrow(Wide):
    """A model that reads 64 word pieces."""

    window: int | None = 64


def test_a_passage_its_heading_and_name_fit_into_the_models_window_together() -> None:
    text = f"# A heading of six words\n\n{SENTENCE * 20}"
    for chunk in pieces(text, size=512, tokenizer=Narrow(), name="report.pdf"):
        assert MINILM.count(f"report.pdf {chunk.heading}\n{chunk.content}") <= 64
    assert len(pieces(text, size=512, tokenizer=Wide())) == 1


def test_a_heading_as_long_as_the_window_leaves_half_of_it_to_the_text() -> None:
    found = pieces(f"# {'long ' * 40}\n\n{SENTENCE * 20}", size=512, tokenizer=Narrow())
    assert {chunk.token_count for chunk in found if chunk.content.startswith("The")} == {30}


# --- tables

ROWS = [f"| row {number} | {'value ' * 3}| x |" for number in range(40)]
TABLE = "\n".join(["| name | what | z |", "|:---|---|--:|", *ROWS])
HEADER = TABLE[: TABLE.index("| row 0")]


def test_a_table_that_fits_is_never_cut() -> None:
    small = "\n".join(TABLE.splitlines()[:4])
    found = pieces(f"{SENTENCE * 3}\n\n{small}\n\n{SENTENCE}")
    assert [small in chunk.content for chunk in found] == [False, True]


def test_a_long_table_is_cut_between_rows_and_repeats_its_header() -> None:
    found = pieces(f"Lead.\n\n{TABLE}\n\nTail.", overlap=16)
    assert found[0].content.startswith(f"Lead.\n\n{HEADER}| row 0 ")
    assert all(chunk.content.startswith(HEADER + "| row ") for chunk in found[1:])
    rows = [line for chunk in found for line in chunk.content.splitlines() if line.startswith("| row")]
    assert rows == ROWS
    assert found[-1].content.endswith("\n\nTail.")


def test_the_range_of_a_passage_with_a_repeated_header_holds_its_rows() -> None:
    text = f"{SENTENCE}\n\n{TABLE}"
    for chunk in pieces(text)[1:]:
        assert HEADER + text[chunk.start_char : chunk.end_char] == chunk.content


def test_a_row_that_does_not_fit_is_cut_between_cells() -> None:
    cells = [f"{SENTENCE * 2}{number}" for number in range(9)]
    table = f"| {' | '.join('abcdefghi')} |\n{'|---' * 9}|\n| {' | '.join(cells)} |"
    found = pieces(table, size=128)
    assert len(found) > 1
    for cell in cells:
        assert any(cell in chunk.content for chunk in found)


def test_a_header_that_leaves_no_room_is_not_repeated() -> None:
    wide = "\n".join([f"| {SENTENCE * 4} | z |", "|---|---|", *ROWS])
    assert not any("lazy dog" in chunk.content for chunk in pieces(wide, size=80)[1:])


# --- code, lists, other scripts


def test_code_is_cut_between_functions() -> None:
    functions = [f"def f{number}(x):\n    y = x + {number}\n\n    return y * {number}" for number in range(24)]
    fenced = "```python\n" + "\n\n\n".join(functions) + "\n```"
    for text, format_ in ((fenced, MARKDOWN), ("\n\n\n".join(functions), SOURCE)):
        found = pieces(text, format_)
        assert len(found) > 3
        assert all(any(function in chunk.content for chunk in found) for function in functions)


def test_members_of_a_class_stay_whole() -> None:
    members = [f"    def f{number}(self):\n        a = {number}\n\n        return a" for number in range(12)]
    found = pieces("class A:\n" + "\n\n".join(members), SOURCE)
    assert all(any(member in chunk.content for chunk in found) for member in members)


def test_lines_of_code_are_not_cut_and_keep_their_indentation() -> None:
    lines = [f"    call(number, {number})  # comment. Another sentence." for number in range(60)]
    for overlap in (0, 32):
        found = pieces("def f():\n" + "\n".join(lines), SOURCE, overlap=overlap)
        assert all(line in lines for chunk in found[1:] for line in chunk.content.splitlines())


def test_text_behind_a_block_of_code_does_not_repeat_half_of_it() -> None:
    text = f"{SENTENCE * 3}\n\n```\nx = 1\ny = 2\n```\n\n{SENTENCE * 6}"
    assert [chunk.content.count("```") for chunk in pieces(text, overlap=20)] == [2, 0]


def test_comments_of_a_long_script_are_kept() -> None:
    script = "```sh\n" + "\n".join(f"# comment number {number} of the script" for number in range(60)) + "\n```"
    whole = "".join(chunk.content for chunk in pieces(script))
    assert all(f"comment number {number} " in whole for number in range(60))


def test_a_list_is_cut_between_items_with_what_belongs_to_them() -> None:
    items = [f"- item {number}\n  - {SENTENCE}\n  - more\n\n  A paragraph." for number in range(12)]
    found = pieces("\n".join(items))
    assert len(found) > 3
    assert all(any(item in chunk.content for chunk in found) for item in items)


def test_numbered_items_are_items() -> None:
    items = [f"{number}. {SENTENCE}Second line.\n   {SENTENCE}" for number in range(1, 12)]
    found = pieces("\n".join(items))
    assert all(any(item.strip() in chunk.content for chunk in found) for item in items)


@pytest.mark.parametrize(
    ("sentence", "end"),
    [
        ("敏捷的棕色狐狸跳过懒狗。", "。"),
        ("「速い茶色の狐が飛ぶ。」", "」"),
        ("هل يقفز الثعلب البني السريع فوق الكلب؟ ", "؟"),
        ("השועל החום המהיר קופץ מעל הכלב. ", "."),
        ("तेज़ भूरी लोमड़ी कुत्ते के ऊपर कूदती है। ", "।"),
    ],
)
def test_sentences_of_other_scripts_are_kept(sentence: str, end: str) -> None:
    found = pieces(sentence * 40, PLAIN)
    assert len(found) > 3
    assert all(chunk.content.endswith(end) for chunk in found)
    assert all(chunk.content.startswith(sentence[0]) for chunk in found)


def test_an_abbreviation_ends_no_sentence() -> None:
    found = pieces("The quick brown fox, e.g. the one over there, jumps over it. " * 20, PLAIN)
    assert all(chunk.content.startswith("The") for chunk in found)


def test_a_character_of_several_is_not_cut() -> None:
    for character in ("👩‍👩‍👧‍👦", "e\u0301\u0323", "👍🏽"):
        for tokenizer in (MINILM, Estimate()):
            found = pieces(character * 3000, PLAIN, tokenizer=tokenizer)
            assert len(found) > 2
            assert all(chunk.content == character * (len(chunk.content) // len(character)) for chunk in found)


def test_a_line_without_words_is_cut_at_its_marks() -> None:
    minified = "".join(f"f{number}=(a,b)=>{{a+b*{number}}};" for number in range(400))
    assert all(chunk.content[-1] in ",;:}>|" for chunk in pieces(minified, SOURCE)[:-1])


# --- bounds

HOSTILE = [
    *("word ", "x", " ", "\n", "\t", "\r\n", ".", "。", "|", "-", "`", "漢字", "👩‍👩‍👧‍👦", "\u0301", "\u200b", '."'),
    *("#\n", "# a\n", "~~~\n", "> a\n", "- a\n", "1) ", "a\n=\n", "---\n", "a\n\n\n", "\n    x\n\n", "```\n# a\n"),
    *("| a | b |\n|---|---|\n", "- a\n  - b\n    - c\n      - d\n", '{"a":[1,2,{"b":"c d"}],"e":null},'),
    *(" " * 999 + "x", ". " * 50 + "a", f"# {'long ' * 40}\n" + "###### a\nb\n" * 400),
]


class Counting:
    """Counts the characters that are given to a vocabulary."""

    name = "counting"
    window: int | None = 4096

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.characters = 0

    def starts(self, text: str) -> list[int]:
        self.characters += len(text)
        return self.tokenizer.starts(text)

    def count(self, text: str) -> int:
        self.characters += len(text)
        return self.tokenizer.count(text)


def calls_of(work: Callable[[], Any]) -> int:
    """Return how many functions are called."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("unit", HOSTILE)
def test_work_grows_with_the_text_alone(unit: str, format_: str) -> None:
    def work(length: int) -> tuple[int, int]:
        tokenizer = Counting(Estimate())
        text = (unit * (length // len(unit) + 1))[:length]
        return calls_of(
            lambda: split(
                text,
                format_,
                (),
                size_tokens=64,
                overlap_tokens=16,
                tokenizer=tokenizer,
                name="A name of a document.pdf",
            )
        ), tokenizer.characters

    (calls, characters), (more_calls, more_characters) = work(10_000), work(20_000)
    assert more_calls <= 2.2 * calls + 500
    assert more_characters <= 2.2 * characters + 20_000
    assert more_characters <= 8 * 20_000 + 20_000


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("unit", HOSTILE)
def test_no_pattern_goes_back_over_what_it_has_read(unit: str, format_: str) -> None:
    # A pattern that did would take minutes here, and days for the longest documents.
    text = unit * (100_000 // len(unit)) + "x"
    split(text, format_, (), size_tokens=2048, overlap_tokens=256, tokenizer=Estimate())


def test_memory_is_that_of_the_passages_whatever_the_length() -> None:
    text = "fox " * 250_000
    tracemalloc.start()
    try:
        split(text, PLAIN, (), size_tokens=512, overlap_tokens=0, tokenizer=MINILM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Eight bytes for each of its tokens would be twice the text.
    assert len(text) < peak < 2 * len(text)


def test_a_document_of_too_many_passages_is_refused_before_it_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunking, "MAX_CHUNKS", 100)
    tokenizer = Counting(Estimate())
    text = "abcde " * 64 * 1000
    with pytest.raises(Problem) as refused:
        split(text, PLAIN, (), size_tokens=64, overlap_tokens=0, tokenizer=tokenizer)
    assert refused.value.code == "document_too_large"
    assert tokenizer.characters < len(text) / 2


# --- any text

STRUCTURE = [
    "# One", "## Two ##", "### Three", "```", "~~~~", "    # code", "- item", "  - sub", "1. one", "| a | b |", "|---|---|",
    "| c | d |", "", "", "ü漢🏙", "\t", "> # quote", "a" * 400, "===", "---", SENTENCE, SENTENCE * 5,
]  # fmt: skip
LINES = st.lists(st.sampled_from(STRUCTURE) | st.text(max_size=60), max_size=30)


@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    format_=st.sampled_from(FORMATS),
    size=st.integers(16, 80),
    overlap=st.integers(0, 64),
    tokenizer=st.sampled_from([Wide(), Estimate()]),
)
@settings(max_examples=250, deadline=None)
def test_any_text_is_split_into_passages_that_hold_all_of_it(
    lines: list[str], end: str, format_: str, size: int, overlap: int, tokenizer: Tokenizer
) -> None:
    pieces(end.join(lines), format_, size, overlap, tokenizer=tokenizer)


def test_a_vocabulary_that_joins_blanks_to_words_is_never_exceeded(byte_pairs: TokenizerFile) -> None:
    for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / "functions").glob("*/*.py")]:
        format_ = MARKDOWN if path.suffix == ".md" else SOURCE
        for size in (64, 200):
            found = pieces(path.read_text(), format_, size, 16, tokenizer=byte_pairs)
            assert sum(chunk.token_count for chunk in found) > 0.5 * size * (len(found) - 3)


Outline = list[tuple[int, int, int]]
"""Sections: level, sentences, whether each is a paragraph of its own."""


def write(outline: Outline) -> tuple[str, dict[str, tuple[str, ...]]]:
    """Return a text, and for each of its words, all different, the titles above it."""
    text: list[str] = []
    above: dict[str, tuple[str, ...]] = {}
    path: dict[int, str] = {}
    for number, (level, sentences, apart) in enumerate(outline):
        path = {at: title for at, title in path.items() if at < level} | {level: f"Title{number}"}
        words = [f"Word{number}x{at}" for at in range(sentences)]
        text.append(f"{'#' * level} Title{number}")
        text.append(("\n\n" if apart else " ").join(f"{word} is a word." for word in words))
        above |= dict.fromkeys(words, tuple(path.values()))
    return "\n\n".join(text), above


@given(
    outline=st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0, 1, 2, 9, 30]), st.integers(0, 1)), max_size=12),
    size=st.integers(48, 120),
    overlap=st.integers(0, 24),
)
@settings(max_examples=150, deadline=None)
def test_a_heading_is_right_for_all_of_its_passage(outline: Outline, size: int, overlap: int) -> None:
    text, above = write(outline)
    for chunk in pieces(text, size=size, overlap=overlap):
        paths = {above[word] for word in re.findall(r"Word\d+x\d+", chunk.content)}
        common = [titles[0] for titles in zip(*paths, strict=False) if len(set(titles)) == 1]
        # The longest beginning that the paths share: right for all, and no less than can be said.
        assert chunk.heading == " > ".join(common)


def blocks_of(draw: st.DrawFn) -> Iterator[str]:
    for number in range(draw(st.integers(1, 6))):
        # Two lists in a row would be one.
        yield f"Paragraph {number}."
        kind = draw(st.sampled_from(["prose", "list", "table", "code"]))
        count = draw(st.integers(1, 12))
        if kind == "prose":
            yield " ".join(f"Sentence {number} {at} of it." for at in range(count))
        elif kind == "list":
            yield "\n".join(f"- item {number} {at} of it" for at in range(count))
        elif kind == "table":
            yield "\n".join(["| a | b |", "|---|---|", *(f"| cell {number} {at} | of it |" for at in range(count))])
        else:
            yield "\n".join(["```", *(f"line_{number}({at}, of_it)" for at in range(count)), "```"])


@st.composite
def documents(draw: st.DrawFn) -> list[str]:
    return list(blocks_of(draw))


@given(blocks=documents(), size=st.integers(40, 100), overlap=st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_what_fits_into_a_passage_is_never_cut(blocks: list[str], size: int, overlap: int) -> None:
    found = pieces("\n\n".join(blocks), MARKDOWN, size, overlap, tokenizer=Wide())
    for block in blocks:
        parts = re.split(r"(?<=\.) |\n", block) if MINILM.count(block) > size else [block]
        assert all(any(part in chunk.content for chunk in found) for part in parts)
