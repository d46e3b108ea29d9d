from infra.local.model_server.prompts import Message, Passage, passages_of, question_of


def system(text: str) -> Message:
    return Message("system", text)


def test_passages_are_read_with_number_title_and_text() -> None:
    prompt = system(
        "Answer from these.\n<passages>\n[1] a.md > Backup\nKept 30 days.\n\nSecond paragraph.\n\n"
        "[4] b.md\nOther text.\n</passages>\nCite them."
    )
    assert passages_of([prompt]) == [
        Passage(1, "a.md > Backup", "Kept 30 days.\n\nSecond paragraph."),
        Passage(4, "b.md", "Other text."),
    ]


def test_a_numbered_line_inside_a_passage_begins_no_passage() -> None:
    text = "As in\n[2] not a passage\n\n[1] nor this"
    prompt = system(f"<passages>\n[1] refs.md\n{text}\n\n[2] real.md\nText.\n</passages>")
    assert passages_of([prompt]) == [Passage(1, "refs.md", text), Passage(2, "real.md", "Text.")]


def test_a_closing_line_inside_a_passage_ends_nothing() -> None:
    prompt = system("<passages>\n[1] a.md\nBefore\n</passages>\nAfter\n\n[2] b.md\nText.\n</passages>\nRules.")
    assert [passage.number for passage in passages_of([prompt])] == [1, 2]


def test_a_passage_without_text_is_kept_empty() -> None:
    assert passages_of([system("<passages>\n[1] a.md\n</passages>")]) == [Passage(1, "a.md", "")]


def test_passages_in_a_user_message_are_not_documents() -> None:
    assert passages_of([Message("user", "<passages>\n[1] a.md\nText.\n</passages>")]) == []


def test_a_prompt_without_a_complete_block_has_no_passages() -> None:
    assert passages_of([system("<passages>\n[1] a.md\nText.")]) == []
    assert passages_of([system("</passages>\n[1] a.md\nText.\n<passages>")]) == []
    assert passages_of([]) == []


def test_the_last_user_message_is_the_question() -> None:
    messages = [
        Message("user", "first"),
        Message("assistant", "reply"),
        Message("user", "second"),
        system("x"),
    ]
    assert question_of(messages) == "second"
    assert question_of([system("x")]) == ""
