"""Prometheus metrics. The client library is imported with the first value, not while a function starts."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@cache
def requests() -> "Counter":
    """Count HTTP requests by method and status."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_requests", "HTTP requests", ["method", "status"])


@cache
def frames() -> "Counter":
    """Count what WebSocket clients asked for, by the frame's type and the code of its problem, or `ok`."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_frames", "Frames of WebSocket clients", ["type", "code"])


@cache
def sockets() -> "Gauge":
    """Tell how many WebSockets are open."""
    from prometheus_client import Gauge

    return Gauge("enterprise_agent_sockets", "Open WebSockets")


@cache
def problems() -> "Counter":
    """Count failures by their stable code."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_problems", "Failures by stable code", ["code"])


@cache
def steps() -> "Histogram":
    """Measure the seconds that each step of a turn takes."""
    from prometheus_client import Histogram

    return Histogram("enterprise_agent_turn_step_seconds", "Duration of a turn's steps", ["step"], buckets=SECONDS)


@cache
def rate_limit_unchecked() -> "Counter":
    """Count requests let through because Redis did not answer."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_rate_limit_unchecked", "Requests whose rate could not be checked")


@cache
def refusals() -> "Counter":
    """Count requests that were turned away: kind login or access."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_refusals", "Refused logins and refused access", ["kind"])


def exposition() -> tuple[bytes, str]:
    """Return the metrics in Prometheus' text format, and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(), CONTENT_TYPE_LATEST
