"""Spans and metrics of OpenTelemetry for what a backend does: pip install 'agent-sql-sessions[opentelemetry]'.

Names are those of its semantic conventions for database clients, as far as these are stable
(https://opentelemetry.io/docs/specs/semconv/db/). No item, no message of an error and no id of a
session is in them.
"""

from __future__ import annotations

from time import time_ns

try:
    from opentelemetry import metrics, trace
except ImportError as exc:
    raise ImportError(
        "sessions.opentelemetry needs opentelemetry-api; "
        "install it with: pip install 'agent-sql-sessions[opentelemetry]'"
    ) from exc

from ._operation import Operation

_SCOPE = "agent-sql-sessions"

# In seconds, as the conventions advise for db.client.operation.duration.
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class Telemetry:
    """A hook for on_operation: a span for each operation, a child of the current one, and its duration as a metric.

    The providers are the global ones unless others are given. A span has the attributes db.system.name,
    db.operation.name and, after an error, error.type, which the histogram db.client.operation.duration
    has too; and of ours sessions.rows, sessions.bytes and sessions.attempts.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._durations = metrics.get_meter(_SCOPE, meter_provider=meter_provider).create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )

    def __call__(self, operation: Operation) -> None:
        """Record an operation that has just ended."""
        ended = time_ns()
        attributes = {"db.system.name": operation.dialect, "db.operation.name": operation.name}
        if operation.outcome != "ok":
            attributes["error.type"] = operation.outcome
        self._durations.record(operation.milliseconds / 1000, attributes)
        span = self._tracer.start_span(
            operation.name,
            # The conventions have INTERNAL for what is asked of no other process.
            kind=trace.SpanKind.INTERNAL if operation.dialect == "memory" else trace.SpanKind.CLIENT,
            attributes={
                **attributes,
                "sessions.rows": operation.rows,
                "sessions.bytes": operation.bytes,
                "sessions.attempts": operation.attempts,
            },
            start_time=ended - round(operation.milliseconds * 1_000_000),
        )
        if operation.outcome != "ok":
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended)
