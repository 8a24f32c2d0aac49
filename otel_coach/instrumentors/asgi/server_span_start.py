"""Starts server spans, by the semantic conventions for HTTP, below the caller's trace context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, get_current_span, set_span_in_context

from otel_coach.core.guard import guarded
from otel_coach.core.spans import distrusts_caller, is_idle
from otel_coach.instrumentors.asgi.applications import has_own_server_spans, is_server_span
from otel_coach.instrumentors.asgi.incoming_context import IncomingContext
from otel_coach.metrics.aggregation import NO_CONTEXT
from otel_coach.metrics.labels import span_text

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Tracer

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.core.asgi_types import Scope
    from otel_coach.instrumentors.asgi.applications import KnownApplication
    from otel_coach.instrumentors.asgi.exchange import Exchange
    from otel_coach.instrumentors.asgi.websocket import Connection
    from otel_coach.metrics.recorder import Recorder

GIVES_WAY: Final = (
    "the application is instrumented by opentelemetry-instrumentation-fastapi or -asgi already; "
    "otel-coach's server span gives way"
)
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})
_SCHEME: Final = {"http": "http", "websocket": "ws"}
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})


class ServerSpans:
    """Starts the server spans of all applications.

    Args:
        recorder: counts faults.
        tracer: makes the spans.
        excluded_urls: comma-separated regular expressions of URLs that are not traced.
        announce: logs a line about a topic, once in a service.
    """

    def __init__(
        self, recorder: Recorder, tracer: Tracer, excluded_urls: str, announce: AnnounceOnce | None
    ) -> None:
        self.recorder = recorder
        self.tracer = tracer
        self._excluded = _parsed(excluded_urls) if excluded_urls else None
        self._announce = announce
        self._incoming = IncomingContext()
        self._ambient: Context | None = None
        """The last context around a request that had no server span; mostly it is the server's."""

    @guarded  # without a span, the request is measured all the same
    def start(
        self, exchange: Exchange | Connection, known: KnownApplication, scope: Scope
    ) -> Context | None:
        """Starts the span and returns its context; None if there is nothing to attach."""
        if known.has_own_server_spans is None:
            known.has_own_server_spans = has_own_server_spans(exchange.app)
            if known.has_own_server_spans:
                self._announce_giving_way()
        if known.has_own_server_spans:
            return None
        around = otel_context.get_current()
        if around is not self._ambient and self._has_server_span(around, known):
            return None
        if self._excluded is not None and self._excluded.url_disabled(_url(scope)):
            return None
        links: list[Link] | None = None
        if distrusts_caller.get():
            parent, links = NO_CONTEXT, self._incoming.links_of(scope)
        else:
            parent = self._incoming.of(scope)
        if is_idle(self.tracer):
            return None if parent is NO_CONTEXT else parent  # it may carry baggage
        version, scheme = scope.get("http_version", "1.1"), scope.get("scheme")
        span = self.tracer.start_span(
            exchange.method,
            context=parent,
            kind=SpanKind.SERVER,
            links=links,
            attributes={
                "http.request.method": exchange.method,
                # A proxy forwards any scheme, even one that a client invented.
                "url.scheme": scheme if scheme in _SCHEMES else _SCHEME[scope["type"]],
                "network.protocol.version": version if version in _VERSIONS else span_text(version),
            },
            start_time=exchange.start_time,
        )
        context = set_span_in_context(span, parent)
        exchange.span, exchange.context = span, context
        return context

    def _has_server_span(self, around: Context, known: KnownApplication) -> bool:
        """Returns whether a middleware around the application has made the span of a request."""
        if is_server_span(span := get_current_span(around)):
            if not known.is_traced_outside:
                known.is_traced_outside = True
                self._announce_giving_way()
            return True
        found = span.get_span_context()  # a span that is not sampled has no kind
        if known.is_traced_outside and found.is_valid and not found.is_remote:
            return True
        self._ambient = around
        return False

    def _announce_giving_way(self) -> None:
        if self._announce is not None:
            self._announce("server spans", lambda: GIVES_WAY)


def _parsed(excluded_urls: str) -> Any:
    from opentelemetry.util.http import parse_excluded_urls  # noqa: PLC0415 - few exclude any

    return parse_excluded_urls(excluded_urls)


def _url(scope: Scope) -> str:
    """Returns the URL that is matched against `excluded_urls`."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return f"{scope.get('scheme', 'http')}://{host}{scope['path']}"
