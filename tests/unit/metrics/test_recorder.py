import gc
import logging
import math
import threading
import time

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_coach.core.guard import guarded
from otel_coach.metrics.cardinality import Budgets
from otel_coach.metrics.catalogue import (
    ERRORS,
    LABEL_OVERFLOW,
    RATE_LIMIT_HITS,
    TOOL_CALLS,
    TOOL_LATENCY,
)
from otel_coach.metrics.labels import TOOL_NAME
from otel_coach.metrics.recorder import Recorder
from otel_coach.testing import measuring
from otel_coach.views import build_views
from tests.support.waiting import eventually


class Metrics:
    def __init__(self, **budgets):
        self._reader = InMemoryMetricReader()
        provider = MeterProvider([self._reader], views=build_views(), shutdown_on_exit=False)
        self.meter = provider.get_meter("test")
        self.budgets = Budgets(budgets)
        self.recorder = Recorder(self.meter, self.budgets)

    def data(self):
        return {
            found.name: found.data.data_points
            for resource in self._reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
        }

    def points(self, metric):
        self.recorder.flush_all()
        return {
            tuple(point.attributes[label] for label in metric.labels): point.value
            for point in self.data().get(metric.name, ())
        }


@pytest.fixture
def metrics():
    made = Metrics(endpoint=3)
    yield made
    made.recorder.close()


def test_values_past_the_budget_become_other_and_the_sum_stays(metrics, caplog):
    for number in range(10):
        metrics.recorder.record(RATE_LIMIT_HITS, 1, (f"/route/{number}",))
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route/0",))
    points = metrics.points(RATE_LIMIT_HITS)
    assert points == {("/route/0",): 2, ("/route/1",): 1, ("/route/2",): 1, ("other",): 7}
    assert metrics.points(LABEL_OVERFLOW)["endpoint",] == 7
    assert [record.message for record in caplog.records if "endpoint" in record.message] != []
    assert len(caplog.records) == 1
    assert "OTEL_COACH_BUDGET_ENDPOINT" in caplog.text


def test_values_of_our_own_take_nobodys_place_in_a_budget(metrics):
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("unmatched",))
    for number in range(3):
        metrics.recorder.record(RATE_LIMIT_HITS, 1, (f"/route/{number}",))
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("unmatched",))
    assert "other" not in {endpoint for (endpoint,) in metrics.points(RATE_LIMIT_HITS)}


@pytest.mark.parametrize("value", ["x" * 1_000_000, "\ud800", object(), None, 7, b"bytes", ""])
def test_any_value_gives_a_bounded_label(metrics, value):
    metrics.recorder.record(RATE_LIMIT_HITS, 1, (value,))
    ((label,),) = metrics.points(RATE_LIMIT_HITS)
    assert isinstance(label, str)
    assert len(label.encode()) <= 200


def test_a_value_that_cannot_be_shown_costs_only_itself(metrics):
    class Unprintable:
        def __str__(self):
            raise RuntimeError

    metrics.recorder.record(RATE_LIMIT_HITS, 1, (Unprintable(),))
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/fine",))
    metrics.recorder.record(RATE_LIMIT_HITS, 1, (10**5000,))
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/fine",))
    assert metrics.points(RATE_LIMIT_HITS) == {("/fine",): 2, ("other",): 2}


class Host:
    def __init__(self, recorder):
        self.recorder = recorder

    @guarded
    def hook(self, fault):
        raise fault


def test_a_fault_of_ours_is_swallowed_counted_and_logged_once_without_its_message(metrics, caplog):
    host = Host(metrics.recorder)
    for _ in range(5):
        assert host.hook(KeyError("a secret prompt")) is None
    assert metrics.points(ERRORS)["LookupError",] == 5
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Host.hook" in record.getMessage()
    assert "test_recorder.py:" in record.getMessage()
    assert "secret" not in caplog.text


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_cancellation_is_not_ours_to_swallow(metrics, fault):
    with pytest.raises(type(fault)):
        Host(metrics.recorder).hook(fault)


