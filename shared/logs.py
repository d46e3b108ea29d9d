"""Log lines as JSON on standard error, one object a line, with the ids that matter and no secret."""

import json
import logging
import sys
import time
from typing import Any

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
        if (second := int(record.created)) != self._second:
            self._second, self._time = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        fields: dict[str, Any] = {
            "time": f"{self._time}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = "\n".join(
                line for line in self.formatException(record.exc_info).splitlines() if not line.startswith(ROW_CONTENTS)
            )
        return self._encode(fields)


def configure(level: int = logging.INFO) -> None:
    """Send every logger's records to standard error as JSON."""
    # A line tells nothing of its caller, thread or task: looking for them is a third of its time ("Optimization" in the
    # documentation of logging).
    logging._srcfile = None  # noqa: SLF001
    for recorded in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, recorded, False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("psycopg").setLevel(logging.ERROR)


def info(event: str, **fields: object) -> None:
    """Log what happened."""
    _logger.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Log what went wrong and was dealt with."""
    _logger.warning(event, extra={"fields": fields})


def error(event: str, exception: BaseException | None = None, **fields: object) -> None:
    """Log a defect, with its stack trace."""
    _logger.error(event, exc_info=exception, extra={"fields": fields})
