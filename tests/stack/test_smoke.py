"""`make smoke` passes on a platform that works, says what does not on another one, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import smoke
from tests.stack.platform import Platform

ROOT = Path(__file__).parents[2]
KEPT = {
    "collections": "SELECT id FROM rag.collections WHERE name LIKE 'smoke-%%'",
    "documents": "SELECT id FROM rag.documents WHERE name = 'smoke.md'",
    "turns": "SELECT id FROM chat.turns",
    "held": "SELECT turn_id FROM budget.reservations WHERE closed_at IS NULL",
    "events": "SELECT id FROM events.dead_letters",
}


def kept(platform: Platform) -> set[tuple[object, ...]]:
    """Return what there is of all that a run makes."""
    return {(what, *row) for what, query in KEPT.items() for row in platform.query(query)}


async def test_a_platform_that_works_passes_every_step_and_keeps_nothing_of_it(platform: Platform) -> None:
    before, lines = kept(platform), list[str]()
    passed = await smoke.run(platform.stack.urls, platform.stack.token, lines.append)
    assert passed, "\n".join(lines)
    steps = [line.partition(": ")[2] for line in lines]
    assert [line for line in lines if not line.startswith("PASS: ")] == []
    assert {f"{what} of {function}" for function in smoke.FUNCTIONS for what in ("liveness", "readiness")} <= {
        step.partition(":")[0] for step in steps
    }
    assert [step.partition(" after ")[0] for step in steps if "first token" in step] == [
        "an answer is streamed: first token"
    ]
    assert kept(platform) <= before, "what others have begun may end meanwhile"


@pytest.mark.parametrize(
    ("function", "failing"),
    [
        ("retrieval", {"a search finds it", "a document that is deleted is found no more"}),
        (
            "openai-api",
            {
                "models of the OpenAI API",
                "the budget is charged for it, for what was embedded, and for nothing else",
            },
        ),
        ("chat", {"metrics", "an answer is streamed"}),
        ("ingestion", {"a document is indexed", "what was made is deleted"}),
    ],
)
async def test_a_function_that_is_away_fails_its_steps_and_nothing_stays(
    platform: Platform, function: str, failing: set[str]
) -> None:
    before, lines = kept(platform), list[str]()
    urls = {**platform.stack.urls, function: "http://127.0.0.1:1"}
    assert not await smoke.run(urls, platform.stack.token, lines.append)
    failed = {line.partition("FAIL: ")[2].partition(":")[0] for line in lines if line.startswith("FAIL: ")}
    assert failed == failing | {f"liveness of {function}", f"readiness of {function}"}
    assert kept(platform) <= before, "what others have begun may end meanwhile"


async def test_a_wrong_token_fails_before_anything_is_made(platform: Platform) -> None:
    before, lines = kept(platform), list[str]()
    assert not await smoke.run(platform.stack.urls, "no-token", lines.append)
    assert [line.partition(": ")[2].partition(":")[0] for line in lines if line.startswith("FAIL")] == ["token"]
    assert kept(platform) <= before, "what others have begun may end meanwhile"


def test_the_addresses_are_one_host_a_pattern_or_the_functions_own() -> None:
    assert smoke.addresses({}) == {}
    assert set(smoke.addresses({"URL": "https://agents.example.com/"}).values()) == {"https://agents.example.com"}
    named = smoke.addresses({"URL": "https://{function}.example.com", "URL_OPENAI_API": "https://llm.example.com"})
    assert named["chat"] == "https://chat.example.com"
    assert named["openai-api"] == "https://llm.example.com"


def test_the_command_finds_the_local_platform(platform: Platform, tmp_path: Path) -> None:
    def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infra.smoke"],
            cwd=ROOT,
            env={**os.environ, "LOCAL_STATE_DIR": str(folder), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(platform.stack.state.path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "PASS: an answer is streamed" in done.stdout
    nowhere = run(tmp_path / "none")
    assert (nowhere.returncode, "make dev" in nowhere.stderr) == (3, True)
    assert run(tmp_path / "none", URL="https://agents.example.com").stderr.startswith("error: TOKEN")
