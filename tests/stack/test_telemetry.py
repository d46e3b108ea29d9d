"""One turn's trace through real processes: chat, relay, broker and inference."""

import asyncio
from pathlib import Path

from tests.functions.collector import collecting
from tests.stack.conftest import QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User, connections


async def ask(platform: Platform) -> None:
    async with connections() as session:
        await User(platform, session, platform.stack.tenant_id).answer(QUESTION)


def test_a_trace_goes_from_process_to_process_and_nothing_is_lost_at_the_end(tmp_path: Path) -> None:
    with collecting() as collector:
        platform = Platform.in_folder(
            tmp_path / "state", ENABLE_TELEMETRY="true", OTLP_ENDPOINT=collector.url, MODEL_TOKENS_PER_SECOND="0"
        )
        with platform.stack:
            asyncio.run(ask(platform))
        asked = collector.one("POST /chat")
        trace = [span for span in collector.spans if span.trace == asked.trace]
    by_id = {span.id: span for span in trace}
    told = {(span.name, span.service, by_id[span.parent].name if span.parent else "") for span in trace}
    process = "process com.enterprise-agents.inference.requested.v1"
    assert told == {
        ("POST /chat", "chat", ""),
        ("embeddings local/all-minilm-l6-v2", "chat", "POST /chat"),
        ("budget.reserve_question", "chat", "POST /chat"),
        ("chat.begin_turn", "chat", "POST /chat"),
        (process, "infer", "POST /chat"),
        ("chat local/extractive-standard", "infer", process),
    }
