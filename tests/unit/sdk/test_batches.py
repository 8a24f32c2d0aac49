import math
import random

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics._internal import aggregation
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_coach.metrics.catalogue import HTTP_REQUEST_DURATION, TOOL_CALLS, TOOL_LATENCY
from otel_coach.metrics.recorder import Recorder
from otel_coach.sdk.histogram_batches import Batch, batching
from otel_coach.sdk.providers import Providers
from otel_coach.settings import Settings
from otel_coach.views import build_views

LABELS = ("/route", "GET", "200")
BOUNDS = HTTP_REQUEST_DURATION.buckets


def traced(trace_id):
    context = SpanContext(trace_id, 1, is_remote=False, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(context))


def points(reader):
    return {
        (found.name, *sorted(point.attributes.items())): point
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for found in scope.metrics
        for point in found.data.data_points
    }


@pytest.fixture
def recorders():
    """One that hands batches on, and one that hands measurements on; what their readers read."""
    made = []
    for batch in (Batch.of, None):
        reader = InMemoryMetricReader()
        views = build_views(aggregation=batching() if batch else None)
        provider = MeterProvider([reader], views=views, shutdown_on_exit=False)
        made.append((Recorder(provider.get_meter("test"), batch=batch), reader))
    yield made
    for recorder, _ in made:
        recorder.close()


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_counts_as_its_measurements_one_by_one(recorders, seed):
    dice = random.Random(seed)
    facts = []
    for number in range(500):
        value = dice.choice((*BOUNDS, 0, 1e-9, 1e6, dice.uniform(0, 3), dice.expovariate(3)))
        context = traced(number + 1) if dice.random() < 0.5 else None
        facts.append((HTTP_REQUEST_DURATION, value, LABELS, context))
        facts.append((TOOL_LATENCY, value, (dice.choice("abc"), "ok"), context))
        facts.append((TOOL_CALLS, 1, ("a", "ok", "none"), context))
    read = []
    for recorder, reader in recorders:
        for number, fact in enumerate(facts):
            recorder.record(*fact)
            if number % 400 == 0:
                recorder.flush_all()
        recorder.flush_all()
        read.append(points(reader))
    batched, single = read
    assert batched.keys() == single.keys()
    histograms = 0
    for series, point in single.items():
        other = batched[series]
        if not hasattr(point, "bucket_counts"):
            assert other.value == point.value
            continue
        histograms += 1
        assert other.bucket_counts == point.bucket_counts
        assert (other.count, other.min, other.max) == (point.count, point.min, point.max)
        assert other.sum == pytest.approx(point.sum, rel=1e-12)
        shown = [
            [(one.value, one.trace_id, one.span_id) for one in found.exemplars]
            for found in (other, point)
        ]
        assert shown[0] == shown[1]
        assert shown[0]
    assert histograms == 4


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_what_the_sdk_refuses_is_in_no_batch(recorders, value):
    for recorder, reader in recorders:
        recorder.record(HTTP_REQUEST_DURATION, 1.0, LABELS)
        recorder.record(HTTP_REQUEST_DURATION, value, LABELS)
        recorder.flush_all()
        (point,) = (
            point for (name, *_), point in points(reader).items() if name.startswith("http")
        )
        assert (point.count, repr(point.sum)) == of_the_sdk_alone(1.0, value)


def of_the_sdk_alone(*values):
    """What it counts: versions before 1.44 refuse less."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    histogram = provider.get_meter("alone").create_histogram("alone")
    for value in values:
        histogram.record(value)
    ((_, point),) = points(reader).items()
    provider.shutdown()
    return point.count, repr(point.sum)


def test_others_histograms_and_counters_are_the_sdks_own():
    read = []
    for chosen in (batching(), None):
        reader = InMemoryMetricReader()
        provider = MeterProvider(
            [reader], views=[View(instrument_name="*", aggregation=chosen)], shutdown_on_exit=False
        )
        meter = provider.get_meter("host")
        meter.create_histogram("plain").record(7)
        meter.create_histogram("advised", explicit_bucket_boundaries_advisory=[3, 9]).record(7)
        meter.create_counter("counter").add(2)
        meter.create_up_down_counter("up_down").add(-2)
        meter.create_gauge("gauge").set(3)
        meter.create_observable_gauge("observed", [lambda _: ()])
        found = points(reader)
        for point in found.values():
            object.__setattr__(point, "time_unix_nano", 0)
            object.__setattr__(point, "start_time_unix_nano", 0)
        read.append(found)
    assert read[0] == read[1]
    assert len(read[0]) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.delattr(aggregation, "_ExplicitBucketHistogramAggregation"),
        lambda patch: patch.setattr(
            aggregation._ExplicitBucketHistogramAggregation,
            "_get_empty_bucket_counts",
            lambda self: {},
        ),
        lambda patch: patch.setattr(
            aggregation._ExplicitBucketHistogramAggregation, "collect", lambda *_: None
        ),
        lambda patch: (
            patch.setattr(aggregation, "_Aggregation", None)
            or patch.setattr(
                aggregation._ExplicitBucketHistogramAggregation,
                "__init__",
                lambda self, attributes, boundaries: None,
            )
        ),
    ],
    ids=["no such class", "another state", "another way out", "another way in"],
)
def test_with_an_sdk_that_has_changed_each_measurement_goes_alone(monkeypatch, change):
    assert batching() is not None
    with monkeypatch.context() as patch:
        change(patch)
        assert batching() is None
        providers = Providers(Settings(metric_exporters=()))
    try:
        assert providers.recorder._aggregation._batch is None
    finally:
        providers.shutdown()


PREFERENCE = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"


@pytest.mark.parametrize(
    ("preferred", "in_batches", "what_it_gets"),
    [
        (None, True, "HistogramDataPoint"),
        ("explicit_bucket_histogram", True, "HistogramDataPoint"),
        ("base2_exponential_bucket_histogram", False, "ExponentialHistogramDataPoint"),
    ],
)
def test_an_exporter_gets_the_histograms_that_it_prefers(
    monkeypatch, preferred, in_batches, what_it_gets
):
    monkeypatch.delenv(PREFERENCE, raising=False)
    if preferred:
        monkeypatch.setenv(PREFERENCE, preferred)
    got = []

    def exported(_exporter, data, **_):
        got.append(data)
        return MetricExportResult.SUCCESS

    monkeypatch.setattr(OTLPMetricExporter, "export", exported)
    providers = Providers(Settings(metric_exporters=("prometheus", "otlp")))
    try:
        assert (providers.recorder._aggregation._batch is not None) == in_batches
        providers.recorder.record(HTTP_REQUEST_DURATION, 0.2, LABELS)
        providers.serves = True
        providers.flush()
    finally:
        providers.shutdown()
    kinds = {
        type(point).__name__
        for data in got
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for found in scope.metrics
        for point in found.data.data_points
        if found.name == HTTP_REQUEST_DURATION.name
    }
    assert kinds == {what_it_gets}


def test_a_reader_with_a_preference_of_its_own_keeps_it():
    default = InMemoryMetricReader()
    drops = InMemoryMetricReader(preferred_aggregation={Counter: DropAggregation()})
    own = ExplicitBucketHistogramAggregation(boundaries=[1.0])
    bounded = InMemoryMetricReader(preferred_aggregation={Histogram: own})
    assert batching([default]) is not None
    assert batching([default, drops]) is None
    assert batching([bounded]) is None
