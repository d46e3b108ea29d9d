"""Log lines as JSON on standard error, one object a line, with the ids that matter and no secret."""

import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

ROW_CONTENTS = ("DETAIL:", "CONTEXT:")
"""Lines of PostgreSQL's errors that may quote what people wrote."""
_logger = logging.getLogger("platform")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time (RFC 3339, UTC), level, event, then the fields."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(default=str).encode
        self._second, self._time = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = getattr(record, "fields", {})
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            fields = {**fields, "exception": "\n".join(line for line in lines if not line.startswith(ROW_CONTENTS))}
        return self.line(record.created, record.levelname.lower(), record.getMessage(), fields)

    def line(self, created: float, level: str, event: str, fields: Mapping[str, object]) -> str:
        """Return the line of what happened at a time (seconds since 1970)."""
        if (second := int(created)) != self._second:
            self._second, self._time = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        moment = f"{self._time}.{int(created * 1000) % 1000:03d}Z"
        return self._encode({"time": moment, "level": level, "event": event, **fields})


_direct: JsonFormatter | None = None
"""Set where all that is logged goes to standard error: what happened is then written without a record of it being made, which
took half the time."""


def configure(level: int = logging.INFO) -> None:
    """Send every logger's records to standard error as JSON."""
    global _direct  # noqa: PLW0603 - a process has one
    formatter = JsonFormatter()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    _direct = formatter if level <= logging.INFO else None
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def info(event: str, **fields: object) -> None:
    """Log what happened."""
    if _direct is None:
        _logger.info(event, extra={"fields": fields})
        return
    # As logging has it: a line that cannot be written is no fault of what it tells of.
    with suppress(Exception):
        sys.stderr.write(_direct.line(time.time(), "info", event, fields) + "\n")


def warning(event: str, **fields: object) -> None:
    """Log what went wrong and was dealt with."""
    _logger.warning(event, extra={"fields": fields})


def error(event: str, exception: BaseException | None = None, **fields: object) -> None:
    """Log a defect, with its stack trace."""
    _logger.error(event, exc_info=exception, extra={"fields": fields})