def test_a_finaliser_may_record_in_the_middle_of_settling(metrics):
    """With a plain lock taken in the callback this would hang for ever."""
    recorder = metrics.recorder

    class Dropped:
        def __init__(self):
            self.itself = self  # only the garbage collector can end it

        def __del__(self):
            recorder.record(TOOL_CALLS, 1, ("dropped", "aborted", ""))
            recorder.flush()

    def work():
        for _ in range(300):
            Dropped()
            recorder.record(TOOL_CALLS, 1, ("kept", "ok", ""))
            recorder.flush()

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "deadlock"
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert metrics.points(TOOL_CALLS) == {
        ("dropped", "aborted", ""): 1200,
        ("kept", "ok", ""): 1200,
    }


def test_closing_leaves_no_trace_in_the_interpreter():
    before = list(gc.callbacks)
    metrics = Metrics()
    assert gc.callbacks != before
    metrics.recorder.close()
    assert gc.callbacks == before


def test_the_view_strips_what_is_no_label(metrics):
    metrics.meter.create_counter("host.orders").add(1, {"endpoint": "/buy", "user_id": "u1"})
    data = metrics._reader.get_metrics_data()
    (point,) = (
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for found in scope.metrics
        if found.name == "host.orders"
        for point in found.data.data_points
    )
    assert dict(point.attributes) == {"endpoint": "/buy"}


def test_what_is_finished_reaches_the_api_by_itself_within_a_moment(metrics):
    added = []
    metrics.recorder._instruments[RATE_LIMIT_HITS] = lambda *what: added.append(what)
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
    metrics.recorder.flush()
    eventually(lambda: added)


def test_a_trickle_wakes_one_thread_once_a_second(metrics, monkeypatch):
    """Each time costs the service the state of its caches, whatever little is to be done."""
    woken, emitted, sent = [], [], []
    settle = metrics.recorder._delayed._function
    monkeypatch.setattr(metrics.recorder._delayed, "_function", lambda: woken.append(1) or settle())
    monkeypatch.setitem(
        metrics.recorder._instruments, RATE_LIMIT_HITS, lambda *what: emitted.append(what)
    )
    began = time.monotonic()
    while (took := time.monotonic() - began) < 3.3:
        metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
        metrics.recorder.flush()
        sent.append(1)
        time.sleep(0.02)
    assert 2 <= len(woken) <= took
    assert len(emitted) <= 1  # the others wait for a reader
    metrics.recorder.flush_all()
    assert sum(value for value, *_ in emitted) == len(sent)
    woken.clear()
    time.sleep(2.2)  # after the last, once more, and then never
    assert len(woken) <= 1


def test_many_facts_are_added_up_where_the_last_one_came_and_handed_on_elsewhere(metrics):
    handed_on = []
    metrics.recorder.flush_all()
    metrics.recorder._instruments[RATE_LIMIT_HITS] = lambda value, *_: handed_on.append(
        (value, threading.current_thread().name)
    )
    metrics.recorder._emitted = -math.inf  # the last reader came long ago
    for _ in range(1000):
        metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
        metrics.recorder.flush()
        assert len(metrics.recorder._queue) <= 100
    eventually(lambda: sum(value for value, _ in handed_on) == 1000)
    assert {name for _, name in handed_on} == {"otel-coach-flush"}
    assert len(handed_on) < 10


