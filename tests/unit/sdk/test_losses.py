"""What is lost on its way is counted: received and lost make what was made, to the span.

The truth is a receiver's own ledger: real OTLP over loopback, by HTTP and by gRPC, which is slow,
refuses, or hangs.
"""

import itertools
import threading
import time

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_coach.metrics.measurement_queue import MeasurementQueue
from otel_coach.sdk.losses import Losses
from otel_coach.sdk.providers import Providers
from otel_coach.sdk.queues import CountedSpans
from otel_coach.settings import Settings
from tests.support.losses import KINDS, RECEIVERS, lost, make_spans, providers, spans_of
from tests.support.otlp import Receiver
from tests.support.waiting import eventually

REFUSED = 400
"""A status that no exporter tries again."""


class Every:
    """Refuses each n-th request, and is slow."""

    def __init__(self, refuses=0, seconds=0.0):
        self._refuses, self._seconds = refuses, seconds
        self._count = itertools.count(1)

    def __call__(self, path, body):
        time.sleep(self._seconds)
        return REFUSED if self._refuses and next(self._count) % self._refuses == 0 else 200


SPANS = Settings(trace_exporters=("otlp",), span_queue=600)


@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_a_queue_that_is_shorter_than_the_sdks_batches_is_used(signal, monkeypatch):
    settings = Settings(
        trace_exporters=("otlp",) * (signal == "traces"),
        log_exporters=("otlp",) * (signal == "logs"),
        span_queue=20,
        log_queue=20,
    )
    with Receiver() as receiver, providers(settings, receiver.endpoint, monkeypatch) as of:
        if signal == "traces":
            make_spans(of, 10)
        else:
            of.logger_provider.get_logger("x").emit(LogRecord(body="hi"))
        of.flush(30)
        assert [path for path, _ in receiver.requests] == [f"/v1/{signal}"]


@pytest.mark.parametrize("protocol", RECEIVERS)
@pytest.mark.parametrize(
    ("slow", "refuses"), [(0.05, 0), (0, 3), (0.05, 2)], ids=["slow", "refusing", "both"]
)
def test_spans_received_and_lost_are_those_made(protocol, slow, refuses, monkeypatch):
    made = 20_000 if slow else 6_000  # more than a slow one takes meanwhile
    settings = Settings(
        trace_exporters=("otlp",),
        otlp_traces_protocol=protocol,
        span_queue=600 if slow else made,
    )
    with (
        RECEIVERS[protocol](Every(refuses, slow)) as receiver,
        providers(settings, receiver.endpoint, monkeypatch) as of,
    ):
        assert lost(of) == dict.fromkeys(KINDS, 0)
        make_spans(of, made)
        of.flush(60)
        received = [name for path, body in receiver.requests for name in spans_of(body)]
        refused = [name for path, body in receiver.refused for name in spans_of(body)]
        counted = lost(of)
    assert len(set(received + refused)) == len(received) + len(refused)
    assert counted["spans_export"] == len(refused)
    assert counted["spans_queue_full"] == made - len(received) - len(refused)
    assert bool(refused) == bool(refuses)
    assert (counted["spans_queue_full"] > 0) == bool(slow)
    assert counted["metrics_export"] == counted["logs_export"] == 0


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_what_was_not_confirmed_when_the_process_ends_is_lost(protocol, monkeypatch):
    gate, hangs = threading.Event(), threading.Event()

    def hang_later(_path, _body):
        if hangs.is_set():
            gate.wait(30)
        return 200

    settings = Settings(trace_exporters=("otlp",), otlp_traces_protocol=protocol, span_queue=5000)
    with (
        RECEIVERS[protocol](hang_later) as receiver,
        providers(settings, receiver.endpoint, monkeypatch) as of,
    ):
        make_spans(of, 1000)
        of.flush(10)
        hangs.set()
        make_spans(of, 2000)
        counted = {}
        started = time.monotonic()
        of.shutdown(1, before_the_last_push=lambda: counted.update(lost(of)))
        assert time.monotonic() - started < 2
        assert sum(len(spans_of(body)) for _, body in receiver.requests) == 1000
        assert counted["spans_export"] == 2000
        assert counted["spans_queue_full"] == 0
        gate.set()


def test_spans_that_end_after_the_exporter_has_stopped_are_lost(monkeypatch):
    with Receiver() as receiver, providers(SPANS, receiver.endpoint, monkeypatch) as of:
        make_spans(of, 40)
        of.tracer_provider.shutdown()
        make_spans(of, 20)
        assert lost(of)["spans_export"] == 20
        assert sum(len(spans_of(body)) for _, body in receiver.requests) == 40


