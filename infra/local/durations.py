"""ISO 8601 durations, as Knative's delivery specs write them (`PT0.2S`, `PT10M`, `P1DT2H`)."""

from __future__ import annotations

import re

_DURATION = re.compile(
    r"P(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_SECONDS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def parse_duration(text: str) -> float:
    """Return the seconds of an ISO 8601 duration of days, hours, minutes and seconds.

    Raises ValueError for anything else, and for years, months and weeks, which have no use here.
    """
    match = _DURATION.fullmatch(text)
    parts = {} if match is None else {unit: value for unit, value in match.groupdict().items() if value}
    if not parts or text.endswith("T"):
        raise ValueError(f"not an ISO 8601 duration of days, hours, minutes and seconds: {text!r}")
    return sum(float(value) * _SECONDS[unit] for unit, value in parts.items())
