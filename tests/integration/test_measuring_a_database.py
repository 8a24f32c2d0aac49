"""`measuring` takes psycopg over where it is instrumented, and gives it back."""

from dataclasses import replace

import psycopg
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_coach
from otel_coach.settings import Settings, effective
from otel_coach.setup import installation
from otel_coach.setup.installation import Installation
from otel_coach.testing import measuring


def ask(url, number):
    with psycopg.connect(url) as connection:
        connection.execute(f"SELECT {number}::int")


def texts(spans):
    return [span.attributes["db.statement"] for span in spans if "db.statement" in span.attributes]


def test_the_spans_of_queries_are_those_of_the_test(monkeypatch, database_url):
    exporter = InMemorySpanExporter()
    alone = replace(effective(Settings(), {}), shares_figures=False)
    made = Installation(alone, span_processors=[SimpleSpanProcessor(exporter)])
    monkeypatch.setattr(installation, "_installed", made)
    try:
        otel_coach.instrument()
        ask(database_url, 1)
        with measuring() as measured:
            ask(database_url, 2)
        ask(database_url, 3)
    finally:
        made.uninstrument()
    ask(database_url, 4)
    assert len([span for span in measured.spans if span.name.startswith("SELECT")]) == 1
    assert len([s for s in exporter.get_finished_spans() if s.name.startswith("SELECT")]) == 2
