"""Encodes spans as OTLP in a third of the time that OpenTelemetry's own encoder takes.

OpenTelemetry's encoder makes a protobuf object of every attribute of every span. But most spans
differ in their ids and times only. What they have in common is cached as bytes, and a span is
encoded by joining a few of these pieces. The bytes are then parsed into the same message that
OpenTelemetry's encoder returns, which protobuf does fast. A span with anything unusual (events,
links, a trace state) is left to OpenTelemetry's encoder.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as encode_all
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.patching import replace_method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType

    from google.protobuf.message import Message

    from otel_coach.core.guard import CountsFaults

    _EncodeSpans = Callable[[Sequence[ReadableSpan]], ExportTraceServiceRequest]

_FIXED64, _LENGTH_DELIMITED = 1, 2
"""Wire types, https://protobuf.dev/programming-guides/encoding."""
_MAX_CACHED: Final = 2000
_MAX_CACHED_SIZE: Final = 100
"""Bytes of a cached piece; longer ones hardly ever recur."""


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _tag(message: type[Message], field: str, wire_type: int) -> bytes:
    """Returns the tag that precedes the value of `field`: its number and wire type."""
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type)


_LENGTHS: Final = tuple(map(_varint, range(128)))
"""The lengths of most pieces, each in one byte."""


def _delimited(tag: bytes, value: bytes) -> bytes:
    length = len(value)
    encoded = _LENGTHS[length] if length < len(_LENGTHS) else _varint(length)
    return b"".join((tag, encoded, value))


_SPAN: Final = _tag(ScopeSpans, "spans", _LENGTH_DELIMITED)
_TRACE_ID: Final = _tag(OtlpSpan, "trace_id", _LENGTH_DELIMITED) + _varint(16)
_SPAN_ID: Final = _tag(OtlpSpan, "span_id", _LENGTH_DELIMITED) + _varint(8)
_PARENT_SPAN_ID: Final = _tag(OtlpSpan, "parent_span_id", _LENGTH_DELIMITED) + _varint(8)
_ATTRIBUTE: Final = _tag(OtlpSpan, "attributes", _LENGTH_DELIMITED)
_START: Final = _tag(OtlpSpan, "start_time_unix_nano", _FIXED64)
_END: Final = _tag(OtlpSpan, "end_time_unix_nano", _FIXED64)
_FIELDS: Final[Mapping[type, str]] = {
    bool: "bool_value",
    float: "double_value",
    int: "int_value",
    str: "string_value",
}
_CACHED_INTS: Final = range(1000)
"""Integers that recur, such as HTTP statuses, are cached; larger ones hardly ever recur."""
_ANY_CONTEXT: Final = SpanContext(1, 1, is_remote=False)
_REMOTE_PARENT: Final = SpanContext(1, 1, is_remote=True)
_NO_RESOURCE: Final = Resource.get_empty()
"""For spans that are never sent. Without it, the SDK would run all resource detectors for each."""
_EXAMPLE: Final = ReadableSpan(
    "GET /",
    resource=_NO_RESOURCE,
    context=SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)),
    parent=SpanContext(1, 3, is_remote=True, trace_flags=TraceFlags(1)),
    attributes={"http.route": "/", "http.response.status_code": 200},
    kind=SpanKind.SERVER,
    status=Status(StatusCode.ERROR),
    start_time=1,
    end_time=2,
    instrumentation_scope=InstrumentationScope("otel_coach"),
)
_times: Final = Struct(f"<{len(_START)}sQ{len(_END)}sQ").pack


def encode_with(
    recorder: CountsFaults, exporters: Iterable[ModuleType]
) -> list[Callable[[], None]]:
    """Makes the modules `exporters` use this encoder; returns functions that undo it.

    A module is left as it is if it does not use OpenTelemetry's `encode_spans`. All are left as
    they are if `encode_spans` and this encoder give different results for an example.
    """
    if not compatibility.holds(compatibility.OTLP):
        return []
    encoder = Encoder(recorder)
    return [
        replace_method(module, "encode_spans", encoder.around)
        for module in exporters
        if getattr(module, "encode_spans", None) is encode_all
    ]


def encodes_alike() -> bool:
    """Returns whether this encoder and OpenTelemetry's give the same result for `_EXAMPLE`."""
    return Encoder(_IgnoredFaults()).encode_spans([_EXAMPLE]) == encode_all([_EXAMPLE])


class _IgnoredFaults:
    """Ignores faults during the trial."""

    def fault(self, fault: BaseException, place: str) -> None:
        """Does nothing: the trial fails anyway."""


