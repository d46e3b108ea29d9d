"""The previous release's functions run against this one's database: a canary can be tried, and a release taken back.

Its Python, from the history, is started as real processes on a database that this tree's migrations and logic have made.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from infra.local.assembly import ROOT
from infra.release.previous import NoHistoryError, UnknownReleaseError, extract, recorded
from tests.release.calls import Call, calls
from tests.stack.conftest import MANUAL, QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User, connections
from tests.support import Database

CITED = "31 bar"
MIGRATION = "knative/base/migration.yaml"
MODEL = "local/all-minilm-l6-v2"
ASKED = {"model": "standard", "messages": [{"role": "user", "content": QUESTION}], "retrieval": True}


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of two commits."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    for number in ("1", "2"):
        (folder / "file").write_text(number)
        git(folder, "add", "file")
        git(folder, "-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", number)
    return folder


def test_a_release_is_taken_from_the_history(repository: Path, tmp_path: Path) -> None:
    git(repository, "tag", "v1.0.0", "HEAD~1")
    extract(tmp_path / "tag", "v1.0.0", repository)
    assert (tmp_path / "tag" / "file").read_text() == "1"
    with pytest.raises(UnknownReleaseError, match="which infra/release/PREVIOUS records"):
        extract(tmp_path / "other", "v2.0.0", repository)


def test_a_clone_without_the_history_says_so(repository: Path, tmp_path: Path) -> None:
    first = git(repository, "rev-parse", "HEAD~1")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository}", str(shallow))
    with pytest.raises(NoHistoryError, match="git fetch --unshallow"):
        extract(tmp_path / "out", first, shallow)
    with pytest.raises(NoHistoryError, match="no git repository"):
        extract(tmp_path / "out", first, tmp_path)


def test_one_release_is_recorded() -> None:
    assert recorded()


def missing(call: Call, database: Database) -> str | None:
    """Return why the database cannot take a call, None when it can."""
    with database.connect() as operator:
        found = operator.query(
            "SELECT coalesce(p.proargnames[1:p.pronargs], '{}'), p.pronargs - p.pronargdefaults,"
            " has_function_privilege('app', p.oid, 'EXECUTE') OR has_function_privilege('relay', p.oid, 'EXECUTE')"
            " FROM pg_proc AS p WHERE p.oid = ANY (SELECT q.oid FROM pg_proc AS q JOIN pg_namespace AS n"
            " ON n.oid = q.pronamespace WHERE n.nspname || '.' || q.proname = %s)",
            [call.function],
        )
    if not found:
        return "is gone"
    if not any(allowed for *_, allowed in found):
        return "may not be called by the functions any more"
    if call.arguments is None:
        return None
    for names, required, _ in found:
        if call.arguments <= set(names) and (not call.whole or set(names[:required]) <= call.arguments):
            return None
    return f"takes {[names for names, *_ in found]}, and not {sorted(call.arguments)}"


def test_every_sql_function_that_it_calls_is_there(previous: Path, database: Database) -> None:
    found = list(calls(previous))
    assert len({call.function for call in found}) > 80
    wrong = {f"{call.place} {call.function}": missing(call, database) for call in found}
    assert {place: reason for place, reason in wrong.items() if reason} == {}


DROP = "DROP FUNCTION chat.read_turn(uuid)"
MAKE = "CREATE FUNCTION chat.read_turn({0}) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'"
CHANGES = {
    DROP: "is gone",
    "ALTER FUNCTION chat.read_turn(uuid) RENAME TO read_a_turn": "is gone",
    "REVOKE EXECUTE ON FUNCTION chat.read_turn(uuid) FROM app": "may not be called",
    f"{DROP}; {MAKE.format('p_id uuid')}": "takes [['p_id']], and not ['p_turn_id']",
    f"{DROP}; {MAKE.format('p_turn_id uuid, p_more int')}": "takes [['p_turn_id', 'p_more']], and not ['p_turn_id']",
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.items())
def test_a_function_that_it_could_not_call_any_more_is_found(
    previous: Path, database: Database, change: str, reason: str
) -> None:
    with database.connect() as operator:
        operator.run(change)
        if "CREATE" in change:
            operator.run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA chat TO app")
    told = [missing(call, database) for call in calls(previous) if call.function == "chat.read_turn"]
    assert told
    assert all(complaint is not None and reason in complaint for complaint in told)


def migrate_by(job: Path, instead_of: Path) -> None:
    """Let a tree's manifests have the Job that migrates from another one: it is the newer release's."""
    kustomization = instead_of.with_name("kustomization.yaml")
    document = yaml.safe_load(kustomization.read_text())
    resources = [name for name in document["resources"] if name != job.name]
    if job.exists():
        instead_of.write_text(job.read_text())
        resources.append(job.name)
    kustomization.write_text(yaml.safe_dump({**document, "resources": resources}))


@pytest.fixture(scope="module")
def platform(previous: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The previous release's functions, relay and manifests, on this tree's database."""
    migrate_by(ROOT / MIGRATION, previous / MIGRATION)
    platform = Platform.of_release(previous, tmp_path_factory.mktemp("old") / "state")

    async def prepare() -> None:
        async with connections() as session:
            await User(platform, session, platform.stack.tenant_id).upload("manual.md", MANUAL)

    with platform.stack:
        asyncio.run(prepare())
        yield platform
    # What failed and was tried again, or went on in the background, is a failure too.
    logs = [log.read_text(errors="replace") for log in platform.stack.state.logs.glob("*.log")]
    assert sum('"level": "info"' in log for log in logs) > 10
    assert [line for log in logs for line in log.splitlines() if '"level": "error"' in line] == []


