from datetime import UTC, datetime

import pytest

from infra.local.cron import Schedule

MONDAY = datetime(2026, 11, 23, 14, 30, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "due"),
    [
        ("* * * * *", True),
        ("*/15 * * * *", True),
        ("*/7 * * * *", False),
        ("10/20 * * * *", True),
        ("30 14 * * *", True),
        ("30 15 * * *", False),
        ("0-29,31-59 * * * *", False),
        ("20-40/10 * * * *", True),
        ("* * 23 11 *", True),
        ("* * 23 12 *", False),
        ("* * * * 1", True),
        ("* * * * 0", False),
        ("* * * * 1-5", True),
    ],
)
def test_schedule_is_due_in_the_minutes_of_its_fields(schedule: str, *, due: bool) -> None:
    assert Schedule.parse(schedule).due(MONDAY) is due


@pytest.mark.parametrize(
    ("schedule", "due"), [("* * 1 * 1", True), ("* * 23 * 0", True), ("* * 1 * 0", False), ("* * */2 * 1", True)]
)
def test_a_restricted_day_of_month_or_weekday_suffices_when_both_are_given(schedule: str, *, due: bool) -> None:
    assert Schedule.parse(schedule).due(MONDAY) is due


def test_sunday_is_day_zero() -> None:
    assert Schedule.parse("* * * * 0").due(datetime(2026, 11, 22, 0, 0, tzinfo=UTC))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("* * * *", "five fields"),
        ("@every 10s", "five fields"),
        ("@hourly", "five fields"),
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of month"),
        ("* * * 13 *", "month"),
        ("* * * * MON", "day of week"),
        ("*/0 * * * *", "minute"),
        ("40-20 * * * *", "minute"),
        ("1, * * * *", "minute"),
    ],
)
def test_a_schedule_that_cannot_be_read_names_its_field(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule.parse(schedule)
