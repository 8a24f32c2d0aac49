"""What a scrape and a worker's life cost follows what changed, and the figures stay exact."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import Observation
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.samples import Exemplar, Sample

from otel_coach.metrics.catalogue import (
    CATALOGUE,
    HTTP_REQUEST_DURATION,
    TOOL_CALLS,
    InstrumentKind,
)
from otel_coach.metrics.labels import ENDPOINT
from otel_coach.prometheus import local_metrics as local_metrics_module
from otel_coach.prometheus.all_workers import HEAD, AllWorkers
from otel_coach.prometheus.encoding import Encoded
from otel_coach.prometheus.merge import Merged
from otel_coach.prometheus.snapshot import (
    Effect,
    FamilyMetadata,
    Snapshot,
    from_bytes,
    key_of,
    sample_of,
    to_bytes,
)
from otel_coach.prometheus.sums import Sums
from otel_coach.prometheus.table import Table
from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from otel_coach.workers.worker_metrics import WorkerMetrics
from tests.support.snapshots import snapshot_of

OUR_NAMES = ("app_ai_", "agent_", "auth_", "rate_", "http_", "dependency_", "otel_coach_")
OURS = [metric for metric in CATALOGUE if metric.kind is not InstrumentKind.GAUGE]


def samples_of(snapshot):
    return {
        (part.name, part.type, key): value
        for part in snapshot.parts
        for key, value in zip(part.keys, part.values, strict=True)
    }


def read(content):
    (snapshot,), _ = from_bytes(content)
    return snapshot


# What is written between two scrapes


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric.name)
def test_increments_name_series_as_the_stock_reader_does(metric):
    labels = tuple(f"v{number}" for number in range(len(metric.labels)))
    with measuring() as measured:
        local, recorder = measured.installation.local_metrics, measured.installation.recorder
        recorder.keep_increments()
        local.increments()
        for value in (0.003, 2.0, 2.0, 1e6):
            recorder.record(metric, value, labels)
        recorder.flush_all()
        found = samples_of(read(local.increments()))
        stock = samples_of(read(local.measure(whole=True)))
    ours = {
        at: value
        for at, value in stock.items()
        if at[0].startswith(OUR_NAMES) and at[1] != "gauge"  # gauges are read at each scrape
    }
    assert [at for at in ours if at in found] == [at for at in found if at in ours]  # as ordered
    assert {at for at, value in ours.items() if value} <= found.keys() <= ours.keys()
    assert all(math.isclose(ours[at], value) for at, value in found.items())
    assert metric.prometheus_name.removesuffix("_total") in {name for name, *_ in found}


class Writer:
    """A worker's file, as it is written."""

    def __init__(self, local):
        self._local = local
        self.content = local.measure(whole=True)

    def everybody(self, read):
        head, offset = read.get("1-a", (b"", 0))
        offset = offset if head and self.content.startswith(head) else 0
        return [WorkerMetrics("1-a", self.content[offset:], lives=True, stale=False, offset=offset)]

    def measures(self):
        self.content += self._local.measure(whole=False)

    def begins_anew(self):
        self.content = self._local.measure(whole=True)

    def writes_increments(self):
        self.content += self._local.increments()


STEPS = st.lists(
    st.sampled_from(["record", "measures", "begins_anew", "writes_increments", "read"]),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=40)
@given(STEPS, st.randoms(use_true_random=False))
def test_whatever_is_written_when_counts_are_exact_and_sums_never_fall(steps, dice):
    truth, sums = Counter(), {}
    with measuring() as measured:
        local, recorder = measured.installation.local_metrics, measured.installation.recorder
        recorder.keep_increments()
        writer = Writer(local)
        fleet = AllWorkers(writer.everybody)
        for step in [*steps, "writes_increments", "read", "record", "measures", "read"]:
            if step == "record":
                for _ in range(dice.randint(1, 5)):
                    tool, seconds = dice.choice("ab"), dice.random() * 10 ** dice.randint(-3, 3)
                    recorder.record(TOOL_CALLS, 1, (tool, "ok", "none"))
                    recorder.record(HTTP_REQUEST_DURATION, seconds, (f"/{tool}", "GET", "200"))
                    truth[tool] += 1
                    sums[tool] = sums.get(tool, 0) + seconds
                continue
            if step != "read":
                recorder.flush_all()
                getattr(writer, step)()
                written = dict(truth)
                continue
            if not truth or "written" not in locals():
                continue
            for whose in (fleet, AllWorkers(writer.everybody)):  # one that has read before, or not
                tables = {table.metadata.name: table for table in whose.tables()[0]}
                for tool, count in written.items():
                    assert counted(tables["agent_tool_calls"], tool_name=tool) == count
                    seconds = tables["http_server_request_duration_seconds"]
                    assert counted(seconds, endpoint=f"/{tool}", le="+Inf") == count
            for tool in written:
                now = counted(seconds, "_sum", endpoint=f"/{tool}")
                before = sums.get(("shown", tool), 0.0)
                assert now >= before
                sums["shown", tool] = now
        for tool, count in truth.items():
            assert math.isclose(sums["shown", tool], sums[tool], rel_tol=1e-9), count


