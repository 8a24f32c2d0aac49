"""Tries whether OpenTelemetry's OTLP encoder and otel-coach's give the same result."""

from __future__ import annotations

from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_coach.sdk.otlp_encoder import Encoder

_OTHER: Final = SpanContext(1, 3, is_remote=True, trace_flags=TraceFlags(1))
_EXAMPLE: Final = ReadableSpan(
    "GET /",
    resource=Resource({"service.name": "coach"}),
    context=SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)),
    parent=_OTHER,
    attributes={"http.route": "/", "http.response.status_code": 200},
    events=(Event("exception", {"exception.type": "ValueError"}, timestamp=1),),
    links=(Link(_OTHER),),
    kind=SpanKind.SERVER,
    status=Status(StatusCode.ERROR, "failed"),
    start_time=1,
    end_time=2,
    instrumentation_scope=InstrumentationScope("otel_coach"),
)


class _IgnoredFaults:
    """Ignores faults during the trial."""

    def fault(self, fault: BaseException, place: str) -> None:
        """Does nothing: the trial fails anyway."""


def encodes_alike() -> bool:
    """Returns whether this encoder and OpenTelemetry's give the same result for `_EXAMPLE`."""
    theirs = encode_spans([_EXAMPLE])
    encoded = Encoder(_IgnoredFaults()).encode_spans([_EXAMPLE])
    return encoded is not None and type(theirs).FromString(encoded) == theirs