def test_without_a_thread_all_is_settled_at_once(metrics, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
    metrics.recorder.flush()
    assert not metrics.recorder._queue


def test_a_settling_thread_survives_whatever_fails_in_it(metrics, monkeypatch):
    def panicking(**_):
        raise BaseException("panic")  # noqa: TRY002 - as an extension's panic would be

    with monkeypatch.context() as broken:
        broken.setattr(metrics.recorder, "_empty", panicking)
        metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
        metrics.recorder.flush()
        eventually(lambda: metrics.recorder._faults._logged)
    metrics.recorder.flush()
    eventually(lambda: not metrics.recorder._queue)
    assert metrics.points(RATE_LIMIT_HITS) == {("/route",): 1}


def test_counters_settled_together_add_up_as_one_by_one(metrics):
    values = [1, 2.5, 0, 10**9, 0.1]
    for value in values * 100:
        metrics.recorder.record(RATE_LIMIT_HITS, value, ("/route",))
    assert metrics.points(RATE_LIMIT_HITS)["/route",] == pytest.approx(100 * sum(values))


def test_increments_include_what_the_background_thread_has_added_up_but_not_emitted(metrics):
    recorder = metrics.recorder
    recorder.keep_increments()
    recorder.flush_all()
    recorder.take_increments()
    for _ in range(2):
        recorder.record(RATE_LIMIT_HITS, 1, ("/slow",))
        recorder._flush_delayed()  # too soon after the last emission
    assert not recorder._queue
    assert recorder.take_increments().counters == {(RATE_LIMIT_HITS, ("/slow",)): 2}
    assert not recorder.take_increments()


def flushing_threads():
    return {thread for thread in threading.enumerate() if thread.name == "otel-coach-flush"}


def test_an_exemplar_never_names_the_trace_of_whoever_settles(metrics):
    def of(trace_id):
        context = SpanContext(trace_id, 1, is_remote=False, trace_flags=TraceFlags(1))
        return set_span_in_context(NonRecordingSpan(context))

    metrics.recorder.record(TOOL_LATENCY, 0.1, ("untraced", "ok"))
    metrics.recorder.record(TOOL_LATENCY, 0.1, ("traced", "ok"), of(1))
    metrics.recorder.record(TOOL_CALLS, 1, ("untraced", "ok", "none"))
    settling = otel_context.attach(of(2))
    try:
        metrics.recorder.flush_all()
    finally:
        otel_context.detach(settling)
    named = {
        (name, point.attributes[TOOL_NAME]): [one.trace_id for one in point.exemplars]
        for name, points in metrics.data().items()
        for point in points
        if TOOL_NAME in point.attributes
    }
    assert named == {
        (TOOL_LATENCY.name, "untraced"): [],
        (TOOL_LATENCY.name, "traced"): [1],
        (TOOL_CALLS.name, "untraced"): [],
    }


def test_a_closed_recorder_has_no_thread_left():
    others = flushing_threads()
    metrics = Metrics()
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
    metrics.recorder.flush()
    [thread] = flushing_threads() - others
    metrics.recorder.close()
    thread.join(10)
    assert not thread.is_alive()
    metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
    metrics.recorder.flush()  # a run that ends late
    assert not metrics.recorder._queue
    assert flushing_threads() <= others


def test_inside_the_garbage_collector_no_thread_is_started(metrics):
    """That takes locks of `threading`, perhaps in the middle of who holds them."""
    others = flushing_threads()
    alive = []

    class Dropped:
        def __init__(self):
            self.itself = self  # only the garbage collector can end it

        def __del__(self):
            metrics.recorder.record(RATE_LIMIT_HITS, 1, ("/route",))
            metrics.recorder.flush()
            alive.extend(flushing_threads() - others)

    metrics.recorder.flush_all()
    Dropped()
    gc.collect()
    assert alive == []
    assert metrics.points(RATE_LIMIT_HITS) == {("/route",): 1}


def test_what_waits_to_be_handed_on_is_bounded_at_any_rate(monkeypatch):
    """Also while the thread that hands it on gets no turn."""
    monkeypatch.setattr("otel_coach.metrics.recorder._MAX_PENDING", 60)
    with measuring() as measured:
        recorder = measured.installation.recorder
        for _ in range(20_000):
            recorder.record(TOOL_LATENCY, 0.1, ("search", "ok"))
            recorder.flush()
        assert sum(map(len, recorder._aggregation._gathered.values())) <= 1000
        assert measured.page().sum("agent_tool_latency_seconds_count") == 20_000
