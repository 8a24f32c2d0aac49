"""Encodes spans as OTLP in a fraction of the time and memory that OpenTelemetry's encoder takes.

OpenTelemetry's encoder makes a protobuf object of every attribute of every span, with the protobuf
package, which takes 2 MB. But most spans differ in their ids and times only. What they have in
common is cached as bytes, and a span is encoded by joining a few of these pieces. A span with a
value of an unusual type is left to OpenTelemetry's encoder.
"""

from __future__ import annotations

import sys
from struct import Struct
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from opentelemetry.trace import StatusCode

from otel_coach.core.guard import guarded
from otel_coach.core.patching import replace_method
from otel_coach.sdk import protobuf
from otel_coach.sdk.protobuf import attributes, delimited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, Status

    from otel_coach.core.guard import CountsFaults

    _Message = Any
    """`ExportTraceServiceRequest`; its module is not imported, not even for the type checker."""
    _EncodeSpans = Callable[[Sequence[ReadableSpan]], _Message]

_EXPORTER: Final = "opentelemetry.exporter.otlp.proto"
_THEIRS: Final = f"{_EXPORTER}.common.trace_encoder"
"""The module of OpenTelemetry's encoder."""
_HTTP: Final = f"{_EXPORTER}.http.trace_exporter"
_GRPC: Final = f"{_EXPORTER}.grpc.trace_exporter"
_MAX_CACHED: Final = 2000
_MAX_CACHED_SIZE: Final = 100
"""Bytes of a cached piece; longer ones hardly ever recur."""
_CACHED_INTS: Final = range(1000)
"""Integers that recur, such as HTTP statuses, are cached; larger ones hardly ever recur."""

# The numbers of the fields, by their messages:
# ExportTraceServiceRequest, ResourceSpans and Resource.
_RESOURCE_SPANS: Final = protobuf.delimited_tag(1)
_RESOURCE: Final = protobuf.delimited_tag(1)
_RESOURCE_ATTRIBUTE: Final = protobuf.delimited_tag(1)
_SCOPE_SPANS: Final = protobuf.delimited_tag(2)
_SCHEMA_URL: Final = protobuf.delimited_tag(3)
# ScopeSpans, whose URL has the same number, and InstrumentationScope.
_SCOPE: Final = protobuf.delimited_tag(1)
_SCOPE_NAME: Final = protobuf.delimited_tag(1)
_SCOPE_VERSION: Final = protobuf.delimited_tag(2)
_SCOPE_ATTRIBUTE: Final = protobuf.delimited_tag(3)
_SPAN: Final = protobuf.delimited_tag(2)
# Span and Status.
_TRACE_ID: Final = protobuf.delimited_tag(1) + protobuf.varint(16)
_SPAN_ID: Final = protobuf.delimited_tag(2) + protobuf.varint(8)
_TRACE_STATE: Final = protobuf.delimited_tag(3)
_PARENT_SPAN_ID: Final = protobuf.delimited_tag(4) + protobuf.varint(8)
_NAME: Final = protobuf.delimited_tag(5)
_KIND: Final = protobuf.varint_tag(6)
_START: Final = protobuf.fixed64_tag(7)
_END: Final = protobuf.fixed64_tag(8)
_ATTRIBUTE: Final = protobuf.delimited_tag(9)
_DROPPED_ATTRIBUTES: Final = protobuf.varint_tag(10)
_EVENT: Final = protobuf.delimited_tag(11)
_DROPPED_EVENTS: Final = protobuf.varint_tag(12)
_LINK: Final = protobuf.delimited_tag(13)
_DROPPED_LINKS: Final = protobuf.varint_tag(14)
_STATUS: Final = protobuf.delimited_tag(15)
_STATUS_MESSAGE: Final = protobuf.delimited_tag(2)
_STATUS_CODE: Final = protobuf.varint_tag(3)
_FLAGS: Final = protobuf.fixed32_tag(16)
# Event.
_EVENT_TIME: Final = protobuf.fixed64_tag(1)
_EVENT_NAME: Final = protobuf.delimited_tag(2)
_EVENT_ATTRIBUTE: Final = protobuf.delimited_tag(3)
_EVENT_DROPPED_ATTRIBUTES: Final = protobuf.varint_tag(4)
# Link, whose ids have the numbers that they have in a span.
_LINK_ATTRIBUTE: Final = protobuf.delimited_tag(4)
_LINK_DROPPED_ATTRIBUTES: Final = protobuf.varint_tag(5)
_LINK_FLAGS: Final = protobuf.fixed32_tag(6)

_IS_REMOTE_KNOWN, _IS_REMOTE = 0x100, 0x200
"""Bits of the flags of a parent or a link."""
_times: Final = Struct(f"<{len(_START)}sQ{len(_END)}sQ").pack
_event_time: Final = Struct(f"<{len(_EVENT_TIME)}sQ").pack
_UNUSUAL: Final = (KeyError, TypeError, ValueError)
"""What protobuf.py raises for a value of an unusual type, or one that cannot be encoded."""
_Loaded = TypeVar("_Loaded")


