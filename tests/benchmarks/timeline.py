"""When a turn passed which point, told by the database of a throw-away stack.

The moments are PostgreSQL's (microseconds). The broker keeps no times; that it has an event shows when the relay,
told so, deletes it from the outbox. A trigger of this benchmark records that: nothing of the turn waits for it.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID

SERVER_SETTINGS = {"track_commit_timestamp": "on"}

_WATCH = """
CREATE SCHEMA benchmark;
CREATE TABLE benchmark.accepted (turn_id text PRIMARY KEY, at timestamptz NOT NULL);
CREATE FUNCTION benchmark.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO benchmark.accepted VALUES (old.subject, clock_timestamp()) ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;
CREATE TRIGGER benchmark_note AFTER DELETE ON events.outbox FOR EACH ROW EXECUTE FUNCTION benchmark.note();
"""

_MOMENTS = """
SELECT pg_xact_commit_timestamp(m.xmin), a.at, t.started_at, t.finished_at IS NOT NULL
FROM chat.turns AS t
JOIN chat.messages AS m ON m.tenant_id = t.tenant_id AND m.turn_id = t.id AND m.role = 'user'
LEFT JOIN benchmark.accepted AS a ON a.turn_id = t.id::text
WHERE t.id = %s
"""

_POLL_SECONDS = 0.02
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Moments:
    """Seconds since 1970: the job is committed, the broker has its event, a worker has claimed it."""

    committed: float
    accepted: float
    claimed: float


class Observer:
    """The superuser's view of the turns."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def of(cls, url: str) -> Iterator[Observer]:
        """Yield an observer, with its trigger in place."""
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute(_WATCH)
            yield cls(connection)

    def wait_for_end(self, turn_id: UUID | str) -> Moments:
        """Wait until the turn has ended, and return its moments; raises TimeoutError."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            row = self._connection.execute(_MOMENTS, [turn_id]).fetchone()
            if row is not None and None not in row and row[3]:
                return Moments(*(_seconds(moment) for moment in row[:3]))
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"turn {turn_id} did not end within {_TIMEOUT_SECONDS:g} s")

    def prompt(self, tenant_id: UUID, turn_id: str) -> list[dict[str, str]]:
        """Return the messages that the model was given for a turn."""
        with self._connection.transaction():
            self._connection.execute("SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id)])
            [messages] = self._connection.execute("SELECT chat.prompt(%s)", [turn_id]).fetchall()[0]
        return list(messages)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
