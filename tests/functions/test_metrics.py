"""What the processes measure besides their own requests: the state of the platform, the pool, the start, how turns end."""

import asyncio
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.database import Database as Pool
from shared.metrics import OUTCOMES, WATCHED_PROBLEMS
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from tests.functions.asgi import call
from tests.functions.platform import Platform, until
from tests.functions.upstream import Answer, Upstream, status, stream, text
from tests.support import Database

if TYPE_CHECKING:
    from starlette.types import Message

JOBS = "enterprise_agent_jobs"
AVAILABLE = "enterprise_agent_model_available"
POOL = "enterprise_agent_database_"
TURNS = "enterprise_agent_turns_total"


class Scrape:
    """The samples of one function, by name and labels."""

    def __init__(self, exposition: str) -> None:
        families = list(text_string_to_metric_families(exposition))
        assert len({family.name for family in families}) == len(families), "a metric is described twice"
        self.samples = {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]


async def scrape(platform: Platform, function: str = "sweep") -> Scrape:
    reply = await call(platform.serve(function), "GET", "/metrics")
    assert reply.status == 200, reply
    return Scrape(reply.body.decode())


async def swept(platform: Platform) -> Scrape:
    """Return what the sweeper exports after a tick."""
    assert (await platform.tick()).status == 200
    return await scrape(platform)


async def test_the_sweeper_tells_of_the_platforms_state(platform: Platform) -> None:
    turn = await platform.begin()
    after = await swept(platform)
    assert turn
    [tier] = {dict(labels)["tier"] for (name, labels), value in after.samples.items() if name == JOBS and value}
    assert after.value(JOBS, tier=tier, status="queued") == 1
    assert after.value("enterprise_agent_outbox_events") >= 1
    assert abs(after.value("enterprise_agent_swept_timestamp_seconds") - time.time()) < 30


async def test_what_is_gone_is_told_no_more(platform: Platform) -> None:
    """A gauge of the library keeps every label that it ever had."""
    with platform.database.connect() as operator:
        operator.run("INSERT INTO routing.models (name, tier) VALUES ('passing/model', 'light')")
    model = AVAILABLE, frozenset({("model", "passing/model"), ("tier", "light")})
    assert (await swept(platform)).samples[model] == 1
    with platform.database.connect() as operator:
        operator.run("DELETE FROM routing.models WHERE name = 'passing/model'")
    assert model not in (await swept(platform)).samples


async def test_a_sweep_that_fails_does_not_pass_for_one(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (await swept(platform)).value("enterprise_agent_swept_timestamp_seconds")
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://app:secret@127.0.0.1:{closed_port}/a")
    get_settings.cache_clear()
    await runtime.close()
    assert (await platform.tick()).status == 503
    assert (await scrape(platform)).value("enterprise_agent_swept_timestamp_seconds") == before


@pytest.mark.parametrize(("answer", "outcome"), [(stream(*text("Yes", ".")), "completed"), (status(400), "failed")])
async def test_a_turn_is_counted_once_by_how_it_ended(
    platform: Platform, upstream: Upstream, answer: Answer, outcome: str
) -> None:
    upstream.chat = answer
    before = await scrape(platform, "infer")
    await platform.ask("What is the limit?")
    after = await scrape(platform, "infer")
    ended = {o: after.value(TURNS, outcome=o) - before.value(TURNS, outcome=o) for o in OUTCOMES}
    assert ended == {o: float(o == outcome) for o in OUTCOMES}


async def test_a_turn_that_the_sweeper_gives_up_is_counted(platform: Platform) -> None:
    await platform.begin()
    with platform.database.connect() as operator:
        operator.run(
            "UPDATE inference.jobs SET emitted_at = now() - interval '2 h', created_at = now() - interval '2 h'"
        )
    before = (await scrape(platform)).value(TURNS, outcome="failed")
    assert (await swept(platform)).value(TURNS, outcome="failed") == before + 1


async def test_the_pool_tells_of_its_connections_and_of_who_waits_for_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.6)
    pool = await Pool(database.urls["app"], pool_size=1).open()

    def told() -> dict[str, float]:
        names = ("/".join([sample.name, *sample.labels.values()]) for sample in pool.samples())
        return {name.removeprefix(POOL): sample.value for name, sample in zip(names, pool.samples(), strict=True)}

    await pool.rows("ops.gauges")
    # The first call has waited until there was a connection.
    before = told()
    assert before | {"wait_seconds": 0} == {
        "connections/idle": 1,
        "connections/used": 0,
        "waiting": 0,
        "wait_seconds": 0,
        "refused": 0,
    }
    with psycopg.connect(database.urls["postgres"]) as operator:
        operator.execute("LOCK TABLE routing.models")
        first = asyncio.create_task(pool.rows("ops.gauges"))
        await until(lambda: told()["connections/used"] == 1)
        second = asyncio.create_task(pool.rows("ops.gauges"))
        await until(lambda: told()["waiting"] == 1)
        with pytest.raises(Problem, match="does not answer"):
            await second
    await first
    after = told()
    assert after["wait_seconds"] >= before["wait_seconds"] + 0.6
    assert (after["waiting"], after["refused"], after["connections/used"]) == (0, 1, 0)
    await pool.close()


async def test_what_alerts_watch_is_there_before_it_first_happens(platform: Platform) -> None:
    told = await scrape(platform, "health")
    for code in WATCHED_PROBLEMS:
        assert told.value("enterprise_agent_problems_total", code=code) >= 0
    for outcome in OUTCOMES:
        assert told.value(TURNS, outcome=outcome) >= 0
    assert told.value("enterprise_agent_rate_limit_unchecked_total") >= 0


async def test_a_process_tells_when_it_began_to_take_requests(platform: Platform) -> None:
    service = platform.serve("chat")
    sent: list[str] = []
    messages = iter(["lifespan.startup"])

    async def receive() -> "Message":
        kind = next(messages, None)
        if kind is None:
            await asyncio.Event().wait()
        return {"type": kind}

    async def send(message: "Message") -> None:
        sent.append(message["type"])

    life = asyncio.create_task(service({"type": "lifespan"}, receive, send))
    await until(lambda: sent)
    told = await scrape(platform, "chat")
    life.cancel()
    assert abs(told.value("enterprise_agent_ready_timestamp_seconds") - time.time()) < 30
    assert told.value("enterprise_agent_ready_timestamp_seconds") > told.value("process_start_time_seconds")