def imported_without_protobuf(load: Callable[[], _Loaded]) -> _Loaded:
    """Returns `load()`, which imports an exporter, without OpenTelemetry's encoder.

    Meanwhile, a module whose `encode_spans` imports that encoder when it is called stands in its
    place. If the exporter needs more of the encoder, it is imported as ever.
    """
    if _THEIRS in sys.modules:
        return load()
    placeholder = ModuleType(_THEIRS)
    placeholder.__dict__["encode_spans"] = _encode_by_theirs
    sys.modules[_THEIRS] = placeholder
    try:
        return load()
    except ImportError:
        _forget(placeholder)
        return load()
    finally:
        _forget(placeholder)


def _forget(placeholder: ModuleType) -> None:
    if sys.modules.get(_THEIRS) is placeholder:
        del sys.modules[_THEIRS]


def _encode_by_theirs(spans: Sequence[ReadableSpan]) -> _Message:
    from opentelemetry.exporter.otlp.proto.common import trace_encoder  # noqa: PLC0415 - takes 2 MB

    return trace_encoder.encode_spans(spans)


def encode_with(recorder: CountsFaults) -> list[Callable[[], None]]:
    """Makes OpenTelemetry's exporters use this encoder; returns functions that undo it.

    An exporter that is not imported, or does not use OpenTelemetry's `encode_spans`, is left as it
    is.
    """
    encoder = Encoder(recorder)
    theirs = _encode_by_theirs, getattr(sys.modules.get(_THEIRS), "encode_spans", _encode_by_theirs)
    return [
        replace_method(module, "encode_spans", around)
        for name, around in ((_HTTP, encoder.around_http), (_GRPC, encoder.around_grpc))
        if (module := sys.modules.get(name)) and getattr(module, "encode_spans", None) in theirs
    ]


class EncodedRequest:
    """Stands in for the message that OpenTelemetry's encoder returns.

    The exporter over HTTP asks it for its bytes only. Whatever else is asked for is the message's.
    """

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Returns the bytes of the message."""
        return self._encoded

    SerializePartialToString = SerializeToString

    def __getattr__(self, name: str) -> Any:
        return getattr(_message(self._encoded), name)


def _message(encoded: bytes) -> _Message:
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415 - takes 2 MB

    return trace_service_pb2.ExportTraceServiceRequest.FromString(encoded)


class Encoder:
    """Encodes spans as OpenTelemetry's `encode_spans` does.

    Its caches are bounded, and long texts are not cached.
    """

    def __init__(self, recorder: CountsFaults) -> None:
        self.recorder = recorder
        self._attributes: dict[tuple[str, type, object], bytes] = {}
        self._heads: dict[tuple[str, int, bool], bytes] = {}
        """The encoded fields that all spans of one name, kind and `is_remote` share."""

    def around_http(self, original: _EncodeSpans) -> _EncodeSpans:
        """Returns the replacement for `original`, which it calls if this encoder fails."""
        return self._around(original, EncodedRequest)

    def around_grpc(self, original: _EncodeSpans) -> _EncodeSpans:
        """The same for the exporter over gRPC, which needs the message itself."""
        return self._around(original, _message)

    def _around(self, original: _EncodeSpans, returned: Callable[[bytes], Any]) -> _EncodeSpans:
        def encode_spans(spans: Sequence[ReadableSpan]) -> _Message:
            encoded = self.encode_spans(spans)
            return original(spans) if encoded is None else returned(encoded)

        return encode_spans

    @guarded
    def encode_spans(self, spans: Sequence[ReadableSpan]) -> bytes | None:
        """Returns the OTLP message for `spans`, encoded; None if a resource or scope is unusual."""
        groups: dict[tuple[int, int], list[ReadableSpan]] = {}
        for span in spans:
            source = id(span.resource), id(span.instrumentation_scope)
            groups.setdefault(source, []).append(span)
        resources: dict[int, list[bytes]] = {}
        try:
            for (resource, _), group in groups.items():
                scope_spans = [_scope(group[0].instrumentation_scope), *map(self._encoded, group)]
                before = resources.get(resource) or _resource(group[0].resource)
                resources[resource] = [*before, delimited(_SCOPE_SPANS, b"".join(scope_spans))]
        except _UNUSUAL:
            return None
        return b"".join(
            delimited(_RESOURCE_SPANS, b"".join(pieces)) for pieces in resources.values()
        )

    def _encoded(self, span: ReadableSpan) -> bytes:
        """Returns `span` as an encoded field of its scope's message."""
        context, parent = span.context, span.parent
        if context is None:
            return _encoded_by_theirs(span)
        try:
            pieces = [
                _TRACE_ID,
                context.trace_id.to_bytes(16, "big"),
                _SPAN_ID,
                context.span_id.to_bytes(8, "big"),
                self._head(span, is_remote=parent is not None and parent.is_remote),
                _status(span.status),
                _times(_START, span.start_time or 0, _END, span.end_time or 0),
                *[
                    self._attributes.get((key, type(value), value)) or self._attribute(key, value)
                    for key, value in (span.attributes or {}).items()
                ],
            ]
            if parent is not None:
                pieces += _PARENT_SPAN_ID, parent.span_id.to_bytes(8, "big")
            if context.trace_state:
                state = ",".join(f"{key}={value}" for key, value in context.trace_state.items())
                pieces.append(protobuf.text(_TRACE_STATE, state))
            pieces += map(_event, span.events)
            pieces += map(_link, span.links)
            pieces += (
                protobuf.count(_DROPPED_ATTRIBUTES, span.dropped_attributes),
                protobuf.count(_DROPPED_EVENTS, span.dropped_events),
                protobuf.count(_DROPPED_LINKS, span.dropped_links),
            )
        except _UNUSUAL:
            return _encoded_by_theirs(span)
        return delimited(_SPAN, b"".join(pieces))

    def _head(self, span: ReadableSpan, *, is_remote: bool) -> bytes:
        name, kind = span.name, span.kind
        key = name, id(kind), is_remote
        head = self._heads.get(key)
        if head is None:
            head = b"".join(
                (
                    protobuf.text(_NAME, name),
                    _KIND + protobuf.varint(kind.value + 1),  # in OTLP, 0 is "not specified"
                    _flags(_FLAGS, is_remote=is_remote),
                )
            )
            _cache(self._heads, key, head)
        return head

    def _attribute(self, key: str, value: object) -> bytes:
        """Returns an attribute as an encoded field of its span."""
        encoded = protobuf.attribute(_ATTRIBUTE, key, value)
        if _recurs(value):
            _cache(self._attributes, (key, type(value), value), encoded)
        return encoded


