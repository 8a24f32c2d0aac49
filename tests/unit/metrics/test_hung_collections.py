"""Callbacks of the application's own gauges that hang while metrics are collected."""

import threading

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View

from otel_coach.metrics import recorder as recorder_module
from otel_coach.metrics.catalogue import RATE_LIMIT_HITS, TOOL_LATENCY
from otel_coach.metrics.recorder import Recorder
from otel_coach.sdk.histogram_batches import Batch, batching
from tests.support.waiting import eventually


class Hanging:
    """A reader that collects in a thread of its own, until `let` is set."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.recorder = Recorder(self.provider.get_meter("test"))
        self.begun, self.let = threading.Event(), threading.Event()
        self.provider.get_meter("app").create_observable_gauge("app.gauge", [self._hang])
        self.found = []
        self.thread = threading.Thread(target=self._collect, daemon=True)

    def _hang(self, _options):
        self.begun.set()
        self.let.wait(60)
        return [Observation(1)]

    def _collect(self):
        with self.recorder.measured():
            self.found.append(self.hits())

    def hits(self):
        return sum(
            point.value
            for resource in self.reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "rate_limit.hits"
            for point in metric.data.data_points
        )


@pytest.fixture
def hanging():
    made = Hanging()
    made.recorder.record(RATE_LIMIT_HITS, 1, ("/before",))
    made.thread.start()
    assert made.begun.wait(60)
    yield made
    made.let.set()
    made.thread.join(60)
    made.recorder.close()


def test_what_is_recorded_meanwhile_is_added_up_and_not_piled_up(hanging):
    recorder = hanging.recorder
    for _ in range(1000):
        recorder.record(RATE_LIMIT_HITS, 1, ("/meanwhile",))
        recorder.flush()
    eventually(lambda: not recorder._queue)
    hanging.let.set()
    hanging.thread.join(60)
    assert hanging.found == [1]  # nothing was emitted during the collection
    recorder.flush_all()
    assert hanging.hits() == 1001


def test_neither_a_flush_of_all_nor_the_increments_wait_for_ever(hanging, monkeypatch):
    monkeypatch.setattr(recorder_module, "_MAX_COLLECTION", 0.05)
    recorder = hanging.recorder
    recorder.keep_increments()
    recorder.record(RATE_LIMIT_HITS, 2, ("/meanwhile",))
    recorder.flush_all()
    assert not recorder.take_increments()  # nothing is emitted during the collection
    assert hanging.thread.is_alive()
    hanging.let.set()
    hanging.thread.join(60)
    assert hanging.found == [1]
    recorder.flush_all()
    assert recorder.take_increments().counters
    assert hanging.hits() == 3


def test_what_waits_for_a_flush_ends_before_the_wait(hanging):
    ended = []
    hanging.recorder.later(lambda *span: ended.append(span), "span", "end")
    closing = threading.Thread(target=hanging.recorder.close)
    closing.start()
    eventually(lambda: ended)
    assert hanging.thread.is_alive()
    assert closing.is_alive()
    hanging.let.set()
    closing.join(60)


def test_increments_that_were_taken_rise_no_more(hanging):
    hanging.let.set()
    hanging.thread.join(60)
    recorder = hanging.recorder
    recorder.keep_increments()
    taken = recorder.take_increments()
    recorder.record(RATE_LIMIT_HITS, 2, ("/later",))
    recorder.flush_all()
    assert not taken
    assert recorder.take_increments().counters


def test_a_block_inside_a_block_ends_only_itself():
    made = Hanging()
    made.let.set()
    with made.recorder.flushed():
        with made.recorder.flushed():
            pass
        made.recorder.record(RATE_LIMIT_HITS, 1, ("/inside",))
        made.recorder.flush_all()
        assert made.hits() == 0
    made.recorder.flush_all()
    assert made.hits() == 1
    made.recorder.close()


def latencies(reader):
    return sum(
        point.count
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == TOOL_LATENCY.name
        for point in metric.data.data_points
    )


@pytest.mark.parametrize("batch", [Batch.of, None])
@pytest.mark.parametrize("count", [150, 999, 2500])
def test_a_histograms_values_wait_for_the_end_of_a_collection(batch, count):
    reader = InMemoryMetricReader()
    views = [View(instrument_name="*", aggregation=batching([reader]))] if batch else []
    provider = MeterProvider([reader], views=views, shutdown_on_exit=False)
    recorder = Recorder(provider.get_meter("test"), batch=batch)
    recorder.keep_increments()

    def records():
        for _ in range(count):
            recorder.record(TOOL_LATENCY, 0.3, ("tool", "ok"))
            recorder.flush()

    with recorder.measured():
        meanwhile = threading.Thread(target=records)
        meanwhile.start()
        meanwhile.join()
        # Without batches, only so many are kept: a collection may hang for ever.
        inside = latencies(reader)
        assert inside <= (0 if batch else max(0, count - 1000))
        assert len(recorder._queue) + len(recorder._aggregation._combined) <= 1100
    (series,) = recorder.take_increments().counts.values()
    assert sum(series) == count - inside  # what a collection may have read counts once
    assert latencies(reader) == count
    recorder.close()
