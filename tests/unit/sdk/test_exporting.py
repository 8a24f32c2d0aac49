"""Several exporters: one that hangs or fails keeps none of the others."""

import logging
import threading

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_coach.sdk.exporters import OneLineAMinute, run_at_once
from otel_coach.sdk.providers import Providers
from otel_coach.settings import Settings


def test_one_line_a_minute_of_all_exporters_together(caplog, monkeypatch):
    now = 1000.0
    monkeypatch.setattr("otel_coach.sdk.exporters.monotonic", lambda: now)

    class Exporter:
        __module__ = "opentelemetry.exporter.of.a.test"

    class Processor:
        __module__ = "opentelemetry.sdk.a.test.export"

    class Base:
        __module__ = "opentelemetry.sdk.trace"

    class Derived(Exporter, Base):
        pass

    logger = logging.getLogger(Exporter.__module__)
    others = logging.getLogger(Processor.__module__)
    quiet = OneLineAMinute()
    quiet.quieten(Derived(), Processor())
    not_about_exports = logging.getLogger(Base.__module__)
    for number in range(5):
        logger.warning("attempt %d", number)
        others.error("queue full")
        logger.info("news")
        not_about_exports.warning("ended span %d", number)
    now += 61
    logger.error("still %s", "down")
    quiet.undo()
    logger.warning("after")
    texts = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert [text for text in texts if "ended span" not in text] == [
        "attempt 0",
        "still down (9 more were left out after the last such line)",
        "after",
    ]
    assert len(texts) == 3 + 5


def test_one_that_hangs_does_not_keep_the_others():
    done = []
    for_ever = threading.Event()
    run_at_once(
        [lambda _: for_ever.wait(), lambda _: done.append(1), lambda _: done.append(2)],
        0.2,
    )
    assert sorted(done) == [1, 2]
    for_ever.set()


def test_without_threads_each_has_its_share_of_the_time(monkeypatch):
    def refused(*_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    now, shares = [1000.0], []

    def takes_its_share(left):
        shares.append(left)
        now[0] += left

    monkeypatch.setattr(threading.Thread, "start", refused)
    monkeypatch.setattr("otel_coach.sdk.exporters.monotonic", lambda: now[0])
    run_at_once([takes_its_share] * 3, 0.6)
    assert shares == pytest.approx([0.2, 0.2, 0.2])


def test_one_that_fails_is_one_line_and_the_others_go_on(caplog):
    done = []
    run_at_once([lambda _: 1 / 0, done.append], 1)
    assert len(done) == 1
    (record,) = caplog.records
    assert "ZeroDivisionError in test_exporting.py" in record.getMessage()


def test_a_flush_of_the_global_providers_exports_what_waits_in_the_recorder():
    """As a function does before its process is frozen."""
    spans = InMemorySpanExporter()
    of = Providers(Settings(), [SimpleSpanProcessor(spans)])
    tracer = of.tracer_provider.get_tracer("app")
    of.recorder.later(lambda name, _: tracer.start_span(name).end(), "first", None)
    assert of.tracer_provider.force_flush()
    assert [span.name for span in spans.get_finished_spans()] == ["first"]
    of.recorder.later(lambda name, _: tracer.start_span(name).end(), "second", None)
    assert of.meter_provider.force_flush()
    assert [span.name for span in spans.get_finished_spans()] == ["first", "second"]
    of.recorder.later(lambda name, _: tracer.start_span(name).end(), "third", None)
    of.tracer_provider.shutdown()
    assert len(spans.get_finished_spans()) == 3
    of.shutdown(0.1)
