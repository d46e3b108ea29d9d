"""Prometheus metrics. The client library is imported with the first value, not while a function starts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram
    from prometheus_client.core import Metric

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
def turns() -> "Counter":
    """Count turns that this process has ended, by their outcome: completed, stopped or failed."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_turns", "Turns that have ended", ["outcome"])


@cache
def steps() -> "Histogram":
    """Measure the seconds that each step of a turn takes."""
    from prometheus_client import Histogram

    return Histogram("enterprise_agent_turn_step_seconds", "Duration of a turn's steps", ["step"], buckets=SECONDS)


@cache
def step(name: str) -> "Histogram":
    """Measure the seconds that one step of a turn takes."""
    return steps().labels(name)


@cache
def rate_limit_unchecked() -> "Counter":
    """Count requests let through because Redis did not answer."""
    from prometheus_client import Counter

    return Counter("enterprise_agent_rate_limit_unchecked", "Requests whose rate could not be checked")


@cache
def refusals() -> "Counter":
    """Count requests that were turned away: kind login, access or residency."""
    from prometheus_client import Counter

    return Counter(
        "enterprise_agent_refusals", "Refused logins, refused access, and requests of other regions' tenants", ["kind"]
    )


@dataclass(frozen=True)
class Sample:
    """A value that is measured elsewhere: in the database, or by a library."""

    name: str
    """Without the `_total` of a counter."""
    meaning: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["gauge", "counter"] = "gauge"


_kept: dict[str, tuple[Sample, ...]] = {}


def keep(subject: str, samples: Iterable[Sample]) -> None:
    """Have samples exported with this process's own metrics, in place of those that were kept of the subject before."""
    _kept[subject] = tuple(samples)


WATCHED_PROBLEMS = ("budget_exceeded", "database_unavailable", "internal_error", "refusal_unaudited")
OUTCOMES = ("completed", "stopped", "failed")


@cache
def _begin() -> None:
    """Have what alerts watch begin at 0: an increase is measured from a sample that was there before it."""
    for code in WATCHED_PROBLEMS:
        problems().labels(code)
    for outcome in OUTCOMES:
        turns().labels(outcome)
    for kind in ("login", "access"):
        refusals().labels(kind)
    rate_limit_unchecked()


class _Given:
    """Samples in the shape of the library's registry."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> "Iterator[Metric]":
        """Return the samples, those of one name together."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for sample in self._samples:
            made = CounterMetricFamily if sample.kind == "counter" else GaugeMetricFamily
            family = families.setdefault(sample.name, made(sample.name, sample.meaning, labels=list(sample.labels)))
            family.add_metric(list(sample.labels.values()), sample.value)
        return iter(families.values())


def exposition(samples: Iterable[Sample] = ()) -> tuple[bytes, str]:
    """Return the metrics, and samples measured just now, in Prometheus' text format, and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    _begin()
    return generate_latest() + generate_latest(_Given(chain(samples, *_kept.values()))), CONTENT_TYPE_LATEST
