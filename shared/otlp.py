"""The OpenTelemetry SDK, and its export by OTLP over gRPC. Imported by shared/telemetry.py alone, with the first span."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared import logs, metrics
from shared.settings import get_settings
from shared.telemetry import Kind, Span, Value

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

KINDS: Mapping[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
EXPORT_TIMEOUT_SECONDS = 3
LOG_SECONDS = 60.0
"""How often a collector that takes nothing is logged."""
CODE = "spans_not_exported"

_w3c = TraceContextTextMapPropagator()


class Recorded(Span):
    """A span that is recorded, and the current one until it ends."""

    def __init__(self, recorded: trace.Span) -> None:
        self._span = recorded

    def __enter__(self) -> "Self":
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        """End the span; an exception is its error, and that a task is cancelled is none."""
        if isinstance(error, Exception):
            self.fail(getattr(error, "code", type(error).__name__))
        self._span.end()
        context.detach(self._token)

    def set(self, attributes: Mapping[str, Value]) -> None:
        """Say more; what is None is left out."""
        self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def rename(self, name: str) -> None:
        """Call it what it turned out to be."""
        self._span.update_name(name)

    def fail(self, reason: str) -> None:
        """Say that it failed: a stable code, or the name of a class."""
        self._span.set_attribute("error.type", reason)
        self._span.set_status(StatusCode.ERROR)


class Exporter(SpanExporter):
    """The SDK's exporter; what it cannot send is lost, counted, and told once in a while."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._told_at = float("-inf")
        self._failing = False
        self.closing = False
        """At the end a collector that has just taken nothing is not asked again."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; called in the SDK's thread."""
        if not (self.closing and self._failing):
            self._failing = self._exporter.export(spans) is not SpanExportResult.SUCCESS
        if not self._failing:
            return SpanExportResult.SUCCESS
        metrics.problems().labels(CODE).inc(len(spans))
        if (now := time.monotonic()) >= self._told_at + LOG_SECONDS:
            self._told_at = now
            logs.warning(CODE, code=CODE, count=len(spans), endpoint=get_settings().otlp_endpoint)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()


@cache
def _process() -> tuple[TracerProvider, Exporter]:
    """Return what this process exports by."""
    # It tells of every batch that it cannot send, several times.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    settings = get_settings()
    service = os.environ.get("K_SERVICE") or os.environ.get("FUNCTION_TARGET") or "enterprise-agents"
    about = {"service.name": service, "deployment.environment.name": settings.environment}
    exporter = Exporter(OTLPSpanExporter(endpoint=settings.otlp_endpoint, timeout=EXPORT_TIMEOUT_SECONDS))
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider, exporter


def start(name: str, kind: Kind, attributes: Mapping[str, Value], parent: str | None) -> Recorded:
    """Begin a span; as shared.telemetry.span. A parent that is no traceparent is none (W3C Trace Context, section 3.2)."""
    inherited = None if parent is None else _w3c.extract({"traceparent": parent})
    provider, _ = _process()
    recorded = Recorded(provider.get_tracer("enterprise-agents").start_span(name, inherited, KINDS[kind]))
    recorded.set(attributes)
    return recorded


def headers() -> dict[str, str]:
    """Return the current span as headers of W3C Trace Context."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier


def close() -> None:
    """Send what is left and end; a later span begins anew."""
    if _process.cache_info().currsize:
        provider, exporter = _process()
        exporter.closing = True
        provider.shutdown()
        _process.cache_clear()