@pytest.fixture
async def user(platform: Platform) -> Any:
    async with connections() as session:
        yield User(platform, session, platform.stack.tenant_id)


@pytest.mark.stack
def test_its_processes_run_its_own_code(platform: Platform, previous: Path) -> None:
    for part in ("chat", "inference-standard", "ingestion-worker", "embedding", "relay"):
        assert Path(f"/proc/{platform.pid(part)}/cwd").resolve() == previous


@pytest.mark.stack
async def test_it_answers_from_documents_and_its_streams_are_resumed(platform: Platform, user: User) -> None:
    transcript = await user.answer(QUESTION)
    assert transcript.names[-1] == "turn.completed"
    assert CITED in transcript.text
    turn = await user.turn(transcript.turn)
    assert (turn["status"], turn["answer"]) == ("completed", transcript.text)
    platform.assert_charged_once(transcript.turn, turn["charged_tokens"])
    assert (await user.replay(transcript.turn)).text == transcript.text
    status, _, conversations = await user.request("GET", "chat/conversations")
    assert (status, len(conversations["conversations"])) == (200, 1)


@pytest.mark.stack
async def test_it_takes_in_documents_finds_and_deletes_them(platform: Platform, user: User) -> None:
    document = await user.upload("crane.md", "# Crane\n\nThe crane of quay 4 lifts eleven tonnes.")
    status, _, found = await user.request("GET", "retrieval/search", params={"q": "How much does the crane lift?"})
    assert (status, found["mode"], found["results"][0]["document_id"]) == (200, "hybrid", document)
    headers = {"Authorization": f"Bearer {user.token}"}
    url = f"{platform.stack.urls['ingestion']}/documents/{document}"
    async with aiohttp.ClientSession() as session, session.delete(url, headers=headers) as response:
        assert response.status == 204


@pytest.mark.stack
async def test_it_serves_the_openai_api(platform: Platform, user: User) -> None:
    status, _, whole = await user.request("POST", "openai-api/v1/chat/completions", json=ASKED)
    assert status == 200, whole
    answer = whole["choices"][0]["message"]["content"]
    assert CITED in answer
    platform.assert_charged_once(f"{whole['id'].removeprefix('chatcmpl-')}", whole["usage"]["total_tokens"])
    url = f"{platform.stack.urls['openai-api']}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {user.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={**ASKED, "stream": True}, headers=headers) as response,
    ):
        lines = (await response.text()).splitlines()
    assert lines[-2] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == answer
    status, _, vectors = await user.request("POST", "openai-api/v1/embeddings", json={"model": MODEL, "input": "a"})
    assert status == 200, vectors


@pytest.mark.stack
@pytest.mark.parametrize(
    "address",
    [
        "identity/me",
        "routing/routing/models",
        "routing/budgets",
        "routing/aliases",
        "ingestion/documents",
        "ingestion/collections",
        "retrieval/search/settings",
        "health/health",
    ],
)
async def test_it_answers_everything_else(user: User, address: str) -> None:
    status, _, body = await user.request("GET", address)
    assert status == 200, body
