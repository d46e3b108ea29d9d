"""One event to the sink: CloudEvents' HTTP binding in binary mode, and what the answer means."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import ClientConnectorError, ClientError, ClientSession, ConnectionTimeoutError

from shared.text import storable

ENCODED = re.compile("[^!#$&-~]")
"""What no attribute in a header holds as it is (HTTP binding, 3.1.3.2): all but printable ASCII, and space, quote, percent."""
SAFE = "".join(map(chr, range(0x21, 0x7F))).translate({ord('"'): None, ord("%"): None})
TOKEN = Path("/oidc/token")
"""Where Knative mounts the relay's token for a sink that authenticates senders; it is renewed there."""
ACCEPTED = range(200, 300)
UNSENDABLE = 400
EXCERPT_CHARS = 500
"""So much of a refusal's body is kept."""


@dataclass(frozen=True)
class Outcome:
    """What became of one post of an event; the status is None when no answer came."""

    event: dict[str, Any]
    status: int | None
    error: str = ""
    retry_after: float | None = None
    reached: bool = True

    @property
    def accepted(self) -> bool:
        """Whether the sink has taken the event over."""
        return self.status in ACCEPTED

    def refusal(self) -> dict[str, object]:
        """Return what events.reject takes."""
        return {
            "seq": self.event["seq"],
            "attempt": self.event["attempt"],
            "status": self.status,
            "error": self.error,
            "retry_after": self.retry_after,
        }


def attributes(event: dict[str, Any], overrides: dict[str, str]) -> dict[str, str]:
    """Return an outbox event as the headers of CloudEvents' HTTP binding, binary mode."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(event["id"]),
        "ce-source": _encoded(event["source"]),
        "ce-type": event["type"],
        "ce-subject": _encoded(event["subject"]),
        "ce-time": event["created_at"].isoformat(),
        "content-type": "application/json",
    }
    extensions = {**event["extensions"], **overrides}
    return headers | {f"ce-{name}": _encoded(str(value)) for name, value in extensions.items()}


def _encoded(value: str) -> str:
    # Hardly any needs it, and looking is ten times quicker than quoting.
    return quote(value, safe=SAFE) if value and ENCODED.search(value) else value


def authorization() -> dict[str, str]:
    """Return the header by which a sink knows the relay, where it asks who sends."""
    try:
        return {"Authorization": f"Bearer {TOKEN.read_text().strip()}"}
    except FileNotFoundError:
        return {}


async def post(session: ClientSession, sink: str, event: dict[str, Any], overrides: dict[str, str]) -> Outcome:
    """Post an event; whatever happens is an outcome."""
    try:
        async with session.post(
            sink,
            data=event["data"].encode(),
            headers=attributes(event, overrides) | authorization(),
            allow_redirects=False,
        ) as response:
            if response.status in ACCEPTED:
                return Outcome(event, response.status)
            excerpt = storable((await response.text(errors="replace"))[:EXCERPT_CHARS])
            return Outcome(event, response.status, excerpt, seconds_to_wait(response.headers.get("Retry-After")))
    except (ClientConnectorError, ConnectionTimeoutError) as error:
        return Outcome(event, None, type(error).__name__, reached=False)
    except (ClientError, TimeoutError, OSError) as error:
        return Outcome(event, None, type(error).__name__)
    except ValueError as error:
        # An attribute that no header can carry: poison.
        return Outcome(event, UNSENDABLE, str(error))


def seconds_to_wait(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); None for none or nonsense."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