def test_a_full_queue_is_said_once_a_minute(monkeypatch, caplog):
    gate = threading.Event()
    with (
        Receiver(lambda *_: gate.wait(30) and 200) as receiver,
        providers(SPANS, receiver.endpoint, monkeypatch) as of,
    ):
        make_spans(of, 4000)
        assert lost(of)["spans_queue_full"] > 2000
        gate.set()
    (said,) = [r.getMessage() for r in caplog.records if "queue" in r.getMessage()]
    assert "OTEL_BSP_MAX_QUEUE_SIZE" in said
    assert "otel_coach_lost_total" in said


@pytest.mark.parametrize("raised", [OSError, SystemExit, KeyboardInterrupt])
def test_an_exporter_that_raises_loses_its_batch_and_nothing_after_it(raised):
    class Once(SpanExporter):
        got = 0

        def export(self, spans):
            if not self.got:
                self.got = 1
                raise raised
            self.got += len(spans)
            return SpanExportResult.SUCCESS

        def shutdown(self):
            pass

    of = Providers(Settings())
    losses = Losses(of.budgets.queue, span_slots=2000, log_slots=1)
    exporter = Once()
    try:
        with_processor = Providers(Settings(), [CountedSpans(exporter, losses)])
        make_spans(with_processor, 600, threads=1)
        eventually(lambda: lost(of)["spans_export"])
        make_spans(with_processor, 1200, threads=1)
        with_processor.shutdown(5)
        assert exporter.got - 1 + lost(of)["spans_export"] == 1800
        assert lost(of)["spans_export"] >= 512
        assert exporter.got > 1000
    finally:
        of.shutdown()


def test_an_environment_that_changes_after_the_start_moves_no_exporter(monkeypatch):
    with Receiver() as receiver, providers(SPANS, receiver.endpoint, monkeypatch) as of:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
        make_spans(of, 8)
        of.flush()
        assert sum(len(spans_of(body)) for _, body in receiver.requests) == 8


def test_points_of_a_push_that_fails_are_lost(monkeypatch):
    def points(requests):
        return sum(
            len(metric.sum.data_points or metric.gauge.data_points or metric.histogram.data_points)
            for path, body in requests
            for of in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in of.scope_metrics
            for metric in scope.metrics
        )

    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    settings = Settings(metric_exporters=("prometheus", "otlp"))
    with (
        Receiver(Every(refuses=2)) as receiver,
        providers(settings, receiver.endpoint, monkeypatch) as of,
    ):
        of.serves = True
        of.recorder.flush_all()
        eventually(lambda: len(receiver.refused) > 4)
        # No more pushes, so that the figures stand still; the last one may fail, too.
        (reader,) = of._push_readers
        reader.shutdown()
        assert points(receiver.requests) > 0
        assert lost(of)["metrics_export"] == points(receiver.refused) > 0


@pytest.mark.parametrize("refuses", [0, 2])
def test_log_records_received_and_lost_are_those_made(refuses, monkeypatch):
    made = 8000
    settings = Settings(log_exporters=("otlp",), log_queue=600)
    with (
        Receiver(Every(refuses, 0.05)) as receiver,
        providers(settings, receiver.endpoint, monkeypatch) as of,
    ):
        logger = of.logger_provider.get_logger("app")
        for number in range(made):
            logger.emit(LogRecord(body=f"{number}", timestamp=1))
        of.flush(60)
        received = sum(
            len(scope.log_records)
            for _, body in receiver.requests
            for of_one in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in of_one.scope_logs
        )
        assert 0 < received < made
        assert received + lost(of)["logs_export"] == made


@pytest.mark.parametrize("how", ["flush", "shutdown"])
def test_an_exporter_that_hangs_keeps_no_other_of_its_signal_from_exporting(how, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # not by themselves
    released = threading.Event()

    class Hangs(SpanExporter):
        def export(self, spans):
            released.wait(60)
            return SpanExportResult.FAILURE

    healthy = InMemorySpanExporter()
    losses = Losses(MeasurementQueue(), span_slots=600, log_slots=1)
    processors = [CountedSpans(Hangs(), losses), CountedSpans(healthy, losses)]
    of = Providers(Settings(), processors)
    for _ in range(5):
        of.tracer_provider.get_tracer("app").start_span("work").end()
    try:
        getattr(of, how)(0.2)
        eventually(lambda: len(healthy.get_finished_spans()) == 5)
    finally:
        released.set()
        of.shutdown(0.1)