class Encoder:
    """Makes the same messages as OpenTelemetry's `encode_spans`.

    Its caches are bounded, and long texts are not cached.
    """

    def __init__(self, recorder: CountsFaults) -> None:
        self.recorder = recorder
        self._attributes: dict[tuple[str, type, object], bytes] = {}
        self._heads: dict[tuple[str, int, int, bool], bytes] = {}
        """The encoded fields that all spans of one name, kind, status and `is_remote` share."""

    def around(self, original: _EncodeSpans) -> _EncodeSpans:
        """Returns the replacement for `original`, which it calls if this encoder fails."""

        def encode_spans(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
            return self.encode_spans(spans) or original(spans)

        return encode_spans

    @guarded
    def encode_spans(self, spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        """Returns the OTLP message for `spans`."""
        groups: dict[tuple[int, int], list[ReadableSpan]] = {}
        for span in spans:
            source = id(span.resource), id(span.instrumentation_scope)
            groups.setdefault(source, []).append(span)
        resources: dict[int, ResourceSpans] = {}
        for (resource, _), group in groups.items():
            # OpenTelemetry's message for the first span; the group's spans replace that span in it.
            found = encode_all(group[:1]).resource_spans[0]
            scope = found.scope_spans[0]
            scope.ClearField("spans")
            scope.MergeFromString(b"".join(map(self._encoded, group)))
            if resource in resources:
                resources[resource].scope_spans.append(scope)
            else:
                resources[resource] = found
        return ExportTraceServiceRequest(resource_spans=resources.values())

    def _encoded(self, span: ReadableSpan) -> bytes:
        """Returns `span` as an encoded field of its scope's message."""
        context, parent = span.context, span.parent
        if context is None or context.trace_state or _is_unusual(span):
            return _encoded_by_default(span)
        try:
            attributes = [
                self._attributes.get((key, type(value), value)) or self._attribute(key, value)
                for key, value in (span.attributes or {}).items()
            ]
        except (KeyError, TypeError, ValueError):  # an unusual type or an invalid value
            return _encoded_by_default(span)
        pieces = [
            _TRACE_ID,
            context.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            context.span_id.to_bytes(8, "big"),
            self._head(span, is_remote=parent is not None and parent.is_remote),
            _times(_START, span.start_time or 0, _END, span.end_time or 0),
            *attributes,
        ]
        if parent is not None:
            pieces += _PARENT_SPAN_ID, parent.span_id.to_bytes(8, "big")
        return _delimited(_SPAN, b"".join(pieces))

    def _head(self, span: ReadableSpan, *, is_remote: bool) -> bytes:
        name, kind, code = span.name, span.kind, span.status.status_code
        key = name, id(kind), id(code), is_remote
        head = self._heads.get(key)
        if head is None:
            # What OpenTelemetry's encoder makes of a span with these fields alone.
            bare = ReadableSpan(
                name,
                resource=_NO_RESOURCE,
                context=_ANY_CONTEXT,
                parent=_REMOTE_PARENT if is_remote else None,
                kind=kind,
                status=Status(code),
                start_time=0,
                end_time=0,
            )
            message = _message(bare)
            for field in ("trace_id", "span_id", "parent_span_id"):
                message.ClearField(field)
            head = message.SerializeToString()
            _cache(self._heads, key, head)
        return head

    def _attribute(self, key: str, value: object) -> bytes:
        """Returns an attribute as an encoded field of its span.

        Raises:
            KeyError: the value has an unusual type.
            ValueError: the value cannot be encoded.
        """
        cls = type(value)
        if cls is tuple:
            texts = [AnyValue(string_value=text) for text in _texts(value)]
            any_value = AnyValue(array_value=ArrayValue(values=texts))
        else:
            any_value = AnyValue(**cast("dict[str, Any]", {_FIELDS[cls]: value}))
        encoded = _delimited(_ATTRIBUTE, KeyValue(key=key, value=any_value).SerializeToString())
        if cls is not float and (cls is not int or value in _CACHED_INTS):
            _cache(self._attributes, (key, cls, value), encoded)
        return encoded


_Key = TypeVar("_Key")


def _cache(cache: dict[_Key, bytes], key: _Key, encoded: bytes) -> None:
    if len(encoded) <= _MAX_CACHED_SIZE:
        if len(cache) >= _MAX_CACHED:
            cache.clear()  # the values that recur are soon cached again
        cache[key] = encoded


def _texts(value: object) -> Iterable[str]:
    texts = cast("tuple[object, ...]", value)
    if any(type(text) is not str for text in texts):
        raise KeyError(value)
    return cast("tuple[str, ...]", texts)


def _is_unusual(span: ReadableSpan) -> bool:
    return bool(
        span.events
        or span.links
        or span.status.description
        or span.dropped_attributes
        or span.dropped_events
        or span.dropped_links
    )


def _message(span: ReadableSpan) -> OtlpSpan:
    """Returns the message that OpenTelemetry's encoder makes of `span`."""
    return encode_all([span]).resource_spans[0].scope_spans[0].spans[0]


def _encoded_by_default(span: ReadableSpan) -> bytes:
    return _delimited(_SPAN, _message(span).SerializeToString())
