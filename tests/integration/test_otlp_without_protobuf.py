"""Spans are sent over HTTP without the protobuf package, which would take 2 MB."""

import os
import sys
from importlib.metadata import entry_points

from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

import otel_coach
from otel_coach.metrics.recorder import Recorder
from otel_coach.sdk import otlp_encoder
from tests.support.processes import alone


def protobuf_was_imported():
    """Whether protobuf was there after an export by our encoder, and after one by theirs."""
    (found,) = entry_points(group="opentelemetry_traces_exporter", name="otlp_proto_http")
    exporter = otlp_encoder.imported_without_protobuf(found.load)(os.environ["ENDPOINT"])
    undo = otlp_encoder.encode_with(Recorder(NoOpMeter("test")))
    imported = []
    for name, unusual in (("usual", "x"), ("unusual", {"y": 1}), ("undone", "x")):
        if name == "undone":
            for one in undo:
                one()
        span = ReadableSpan(
            name,
            SpanContext(1, 1, is_remote=False),
            resource=Resource({"service.name": "coach"}),
            attributes={"models": ("a", "b"), "n": -1, "x": unusual},
            events=(Event("exception", {"exception.type": "ValueError"}, timestamp=1),),
            links=(Link(SpanContext(1, 2, is_remote=True)),),
            status=Status(StatusCode.ERROR, "failed"),
        )
        assert exporter.export([span]) is SpanExportResult.SUCCESS
        imported.append("google.protobuf" in sys.modules)
    return imported


def test_the_exporter_over_http_sends_usual_spans_without_protobuf(monkeypatch):
    from tests.support.otlp import Receiver  # it imports protobuf

    with Receiver() as receiver:
        monkeypatch.setenv("ENDPOINT", f"{receiver.endpoint}/v1/traces")
        assert alone(protobuf_was_imported) == [False, True, True]
        usual, unusual, undone = receiver.spans
    assert usual.attributes == {"models": ["a", "b"], "n": -1, "x": "x"}
    assert usual.events == ["exception"]
    assert usual.status_message == "failed"
    assert unusual.attributes["n"] == undone.attributes["n"] == -1


def imported_by_instrumenting():
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    otel_coach.instrument()
    return [
        name
        for name in ("google.protobuf", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
        if name in sys.modules
    ]


def test_instrument_imports_the_exporter_without_protobuf():
    assert alone(imported_by_instrumenting) == [
        "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    ]
