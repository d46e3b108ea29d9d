import pytest

from infra.local.model_server.markdown import plain, sentences, units


def texts(markdown: str) -> list[str]:
    return [unit.text for unit in units(markdown)]


def test_prose_is_cut_into_sentences_across_line_breaks() -> None:
    assert texts("Backups run\nnightly. They are kept\nfor 30 days!\n\nA new paragraph") == [
        "Backups run nightly.",
        "They are kept for 30 days!",
        "A new paragraph",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Use a key, e.g. Alpha. Then go on.", ["Use a key, e.g. Alpha.", "Then go on."]),
        ("Version 1.2.3 is out. Try it.", ["Version 1.2.3 is out.", "Try it."]),
        ("Run `a. B` now. Done?", ["Run `a. B` now.", "Done?"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("第一句。第二句。", ["第一句。", "第二句。"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_says_they_do(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_headings_are_not_units_but_stand_above_them() -> None:
    found = units(
        "Under the title.\n\n## Backup & `restore` ##\nKept for days.\n\nRetention\n---\nThirty days.",
        "Guide",
    )
    assert [(unit.heading, unit.text) for unit in found] == [
        ("Guide", "Under the title."),
        ("Backup & `restore`", "Kept for days."),
        ("Retention", "Thirty days."),
    ]


def test_list_items_lose_their_bullets_and_keep_their_continuation_lines() -> None:
    markdown = "- first item\n  continued here\n* [ ] second item\n1. third item\n  - nested item\n> - quoted item"
    assert texts(markdown) == [
        "first item continued here",
        "second item",
        "third item",
        "nested item",
        "quoted item",
    ]


def test_table_rows_are_read_with_their_column_names() -> None:
    markdown = "| Variable | Default | Notes |\n|---|:-:|--|\n| `PORT` | 4000 | a \\| b |\n| `LOG LEVEL` | | |"
    assert texts(markdown) == ["`PORT` — Default: 4000; Notes: a | b", "`LOG LEVEL`"]


def test_a_table_cut_from_its_header_still_reads_cell_by_cell() -> None:
    assert texts("| `PORT` | 4000 | the port |") == ["`PORT` — 4000; the port"]


def test_code_lines_carry_the_comment_above_them() -> None:
    markdown = """
```bash
# Restart the API:
kubectl rollout restart \\
  deployment/api

echo `date` now
}
```
After it.
"""
    assert texts(markdown) == [
        "Restart the API: `kubectl rollout restart deployment/api`",
        "``echo `date` now``",
        "After it.",
    ]


def test_text_cut_in_the_middle_of_code_is_still_read_as_code() -> None:
    assert texts("make one\nmake two\n```\nThe end. Really now.") == [
        "`make one`",
        "`make two`",
        "The end.",
        "Really now.",
    ]


def test_a_fence_within_a_longer_fence_is_code() -> None:
    assert texts("````\n```\nlet x = 1\n```\n````\nSome prose.") == ["`let x = 1`", "Some prose."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**Bold** and *italic* and __this__", "Bold and italic and this"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        ("**`code_span`** stays", "`code_span` stays"),
        ("`**literal** [1]` stays", "`**literal** [1]` stays"),
        ("a *b `c*` and `*d` e* f", "a b `c*` and `*d` e f"),
        ("[`make run`](x.md) \ue0000\ue001 &#xe000;9&#xe001;", "`make run`"),
        ("![alt `x`](y) <!-- `hidden` --> `shown`", "alt `x` `shown`"),
        ("[a link](http://x/y) ![image](z.png)", "a link image"),
        ("line<br/>break <tenant id> <!-- hidden\n --> &amp; more", "line break <tenant id> & more"),
        ("as shown in [3] and[^note]", "as shown in (3) and"),
    ],
)
def test_decoration_is_removed_outside_code(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_rules_and_single_words_are_not_quotable() -> None:
    assert texts("---\n\n***\n\nYes\n\n- ok\n\nA real one.") == ["A real one."]


def test_a_unit_is_never_longer_than_a_few_hundred_characters() -> None:
    (unit,) = texts("word " * 500)
    assert unit.endswith("word …")
    assert len(unit) <= 402