def _recurs(value: object) -> bool:
    """Whether `value` may recur, and equals no value of the same type that is encoded otherwise."""
    if isinstance(value, tuple):  # (1,) equals (True,), and (0.0,) equals (-0.0,)
        return all(type(element) is str for element in cast("tuple[object, ...]", value))
    return value in _CACHED_INTS if type(value) is int else type(value) is not float


_Key = TypeVar("_Key")


def _cache(cache: dict[_Key, bytes], key: _Key, encoded: bytes) -> None:
    if len(encoded) <= _MAX_CACHED_SIZE:
        if len(cache) >= _MAX_CACHED:
            cache.clear()  # the values that recur are soon cached again
        cache[key] = encoded


_PLAIN_STATUSES: Final[Mapping[StatusCode, bytes]] = {
    code: delimited(_STATUS, protobuf.count(_STATUS_CODE, code.value)) for code in StatusCode
}


def _status(status: Status) -> bytes:
    code, description = status.status_code, status.description
    if not description:
        return _PLAIN_STATUSES[code]
    message = protobuf.text(_STATUS_MESSAGE, description)
    return delimited(_STATUS, message + protobuf.count(_STATUS_CODE, code.value))


def _flags(tag: bytes, *, is_remote: bool) -> bytes:
    return tag + (_IS_REMOTE_KNOWN | _IS_REMOTE * is_remote).to_bytes(4, "little")


def _event(event: Event) -> bytes:
    pieces = (
        _event_time(_EVENT_TIME, event.timestamp),
        protobuf.text(_EVENT_NAME, event.name),
        attributes(_EVENT_ATTRIBUTE, event.attributes),
        protobuf.count(_EVENT_DROPPED_ATTRIBUTES, event.dropped_attributes),
    )
    return delimited(_EVENT, b"".join(pieces))


def _link(link: Link) -> bytes:
    """Returns a link as OpenTelemetry's encoder does, which leaves out its trace state."""
    context = link.context
    pieces = (
        _TRACE_ID,
        context.trace_id.to_bytes(16, "big"),
        _SPAN_ID,
        context.span_id.to_bytes(8, "big"),
        attributes(_LINK_ATTRIBUTE, link.attributes),
        protobuf.count(_LINK_DROPPED_ATTRIBUTES, link.dropped_attributes),
        _flags(_LINK_FLAGS, is_remote=context.is_remote),
    )
    return delimited(_LINK, b"".join(pieces))


def _resource(resource: Resource) -> list[bytes]:
    encoded = attributes(_RESOURCE_ATTRIBUTE, resource.attributes)
    return [delimited(_RESOURCE, encoded), protobuf.text(_SCHEMA_URL, resource.schema_url)]


def _scope(scope: InstrumentationScope | None) -> bytes:
    """Returns the fields of a scope's message that precede its spans."""
    if scope is None:
        return delimited(_SCOPE, b"")
    pieces = (
        protobuf.text(_SCOPE_NAME, scope.name),
        protobuf.text(_SCOPE_VERSION, scope.version),
        attributes(_SCOPE_ATTRIBUTE, scope.attributes),
    )
    return delimited(_SCOPE, b"".join(pieces)) + protobuf.text(_SCHEMA_URL, scope.schema_url)


def _encoded_by_theirs(span: ReadableSpan) -> bytes:
    message = _encode_by_theirs([span]).resource_spans[0].scope_spans[0].spans[0]
    return delimited(_SPAN, message.SerializeToString())
