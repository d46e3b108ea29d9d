"""Cron schedules of five fields, as a PingSource has them: minute, hour, day of month, month, day of week."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from datetime import datetime

_RANGES = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is due, to the minute.

    Fields hold `*`, numbers, ranges `a-b`, steps `*/n` or `a-b/n`, and lists of these. As in cron(8), a day
    is due by day of month or by day of week when both are restricted. Names (`MON`, `@hourly`) are not read.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    any_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a schedule; raises ValueError that names the field that cannot be read."""
        fields = text.split()
        if len(fields) != len(_RANGES):
            raise ValueError(f"a schedule has five fields (minute hour day month weekday): {text!r}")
        minutes, hours, days, months, weekdays = (
            _parse_field(field, name, low, high) for field, (name, low, high) in zip(fields, _RANGES, strict=True)
        )
        return cls(
            minutes=minutes,
            hours=hours,
            days=days,
            months=months,
            weekdays=weekdays,
            any_day=fields[2].startswith("*"),
            any_weekday=fields[4].startswith("*"),
        )

    def due(self, moment: datetime) -> bool:
        """Whether the minute of `moment` is one of the schedule's."""
        if moment.minute not in self.minutes or moment.hour not in self.hours or moment.month not in self.months:
            return False
        by_day = moment.day in self.days
        by_weekday = moment.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return by_day and by_weekday
        return by_day or by_weekday


def _parse_field(field: str, name: str, low: int, high: int) -> frozenset[int]:
    values: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, dash, last = span.partition("-")
        try:
            if span == "*":
                start, end = low, high
            else:
                start = int(first)
                end = int(last) if dash else (high if step else start)
            stride = int(step) if step else 1
        except ValueError as error:
            raise ValueError(f"cannot read {item!r} as {name} of a schedule") from error
        if not (low <= start <= end <= high) or stride < 1:
            raise ValueError(f"{item!r} is no {name} of a schedule ({low} to {high})")
        values.update(range(start, end + 1, stride))
    return frozenset(values)
