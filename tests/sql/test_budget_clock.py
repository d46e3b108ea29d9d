"""A budget's day and month are those of the tenant's time zone, through midnight, summer time and the turn of the year."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from tests.sql.budget_steps import assert_sound, limit, operator_of, reserve, set_clock, settle, told
from tests.sql.steps import refused
from tests.support import Caller, Database

MOMENT = timedelta(microseconds=1)
DAYS = [
    # zone, day, its first instant, the first instant after it, its hours
    ("Europe/Berlin", "2026-03-28", "2026-03-27 23:00Z", "2026-03-28 23:00Z", 24),
    ("Europe/Berlin", "2026-03-29", "2026-03-28 23:00Z", "2026-03-29 22:00Z", 23),
    ("Europe/Berlin", "2026-10-25", "2026-10-24 22:00Z", "2026-10-25 23:00Z", 25),
    ("Europe/Berlin", "2026-12-31", "2026-12-30 23:00Z", "2026-12-31 23:00Z", 24),
    ("America/New_York", "2026-03-08", "2026-03-08 05:00Z", "2026-03-09 04:00Z", 23),
    ("America/New_York", "2026-11-01", "2026-11-01 04:00Z", "2026-11-02 05:00Z", 25),
    ("Pacific/Apia", "2026-12-31", "2026-12-30 11:00Z", "2026-12-31 11:00Z", 24),
    ("Asia/Kolkata", "2028-02-29", "2028-02-28 18:30Z", "2028-02-29 18:30Z", 24),
    # Midnight does not exist, the day begins at one o'clock; and: midnight is there twice, and the day begins with the first.
    ("Africa/Cairo", "2026-04-24", "2026-04-23 22:00Z", "2026-04-24 21:00Z", 23),
    ("Atlantic/Azores", "2026-10-24", "2026-10-24 00:00Z", "2026-10-25 00:00Z", 24),
    ("Atlantic/Azores", "2026-10-25", "2026-10-25 00:00Z", "2026-10-26 01:00Z", 25),
    ("America/Havana", "2026-10-31", "2026-10-31 04:00Z", "2026-11-01 04:00Z", 24),
    ("America/Havana", "2026-11-01", "2026-11-01 04:00Z", "2026-11-02 05:00Z", 25),
]
MONTHS = [
    ("Europe/Berlin", "2026-03-01", "2026-02-28 23:00Z", "2026-03-31 22:00Z"),
    ("Europe/Berlin", "2026-10-01", "2026-09-30 22:00Z", "2026-10-31 23:00Z"),
    ("Europe/Berlin", "2026-12-01", "2026-11-30 23:00Z", "2026-12-31 23:00Z"),
    ("America/New_York", "2026-11-01", "2026-11-01 04:00Z", "2026-12-01 05:00Z"),
    ("Pacific/Apia", "2026-12-01", "2026-11-30 11:00Z", "2026-12-31 11:00Z"),
    ("Asia/Kolkata", "2028-02-01", "2028-01-31 18:30Z", "2028-02-29 18:30Z"),
    ("America/Havana", "2026-10-01", "2026-10-01 04:00Z", "2026-11-01 04:00Z"),
]
STARTS = "SELECT DISTINCT starts_on FROM budget.balances WHERE period = %s AND reserved > 0"


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def live_in(database: Database, tenant: UUID, zone: str) -> None:
    with database.connect() as operator:
        operator.run("UPDATE core.tenants SET time_zone = %s WHERE id = %s", [zone, tenant])


@pytest.fixture
def caller(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with operator_of(database, tenants[0]) as acting:
        yield acting


def resets_at(caller: Caller, period: str) -> datetime:
    return datetime.fromisoformat(caller.call("budget.status")[period]["resets_at"])


def starts_on(caller: Caller, period: str) -> date:
    """Return the first day of the period that a turn counts in now."""
    with caller.connection.transaction(force_rollback=True):
        caller.run("UPDATE budget.balances SET reserved = 0")
        reserve(caller, 1)
        found: date = caller.value(STARTS, [period])
    return found


@pytest.mark.parametrize(("zone", "day", "begins", "ends", "hours"), DAYS)
def test_a_day_lasts_from_the_zones_midnight_to_its_next(
    database: Database, tenants: Sequence[UUID], caller: Caller, zone: str, day: str, begins: str, ends: str, hours: int
) -> None:
    live_in(database, tenants[0], zone)
    first, after = datetime.fromisoformat(begins), datetime.fromisoformat(ends)
    assert after - first == timedelta(hours=hours)
    here = date.fromisoformat(day)
    for clock, expected in (
        (first - MOMENT, here - timedelta(days=1)),
        (first, here),
        (after - MOMENT, here),
        (after, here + timedelta(days=1)),
    ):
        set_clock(caller, clock)
        assert starts_on(caller, "day") == expected, clock
        assert (resets_at(caller, "day") == after) is (expected == here), clock


@pytest.mark.parametrize(("zone", "month", "begins", "ends"), MONTHS)
def test_a_month_lasts_from_the_zones_midnight_to_the_one_that_begins_the_next(
    database: Database, tenants: Sequence[UUID], caller: Caller, zone: str, month: str, begins: str, ends: str
) -> None:
    live_in(database, tenants[0], zone)
    first, after = datetime.fromisoformat(begins), datetime.fromisoformat(ends)
    here = date.fromisoformat(month)
    for clock, inside in ((first - MOMENT, False), (first, True), (after - MOMENT, True), (after, False)):
        set_clock(caller, clock)
        assert (starts_on(caller, "month") == here) is inside, clock
        assert (resets_at(caller, "month") == after) is inside, clock


@pytest.mark.parametrize(("zone", "day", "begins", "ends", "hours"), [case for case in DAYS if case[4] != 24])
def test_a_refusal_names_the_instant_at_which_the_next_turn_is_admitted(
    database: Database, tenants: Sequence[UUID], caller: Caller, zone: str, day: str, begins: str, ends: str, hours: int
) -> None:
    live_in(database, tenants[0], zone)
    limit(database, tenants[0], 10)
    set_clock(caller, begins)
    reserve(caller, 10)
    set_clock(caller, datetime.fromisoformat(begins) + timedelta(hours=hours) - MOMENT)
    with refused("EA004") as raised:
        reserve(caller, 1)
    members = told(raised.value)
    assert (members["starts_on"], members["period"]) == (day, "day")
    assert datetime.fromisoformat(members["resets_at"]) == datetime.fromisoformat(ends)
    set_clock(caller, members["resets_at"])
    reserve(caller, 10)
    assert_sound(database, tenants[0])


def test_a_limit_a_day_is_there_anew_each_day_and_the_months_counts_on(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    live_in(database, tenants[0], "Europe/Berlin")
    limit(database, tenants[0], 10)
    limit(database, tenants[0], 45, period="month")
    for day in (28, 29, 30):
        set_clock(caller, f"2026-03-{day} 12:00+02")
        reserve(caller, 10)
        with refused("EA004") as raised:
            reserve(caller, 10)
        assert told(raised.value)["period"] == "day"
    set_clock(caller, "2026-03-31 12:00+02")
    reserve(caller, 10)
    with refused("EA004") as raised:
        reserve(caller, 10)
    members = told(raised.value)
    assert (members["period"], members["remaining"], members["starts_on"]) == ("month", 5, "2026-03-01")
    set_clock(caller, "2026-04-01 00:00+02")
    reserve(caller, 10)
    assert_sound(database, tenants[0])


@pytest.mark.parametrize("scope", ["tenant", "user"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026-03-28 23:59:59.9+01", "2026-03-29 00:00:00.1+01"),
        ("2026-10-31 23:59:59.9+01", "2026-11-01 00:00:00.1+01"),
        ("2026-12-31 23:59:59.9+01", "2027-01-01 00:00:00.1+01"),
    ],
    ids=["midnight", "month's end", "year's end"],
)
def test_a_turn_is_settled_in_the_day_and_month_in_which_it_was_asked(
    database: Database, tenants: Sequence[UUID], caller: Caller, before: str, after: str, scope: str
) -> None:
    live_in(database, tenants[0], "Europe/Berlin")
    holder = tenants[0] if scope == "tenant" else caller.value("SELECT core.current_user_id()")
    limit(database, tenants[0], 100, scope=scope, holder=holder)
    set_clock(caller, before)
    turns = [reserve(caller, 40) for _ in range(2)]
    set_clock(caller, after)
    reserve(caller, 100)  # the new day owes the old one nothing
    assert settle(caller, turns[0], 10) == 10
    # Beyond what it held there is the old day's room, not the new one's.
    assert settle(caller, turns[1], 500) == 90
    days = caller.query(
        "SELECT starts_on, settled, reserved FROM budget.balances WHERE holder_id = %s AND period = 'day'"
        " AND settled + reserved > 0 ORDER BY 1",
        [holder],
    )
    assert days == [
        (datetime.fromisoformat(before).date(), 100, 0),
        (datetime.fromisoformat(after).date(), 0, 100),
    ]
    assert_sound(database, tenants[0])


def test_a_reservation_that_expires_after_midnight_is_given_back_to_its_own_day(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    set_clock(caller, "2026-01-31 23:59Z")
    reserve(caller, 40)
    set_clock(caller, "2026-02-01 00:01Z")
    reserve(caller, 7)
    caller.run("UPDATE budget.reservations SET expires_at = '2020-01-01' WHERE tokens = 40")
    assert caller.call("budget.expire")["count"] == 1
    assert caller.query("SELECT starts_on, reserved FROM budget.balances WHERE period = 'month' ORDER BY 1") == [
        (date(2026, 1, 1), 0),
        (date(2026, 2, 1), 7),
    ]
    assert_sound(database, tenants[0])


def test_a_tenant_that_moves_to_another_zone_takes_what_it_has_used_along(
    database: Database, tenants: Sequence[UUID], caller: Caller
) -> None:
    limit(database, tenants[0], 10)
    set_clock(caller, "2026-06-15 12:00Z")
    reserve(caller, 10)
    for zone in ("Asia/Kolkata", "America/New_York"):
        live_in(database, tenants[0], zone)
        with refused("EA004"):
            reserve(caller, 1)
    assert_sound(database, tenants[0])


def test_the_functions_role_cannot_move_the_clock(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        set_clock(app, "2020-01-01 12:00Z")
        app.call("chat.begin_turn", p_message="How much?", p_max_tokens=100)
        assert app.value("SELECT count(*) FROM budget.balances WHERE starts_on < '2021-01-01'") == 0
        assert resets_at(app, "day") > datetime.fromisoformat("2021-01-01 00:00Z")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.call("budget.clock")
