"""Embeddings for clients: by the platform's own embedding model, within the same budgets."""

import base64
import json
import struct
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.openai_api.models import Embeddings
from shared import embeddings
from shared.access import admitted
from shared.http import read_json
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import get_settings
from shared.text import is_storable

MAX_BODY_BYTES = 16 * 1024 * 1024
TIMEOUT_SECONDS = 60.0


async def create(request: Request) -> Response:
    """Embed texts: reserve their tokens, ask the endpoint, settle what it counted."""
    body = await read_json(request, Embeddings, MAX_BODY_BYTES)
    settings, principal = get_settings(), admitted(request).principal
    texts = [body.input] if isinstance(body.input, str) else body.input
    model = await embeddings.active_model()
    if body.model not in (None, model.name):
        raise Problem("no_model", f"Embeddings are made by {model.name}.")
    if body.dimensions not in (None, model.width):
        raise Problem("invalid_request", f"dimensions: the model's vectors have {model.width}.")
    if not all(text and is_storable(text) for text in texts):
        raise Problem("invalid_request", "input: no text may be empty, or contain NUL characters or lone surrogates.")
    database = await runtime.database()
    held = await database.call_releasing_early("budget.reserve_embedding", principal, p_texts=texts, p_model=model.name)
    text, answer = None, None
    try:
        text = await embeddings.request(texts, model, settings, TIMEOUT_SECONDS)
        answer = json.loads(text)
        data = [_item(item, body.encoding_format) for item in answer["data"]]
        if len(data) != len(texts):
            raise ValueError(len(data))
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise Problem("embedding_rejected", embeddings.NOT_UNDERSTOOD) from error
    finally:
        used = await database.call_releasing_early(
            "budget.settle_embedding",
            principal,
            p_id=held["id"],
            p_tokens=0 if text is None else embeddings.counted(answer),
        )
    return JSONResponse(
        {
            "object": "list",
            "data": data,
            "model": model.name,
            "usage": {"prompt_tokens": used, "total_tokens": used},
        }
    )


def _item(item: dict[str, Any], encoding: str | None) -> dict[str, Any]:
    vector = item["embedding"]
    if encoding == "base64":
        vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return {"object": "embedding", "index": item["index"], "embedding": vector}
