"""sessions.opentelemetry: spans and metrics by the semantic conventions for database clients, without content."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import sessions
from sessions.opentelemetry import Telemetry
from support.samples import items

SECRET = "a secret"


class Collected:
    """A backend, and what it has told so far."""

    def __init__(self, url: str) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        telemetry = Telemetry(tracer_provider=self.tracers, meter_provider=meters)
        self.backend = sessions.connect(url, on_operation=telemetry, operation_ids=True)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    @property
    def points(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        [metric] = data.resource_metrics[0].scope_metrics[0].metrics
        assert (metric.name, metric.unit) == ("db.client.operation.duration", "s")
        return list(metric.data.data_points)


@pytest.fixture
def collected(sqlite_url: str) -> Iterator[Collected]:
    collected = Collected(sqlite_url)
    with collected.backend:
        yield collected


def test_an_operation_is_a_span_within_the_current_one(collected: Collected) -> None:
    with collected.tracers.get_tracer("application").start_as_current_span("turn") as turn:
        collected.backend.session("chat_1").add_items(items("a", "b"))
    span, _ = collected.spans
    assert span.parent == turn.get_span_context()
    assert (span.name, span.kind, span.status.status_code) == ("add_items", SpanKind.CLIENT, StatusCode.UNSET)
    attributes = dict(span.attributes or {})
    assert attributes.pop("sessions.bytes") == 2 * len('{"role":"user","content":"a"}')
    assert attributes == {
        "db.system.name": "sqlite",
        "db.operation.name": "add_items",
        "sessions.rows": 2,
        "sessions.attempts": 1,
    }


def test_a_span_lasts_as_long_as_its_operation(collected: Collected) -> None:
    with collected.tracers.get_tracer("application").start_as_current_span("turn"):
        collected.backend.session("chat_1").add_items(items("a"))
    span, turn = collected.spans
    assert span.start_time is not None
    assert span.end_time is not None
    assert turn.start_time is not None
    assert turn.start_time <= span.start_time < span.end_time


def test_durations_are_a_histogram_in_the_advised_buckets(collected: Collected) -> None:
    session = collected.backend.session("chat_1")
    session.add_items(items("a"))
    session.get_items()
    session.get_items()
    counts = {point.attributes["db.operation.name"]: point.count for point in collected.points}
    assert counts == {"add_items": 1, "get_items": 2}
    for point in collected.points:
        assert point.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
        assert 0 < point.sum < 60


def test_an_error_is_its_class_alone(collected: Collected) -> None:
    session = collected.backend.session(f"chat of {SECRET}")
    with pytest.raises(sessions.ConflictError, match=SECRET):
        session.add_items(items(SECRET), if_position=5)
    [span], [point] = collected.spans, collected.points
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == point.attributes["error.type"] == "ConflictError"
    assert SECRET not in span.to_json()


def test_memory_is_no_client() -> None:
    collected = Collected("memory:")
    collected.backend.session("chat_1").get_items()
    [span] = collected.spans
    assert span.kind is SpanKind.INTERNAL


def test_without_the_extra_the_import_names_it() -> None:
    program = "import sys; sys.modules['opentelemetry'] = None; import sessions.opentelemetry"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("install it with: pip install 'agent-sql-sessions[opentelemetry]'")