def counted(table, suffix="", **labels):
    return sum(
        value
        for key, value in zip(table.keys, table.values, strict=True)
        for name, found in [sample_of(key)]
        if labels.items() <= found.items() and name.endswith(suffix)
    )


def test_a_sum_made_of_increments_is_never_more_than_the_workers_own():
    """However the worker rounded: else the counter would fall when it is asked again."""
    dice = random.Random(1)
    for _ in range(2000):
        numbers = [dice.random() * 10 ** dice.randint(-8, 8) for _ in range(dice.randint(2, 50))]
        family = Sums(part("c", {"c_total": numbers[0]}))
        family.add(part("c", {"c_total": numbers[0]}), "1-a")
        own = shown = numbers[0]
        for number in numbers[1:]:
            own += number  # as the SDK does
            family.add(part("c", {"c_total": number}, Effect.ADD), "1-a")
            (value,) = family.merged().values
            assert shown <= value <= own
            shown = value


def part(name, values, effect=Effect.WHOLE):
    family = Metric(name, "help", "counter")
    family.samples = [Sample(key, {}, value) for key, value in values.items()]
    (made,) = snapshot_of([family], {}).parts
    return made._replace(effect=effect)


def test_a_block_that_is_not_finished_is_read_when_it_is():
    first, second = (to_bytes(Snapshot([part("c", {"c_total": value})])) for value in (1.0, 2.0))
    content = first + second
    for end in range(len(first), len(content) + 1):
        found, read_to = from_bytes(content[:end])
        complete = end == len(content)
        assert len(found) == (2 if complete else 1)
        assert read_to == (len(content) if complete else len(first))
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(ValueError):  # noqa: PT011 - json's own are among them
            found, read_to = from_bytes(bytes(damaged))
            assert read_to < len(content), "nobody noticed"
            raise ValueError
    assert len(first) > HEAD


def test_a_file_that_began_anew_is_read_from_its_beginning():
    contents = [to_bytes(Snapshot([part("c", {"c_total": float(n)})])) for n in (1, 2)]
    assert contents[0][:HEAD] != contents[1][:HEAD]


# The figures of one process


def test_the_page_is_that_of_a_process_that_remembers_nothing():
    """Instruments of the application's that come, change and go."""
    gauge = {"a": 1.0, "b": 2.0}
    with measuring() as measured:
        meter = measured.installation.providers.meter_provider.get_meter("shop")
        from opentelemetry.metrics import Observation

        meter.create_observable_gauge(
            "stock", [lambda _: [Observation(v, {"endpoint": k}) for k, v in gauge.items()]]
        )
        orders, seconds = meter.create_counter("orders"), meter.create_histogram("took", "s")

        def steps():
            yield orders.add(1, {"endpoint": "/x"})
            yield orders.add(1, {"endpoint": "/x", "status": "ok"})  # all series get this label
            yield orders.add(2, {"endpoint": "/x"})
            yield seconds.record(0.3, {"endpoint": "/x"})
            yield seconds.record(0.3, {"endpoint": "/y"})
            yield gauge.pop("a")
            yield gauge.update(a=math.nan)
            yield gauge.clear()
            yield meter.create_counter("refunds").add(1)

        for _ in steps():
            now = measured.page().text
            measured.installation.local_metrics.families.forget()
            assert lines(measured.page().text) == lines(now)
        page = Page(now)
    assert page.sum("orders_total") == 4
    assert page.sum("took_seconds_count") == 2
    assert "stock" not in page.names
    assert page.sum("refunds_total") == 1


def lines(text):
    measured_by_the_machine = ("process_", "python_")
    return [line for line in text.splitlines() if not line.startswith(measured_by_the_machine)]


def test_a_scrape_writes_only_what_changed():
    budgets = {**Settings().budgets, ENDPOINT: 1001}
    with measuring(Settings(budgets=budgets)) as measured:
        local, recorder = measured.installation.local_metrics, measured.installation.recorder
        for number in range(900):
            recorder.record(HTTP_REQUEST_DURATION, 0.1, (f"/{number}", "GET", "200"))
        whole = local.measure(whole=True)
        recorder.record(HTTP_REQUEST_DURATION, 0.1, ("/7", "GET", "200"))
        changed = read(local.measure(whole=False))
    ours = {part.name: part for part in changed.parts}
    assert len(whole) > 1_000_000
    found = ours["http_server_request_duration_seconds"]
    assert {sample_of(key)[1]["endpoint"] for key in found.keys} == {"/7"}
    assert found.effect == Effect.UPDATE
    others = {name for name in ours if not name.startswith(("process_", "python_"))}
    assert others == {"http_server_request_duration_seconds"}


# As text

