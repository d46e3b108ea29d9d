"""`make ingest`: a folder goes in over real HTTP, is waited for, and goes in again without being sent once more."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from infra.local import folder
from infra.local.folder import File, FolderError, collect, forms, ingest
from tests.functions.platform import Platform
from tests.functions.talk import serving
from tests.functions.test_buckets import documents
from tests.functions.upstream import Upstream, status


@pytest.fixture
async def url(platform: Platform) -> AsyncIterator[str]:
    """The ingestion function on a port of its own, and what it emits carried on."""

    async def carry() -> None:
        while True:
            await platform.deliver()
            await asyncio.sleep(0.05)

    async with serving(platform.serve("ingestion")) as server:
        carrying = asyncio.create_task(carry())
        yield server.url
        carrying.cancel()
        with suppress(asyncio.CancelledError):
            await carrying


def fill(root: Path) -> None:
    for name, content in {
        "readme.md": b"# Read me\n\nFirst.",
        "deep/er/b \u00fc.txt": b"Second.",
        "deep/no-suffix": b"Third, a text.",
        "deep/tool.py": b"print('fourth')",
        "picture.png": b"\x89PNG\x00",
        "binary": bytes(range(256)),
        ".hidden/secret.md": b"Not this.",
        ".env": b"NOR=this",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "link.md").symlink_to(root / "readme.md")


async def test_a_folder_goes_in_and_only_what_changed_goes_in_again(
    platform: Platform, url: str, tmp_path: Path
) -> None:
    fill(tmp_path)
    console, token = Console(quiet=True), platform.bearer()["Authorization"].removeprefix("Bearer ")
    first = await ingest(console, tmp_path, "shelf", url, token)
    assert (first.sent, first.unchanged, first.failed) == (4, 0, [])
    assert first.left_out == {
        "of a kind that is not read": ["binary", "picture.png"],
        "hidden": [".env", ".hidden/secret.md"],
        "symbolic links": ["link.md"],
    }
    assert documents(platform) == {
        "readme.md": ("shelf", b"# Read me\n\nFirst."),
        "deep/er/b \u00fc.txt": ("shelf", b"Second."),
        "deep/no-suffix": ("shelf", b"Third, a text."),
        "deep/tool.py": ("shelf", b"print('fourth')"),
    }
    again = await ingest(console, tmp_path, "shelf", url, token)
    assert (again.sent, again.unchanged) == (0, 4)
    (tmp_path / "readme.md").write_bytes(b"# Read me\n\nChanged.")
    changed = await ingest(console, tmp_path, "shelf", url, token)
    assert (changed.sent, changed.unchanged) == (1, 3)
    page = (await platform.call("ingestion", "GET", "/documents?collection=shelf")).json()
    assert page["counts"] == {"received": 0, "processing": 0, "indexed": 4, "failed": 0}


async def test_what_fails_is_told_with_its_cause_and_sent_again(
    platform: Platform, upstream: Upstream, url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.md").write_bytes(b"Text.")
    (tmp_path / "empty.md").write_bytes(b"")
    console, token = Console(quiet=True), platform.bearer()["Authorization"].removeprefix("Bearer ")
    healthy, upstream.embeddings = upstream.embeddings, status(400)
    report = await ingest(console, tmp_path, "shelf", url, token)
    assert [(name, cause.partition(":")[0]) for name, cause, _ in report.failed] == [
        ("empty.md", "undecodable_document"),
        ("a.md", "embedding_rejected"),
    ]
    assert report.failed[1][2], "what to do"
    upstream.embeddings = healthy
    (tmp_path / "empty.md").unlink()
    report = await ingest(console, tmp_path, "shelf", url, token)
    assert (report.sent, report.failed) == (1, [])


async def test_one_file_that_cannot_be_sent_stops_no_other(
    platform: Platform, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.md").write_bytes(b"Text.")
    (tmp_path / "gone.md").write_bytes(b"Soon gone.")
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_bytes(b"Of an old archive.")

    def collect_and_lose(root: Path, left_out: dict[str, list[str]]) -> Iterator[File]:
        yield from list(collect(root, left_out))
        (root / "gone.md").unlink()

    monkeypatch.setattr(folder, "collect", collect_and_lose)
    token = platform.bearer()["Authorization"].removeprefix("Bearer ")
    report = await ingest(Console(quiet=True), tmp_path, "shelf", url, token)
    assert (report.sent, report.failed) == (1, [("gone.md", "cannot be read: No such file or directory", "")])
    assert report.left_out == {"whose names are not UTF-8": ["caf\ufffd.md"]}
    assert documents(platform) == {"a.md": ("shelf", b"Text.")}


async def test_a_platform_that_says_slowly_is_asked_later_and_one_that_refuses_ends_it(
    platform: Platform, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.md").write_bytes(b"Text.")
    with pytest.raises(FolderError, match="unauthenticated"):
        await ingest(Console(quiet=True), tmp_path, "shelf", url, "no-token-at-all")
    token = platform.bearer()["Authorization"].removeprefix("Bearer ")
    with pytest.raises(FolderError, match="invalid_request"):
        await ingest(Console(quiet=True), tmp_path, "../shelf", url, token)
    monkeypatch.setattr(folder, "ATTEMPTS", 1)
    with pytest.raises(FolderError, match="does not answer"):
        await ingest(Console(quiet=True), tmp_path, "shelf", "http://127.0.0.1:9", "token")


def test_files_go_in_groups_that_fit_into_a_request(tmp_path: Path) -> None:
    sizes = [10] * 40 + [folder.FORM_BYTES * 2, folder.FORM_BYTES - 5, 10]
    files = [File(str(number), tmp_path, "text/plain", size) for number, size in enumerate(sizes)]
    groups = list(forms(files))
    assert [file for group in groups for file in group] == files
    assert [len(group) for group in groups] == [32, 8, 1, 1, 1]


def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for environ in ({}, {"DIR": str(tmp_path / "nowhere")}):
        assert folder.run(environ, "http://127.0.0.1:9", "token") == 1
        assert "make ingest DIR=path" in capsys.readouterr().out


def test_the_type_is_by_suffix_or_content(tmp_path: Path) -> None:
    contents = {
        "a.PDF": b"",
        "b": b"%PDF-1.7",
        "c": "\u00fc".encode() * 50_000,
        "d": b"\xff\xfe",
        "e": b"",
        "f.rs": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    left_out: dict[str, list[str]] = {}
    found = {file.name: file.media_type for file in collect(tmp_path, left_out)}
    assert found == {
        "a.PDF": "application/pdf", "b": "application/pdf", "c": "text/plain", "e": "text/plain", "f.rs": "text/x-source",
    }  # fmt: skip
    assert left_out == {"of a kind that is not read": ["d"]}
