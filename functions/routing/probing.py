"""The probe: models that were left alone after failures are asked for one token; the answer closes their breaker."""

import asyncio
import json
import time
from http import HTTPStatus

from shared import logs
from shared.events import Event, clock
from shared.model_endpoint import endpoint
from shared.runtime import runtime
from shared.settings import get_settings

TIMEOUT_SECONDS = 30.0
PROMPT = "Answer with OK."


@clock
async def probe(event: Event) -> None:
    """Probe the models whose rest is over; several at once, each by one process alone."""
    database = await runtime.database()
    due = await database.rows("routing.claim_probes")
    for model, error in await asyncio.gather(*(_ask(row["model"], row["endpoint"]) for row in due)):
        logs.info("model_probed", model=model, error=error, event_id=event.id)


async def _ask(model: str, base_url: str | None) -> tuple[str, str | None]:
    """Ask a model for one token and report how it went; return what went wrong."""
    from aiohttp import ClientError, ClientTimeout

    settings = get_settings()
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1}
    begun, error = time.perf_counter(), None
    try:
        async with runtime.http().post(
            f"{endpoint(base_url or settings.litellm_base_url)}/chat/completions",
            data=json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {settings.litellm_api_key.get_secret_value()}",
                "Content-Type": "application/json",
            },
            timeout=ClientTimeout(TIMEOUT_SECONDS),
        ) as response:
            if response.status != HTTPStatus.OK:
                error = f"HTTP {response.status}"
            await response.read()
    except (ClientError, TimeoutError, OSError) as failure:
        error = type(failure).__name__
    database = await runtime.database()
    milliseconds = (time.perf_counter() - begun) * 1000
    await database.call(
        "routing.report_probe", p_model=model, p_ok=error is None, p_latency_ms=milliseconds, p_error=error
    )
    return model, error
