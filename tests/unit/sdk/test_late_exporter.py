"""An OTLP exporter of spans is created when it first exports, and not before."""

import logging

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_coach.sdk.late_exporter import LateExporter
from otel_coach.sdk.providers import Providers
from otel_coach.settings import Settings
from tests.support.losses import lost, make_spans


@pytest.fixture
def made():
    return []


@pytest.fixture
def exporter(made):
    def create():
        made.append(InMemorySpanExporter())
        return made[-1]

    return LateExporter(create)


def test_it_is_created_once_and_gets_all(exporter, made):
    assert exporter.force_flush()
    assert made == []
    assert exporter.export(["first"]) is SpanExportResult.SUCCESS
    assert exporter.export(["second"]) is SpanExportResult.SUCCESS
    (created,) = made
    assert created.get_finished_spans() == ("first", "second")
    exporter.shutdown()
    assert created.export(["late"]) is SpanExportResult.FAILURE


def test_what_was_shut_down_is_not_created_any_more(exporter, made):
    exporter.shutdown()
    assert exporter.export(["late"]) is SpanExportResult.FAILURE
    assert made == []


def test_one_that_cannot_be_created_is_tried_once():
    tried = []
    exporter = LateExporter(lambda: tried.append(1))
    assert exporter.export(["a"]) is exporter.export(["b"]) is SpanExportResult.FAILURE
    assert exporter.force_flush()
    exporter.shutdown()
    assert tried == [1]


def test_spans_of_an_exporter_that_cannot_start_are_counted_as_lost(monkeypatch, caplog):
    class Broken:
        name = "otlp_proto_http"

        def load(self):
            message = "no certificate at http://user:secret@h"
            raise OSError(message)

    monkeypatch.setattr("otel_coach.sdk.exporters.entry_points", lambda **_: [Broken()])
    of = Providers(Settings(trace_exporters=("otlp",)))
    assert not caplog.records
    make_spans(of, 4)
    of.flush()
    (line,) = (one.getMessage() for one in caplog.records if one.levelno == logging.ERROR)
    assert "OTEL_TRACES_EXPORTER='otlp': the exporter otlp_proto_http did not start" in line
    assert "no certificate" in line
    assert "secret" not in line
    assert lost(of)["spans_export"] == 4
    of.shutdown()
