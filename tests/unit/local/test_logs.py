from pathlib import Path

import pytest

from infra.local import logs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "chat.log").write_text("one\ntwo\nthree\n")
    (tmp_path / "relay.log").write_bytes(b"\xff line\nhalf a line")
    return tmp_path


def read(folder: Path, *names: str, last: int) -> list[str]:
    lines: list[str] = []
    logs.tail(folder, names, last=last, follow=False, write=lines.append)
    return lines


def test_the_last_complete_lines_of_each_part_are_shown_behind_its_name(folder: Path) -> None:
    assert read(folder, last=2) == [
        "chat             | two",
        "chat             | three",
        "relay            | \ufffd line",
    ]


def test_one_part_can_be_chosen(folder: Path) -> None:
    assert read(folder, "chat", last=1) == ["chat             | three"]
    assert read(folder, "chat", last=0) == []


def test_an_unknown_part_names_those_there_are(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no log of api; there are: chat, relay"):
        read(folder, "api", last=1)


def test_new_lines_and_new_parts_are_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    changes = iter(
        [("relay.log", b"\xff line\nhalf a line is whole\n"), ("new.log", b"hello\n"), ("chat.log", b"afresh\n")]
    )

    def step(_: float) -> None:
        change = next(changes, None)
        if change is None:
            raise KeyboardInterrupt
        (folder / change[0]).write_bytes(change[1])

    monkeypatch.setattr("time.sleep", step)
    with pytest.raises(KeyboardInterrupt):
        logs.tail(folder, (), last=1, follow=True, write=lines.append)
    assert [line.partition("| ")[2] for line in lines] == [
        "three",
        "\ufffd line",
        "half a line is whole",
        "hello",
        "afresh",
    ]