VALUES = st.floats(allow_nan=True) | st.integers(0, 10)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@settings(deadline=None)
@given(st.data())
@pytest.mark.parametrize("encode", [generate_latest, openmetrics])
@pytest.mark.parametrize("kind", ["counter", "gauge", "summary"])
def test_the_lines_are_those_of_prometheus_client(encode, kind, data):
    suffixes = {"counter": ["_total"], "gauge": [""], "summary": ["_count", "_sum", "_created"]}
    encoded = Encoded(encode)
    keys, values, exemplars = [], [], {}
    for _ in range(data.draw(st.integers(1, 5))):
        for text in data.draw(st.lists(TEXTS, max_size=3)):
            for suffix in data.draw(st.just(suffixes[kind])):
                key = key_of(f"c{suffix}", {"who": text})
                if key not in keys:
                    keys.append(key)
                    values.append(data.draw(VALUES))
        for place in data.draw(st.lists(st.integers(0, max(0, len(keys) - 1)), max_size=3)):
            if keys:
                values[place] = data.draw(VALUES)
                if kind == "counter" and data.draw(st.booleans()):
                    at = data.draw(st.floats(0, 1e9))
                    exemplars[keys[place]] = (keys[place], {"trace_id": "1"}, 1.0, at)
        if data.draw(st.booleans()) and keys:
            gone = data.draw(st.integers(0, len(keys) - 1))
            del keys[gone], values[gone]
        table = Table(FamilyMetadata("c", "help", kind, ""), [*keys], [*values], {**exemplars})
        family = Metric("c", "help", kind)
        for key, value in zip(keys, values, strict=True):
            one = exemplars.get(key)
            exemplar = None if one is None else Exemplar(*one[1:])
            family.samples.append(Sample(*sample_of(key), value, None, exemplar))
        registry = CollectorRegistry(auto_describe=False)
        registry.collect = lambda family=family: [family]
        assert encoded.table(table) == encode(registry).removesuffix(b"# EOF\n")


def test_a_family_of_which_the_lines_cannot_be_kept_is_written_once():
    """prometheus_client writes the times of creation apart, as a family of their own."""
    written = []

    def encode(registry):
        written.append(1)
        return generate_latest(registry)

    encoded = Encoded(encode)
    keys = [key_of("s_count", {}), key_of("s_sum", {}), key_of("s_created", {})]
    for scrape in range(1, 4):
        values = [float(scrape), 2.0, 3.0]
        assert b"s_created 3.0" in encoded.table(
            Table(FamilyMetadata("s", "", "summary", ""), keys, values, {})
        )
        assert len(written) == scrape


@pytest.mark.parametrize("first", ["s_count", "s_created"])
def test_a_sample_that_begins_a_family_of_its_own_stays_there(first):
    encoded = Encoded(generate_latest)
    about = FamilyMetadata("s", "help", "summary", "")
    [last] = {"s_count", "s_created"} - {first}
    encoded.table(Table(about, [key_of(first, {})], [1.0], {}))
    text = encoded.table(Table(about, [key_of(first, {}), key_of(last, {})], [1.0, 2.0], {}))
    values = {"s_count": 1.0 + (first != "s_count"), "s_created": 1.0 + (first == "s_count")}
    assert text.decode().splitlines() == [
        "# HELP s help",
        "# TYPE s summary",
        f"s_count {values['s_count']}",
        "# HELP s_created help",
        "# TYPE s_created gauge",
        f"s_created {values['s_created']}",
    ]


def test_workers_that_come_and_go_leave_nothing_in_who_reads_them():
    gauge, counter = Metric("own", "help", "gauge"), Metric("c", "help", "counter")
    gauge.samples = [Sample("own", {}, 1)]
    counter.samples = [Sample("c_total", {}, 1)]
    merged = Merged()
    for number in range(100):
        worker = f"{number}-a"
        merged.add(snapshot_of([gauge, counter], {}), worker)
        if number:
            merged.forget(f"{number - 1}-a")
    tables = {table.metadata.name: table for table in merged.tables({"99-a"})}
    assert [sample_of(key)[1] for key in tables["own"].keys] == [{"pid": "99"}]
    assert tables["c"].values == [1.0]
    assert len(merged._families["own"]._columns) == len(merged._families["c"]._columns) == 1


def test_what_only_the_application_counts_is_written_between_scrapes(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(local_metrics_module, "monotonic", lambda: now[0])
    with measuring() as measured:
        installation = measured.installation
        jobs = installation.providers.meter_provider.get_meter("app").create_counter("jobs")
        local = installation.local_metrics
        jobs.add(1)
        local.measure(whole=True)
        now[0] += 60
        assert not local.changed()
        jobs.add(1)
        assert local.changed()
        assert b"jobs_total" in local.measure(whole=False)
        assert not local.changed()  # not due
        now[0] += 60
        assert not local.changed()
        meter = installation.providers.meter_provider.get_meter("app")
        meter.create_observable_counter("sent", [lambda _: [Observation(now[0])]])
        for _ in range(2):  # nothing shows that it has changed
            now[0] += 60
            assert local.changed()
            assert b"sent_total" in local.measure(whole=False)
