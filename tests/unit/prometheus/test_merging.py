"""Figures of several workers become one page, exactly."""

import math
from fractions import Fraction

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Histogram,
    Info,
    Summary,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.samples import Exemplar, Sample

from otel_coach.prometheus.merge import Merged
from otel_coach.prometheus.snapshot import from_bytes, sample_of, to_bytes
from tests.support.snapshots import snapshot_of


def counter(name, *values, **labels):
    family = Metric(name, "help", "counter")
    family.samples = [Sample(f"{name}_total", labels, value) for value in values]
    return family


def again(snapshot):
    """As one worker sends it and another reads it."""
    (found,), end = from_bytes(content := to_bytes(snapshot))
    assert end == len(content)
    return found


def sent(*families, **times):
    return again(snapshot_of(families, times))


def shown(merged, *living):
    """The merged families as prometheus_client has them."""
    for table in merged.tables(set(living)):
        family = Metric(*table.metadata)
        for key, value in zip(table.keys, table.values, strict=True):
            exemplar = table.exemplars.get(key)
            found = None if exemplar is None else Exemplar(*exemplar[1:])
            family.samples.append(Sample(*sample_of(key), value, None, found))
        yield family


def merged_value(merged):
    ((sample,),) = (family.samples for family in shown(merged))
    return sample.value


def test_sums_are_exact_and_never_fall_by_a_rounding():
    values = [0.1 * n + 1e-9 / n for n in range(1, 200)]
    truth = Fraction(0)
    retired = None
    last = 0.0
    for number, value in enumerate(values):
        truth += Fraction(value)
        merged = Merged()
        if retired is not None:
            merged.add(again(retired), "retired")
        merged.add(sent(counter("c", value)), str(number))
        retired = merged.folded()
        alone = Merged()
        alone.add(retired, "retired")
        now = merged_value(alone)
        assert now == float(truth)  # Fraction rounds once, to the nearest
        assert now >= last
        last = now
    assert math.isfinite(last)


def test_large_families_of_every_kind_come_back_as_they_were():
    registry = CollectorRegistry()
    counter = Counter("c", "Counted", ["who", "what"], registry=registry)
    histogram = Histogram("h", "Measured", ["who"], registry=registry)
    summary = Summary("s", "Summed", registry=registry)
    Info("i", "Told", registry=registry).info({"version": "1"})
    Enum("e", "One of", states=["on", "off"], registry=registry).state("off")
    Counter("never", "Without a series", ["who"], registry=registry)
    for number in range(1200):
        counter.labels(f"w\n\\{number}\x7f\\s", '"quoted"').inc(number / 7)
        histogram.labels(number % 300).observe(number / 100)
        summary.observe(number)
    merged = Merged()
    merged.add(sent(*registry.collect()), "1-a")
    merged_registry = CollectorRegistry()
    merged_registry.collect = lambda: shown(merged, "1-a")
    for generate in (generate_latest, openmetrics):
        assert generate(merged_registry) == generate(registry)


def test_gauges_merge_by_their_meaning():
    def gauge(name, value, **labels):
        family = Metric(name, "help", "gauge")
        family.samples = [Sample(name, labels, value)]
        return family

    def families(up, streams, memory, own):
        return (
            gauge("dependency_up", up, dependency_name="db"),
            gauge("app_ai_streams_active", streams, endpoint="/x"),
            gauge("process_resident_memory_bytes", memory),
            gauge("otel_coach_price_list_age_days", streams),
            gauge("their_own", own),
        )

    at = {"dependency_up": {("db",): 100.0}}
    later = {"dependency_up": {("db",): 200.0}}
    merged = Merged()
    merged.add(sent(*families(0, 2, 10, 5), **later), "11-a")
    merged.add(sent(*families(1, 3, 20, 6), **at), "12-b")
    merged.add(sent(*families(1, 4, 40, 7), **at), "13-c")
    found = {
        (sample.name, sample.labels.get("pid")): sample.value
        for family in shown(merged, "11-a", "12-b")
        for sample in family.samples
    }
    assert found == {
        ("dependency_up", None): 0,  # the probe made last
        ("app_ai_streams_active", None): 5,  # of those that live
        ("process_resident_memory_bytes", None): 30,
        ("otel_coach_price_list_age_days", None): 3,  # the oldest list of those that live
        ("their_own", "11"): 5,  # nobody knows what it means: each worker's own
        ("their_own", "12"): 6,
    }


def test_the_latest_exemplar_of_a_bucket_is_shown():
    def bucket(trace, at):
        family = Metric("h", "help", "histogram")
        exemplar = Exemplar({"trace_id": trace}, 0.1, at)
        family.samples = [Sample("h_bucket", {"le": "1.0"}, 1, None, exemplar)]
        return family

    merged = Merged()
    merged.add(sent(bucket("new", 20.0)), "1-a")
    merged.add(sent(bucket("old", 10.0)), "2-b")
    ((sample,),) = (family.samples for family in shown(merged))
    assert sample.value == 2
    assert sample.exemplar.labels == {"trace_id": "new"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]\n[]", b'{"format":1}', b"\x00" * 9, b"00000000 0\n\n", b"0123abcd 999\n{}"],
)
def test_figures_that_cannot_be_read_raise_what_the_page_expects(content):
    with pytest.raises(ValueError):  # noqa: PT011 - json's own are among them
        from_bytes(content)


def test_a_label_pid_of_the_applications_own_is_kept_under_another_name():
    family = Metric("child_rss", "help", "gauge")
    family.samples = [Sample("child_rss", {"pid": pid}, float(pid)) for pid in ("1", "2")]
    merged = Merged()
    merged.add(sent(family), "77-a")
    (table,) = merged.tables({"77-a"})
    found = [sample_of(key)[1] for key in table.keys]
    assert found == [{"exported_pid": pid, "pid": "77"} for pid in ("1", "2")]
    assert [*table.values] == [1, 2]
