"""Whether the clocks of this machine and of what it talks to agree."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from infra.doctor.findings import Finding
from shared.oidc import LEEWAY_SECONDS

REMEDY = "Let all nodes keep their time by NTP (chrony, systemd-timesyncd), and look at both clocks with `date -u`"


def skew(name: str, theirs: datetime | None, *, whole_seconds: bool = False) -> list[Finding]:
    """Return what is wrong when another clock is further away than the leeway that tokens are given."""
    if theirs is None:
        return []
    seconds = abs((datetime.now(UTC) - theirs).total_seconds())
    if seconds <= LEEWAY_SECONDS + whole_seconds:
        return []
    told = f"that of {name} and that of this machine are {seconds:.0f} seconds apart: tokens end too early or too late"
    return [Finding("clock", told, REMEDY)]


def of_http(header: str | None) -> datetime | None:
    """Return the moment of a Date header; None where there is none that can be read."""
    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
