"""One POST to the OpenAI-compatible endpoint of LITELLM_BASE_URL, whose failures are told apart by whether they may pass."""

import json
from http import HTTPStatus

from shared import telemetry
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import Settings
from shared.text import storable

ERROR_EXCERPT = 300


def endpoint(base_url: str) -> str:
    """Return the base URL of an OpenAI-compatible API, which ends with /v1 whether or not the given one does."""
    base = base_url.rstrip("/")
    return base if base.endswith("/v1") else f"{base}/v1"


async def post(
    path: str,
    body: dict[str, object],
    settings: Settings,
    *,
    timeout_seconds: float,
    named: str,
    unavailable: str,
    rejected: str,
) -> str:
    """Return the answer's text; `named` is what messages call the endpoint.

    Raises Problem `unavailable` when it cannot be reached, is too slow, busy or fails, and `rejected` when it refuses, with its
    status in `extra`.
    """
    from aiohttp import ClientError, ClientTimeout

    headers = {
        "Authorization": f"Bearer {settings.litellm_api_key.get_secret_value()}",
        "Content-Type": "application/json",
        **telemetry.headers(),
    }
    try:
        async with runtime.http().post(
            f"{endpoint(settings.litellm_base_url)}{path}",
            data=json.dumps(body, ensure_ascii=False).encode(),
            headers=headers,
            timeout=ClientTimeout(timeout_seconds),
        ) as response:
            status, text = response.status, await response.text(errors="replace")
    except (ClientError, TimeoutError, OSError) as error:
        raise Problem(unavailable, f"The {named} endpoint does not answer: {type(error).__name__}.") from error
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Problem(unavailable, f"The {named} endpoint answered {status}.")
    if status != HTTPStatus.OK:
        excerpt = storable(text[:ERROR_EXCERPT])
        raise Problem(rejected, f"The {named} endpoint answered {status}: {excerpt}", extra={"endpoint_status": status})
    return text
