"""Extracts the caller's trace context and baggage from a request's headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_coach.core import compatibility
from otel_coach.metrics.aggregation import NO_CONTEXT

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_coach.core.asgi_types import Scope


class _HeaderGetter(Getter["Scope"]):
    """Reads propagation headers (traceparent, baggage) from an ASGI scope."""

    def get(self, carrier: Scope, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1")
        values = [
            value.decode("latin-1") for name, value in carrier["headers"] if name.lower() == wanted
        ]
        return values or None

    def keys(self, carrier: Scope) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier["headers"]]


_HEADERS: Final = _HeaderGetter()
_W3C: Final = (TraceContextTextMapPropagator, W3CBaggagePropagator)
"""Propagators that read only the headers named in their `fields`."""


class IncomingContext:
    """Extracts contexts; skips the propagator if a request has no header that it reads."""

    def __init__(self) -> None:
        self._propagator: object = None
        self._headers: frozenset[bytes] | None = None

    def of(self, scope: Scope) -> Context:
        """Returns the context that the headers of `scope` carry."""
        propagator = propagate.get_global_textmap()
        if propagator is not self._propagator:
            self._propagator, self._headers = propagator, _headers_of(propagator)
        read = self._headers
        if read is None:
            return propagate.extract(scope, NO_CONTEXT, _HEADERS)
        for name, _ in scope["headers"]:
            if name in read:
                return propagate.extract(scope, NO_CONTEXT, _HEADERS)
        return NO_CONTEXT

    def links_of(self, scope: Scope) -> list[Link] | None:
        """Returns a span link to the trace of an untrusted caller, None if `scope` has no trace."""
        # A dict, not the scope: nothing is extracted from the scope of an untrusted caller.
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        context = propagate.extract(headers, NO_CONTEXT)
        found = get_current_span(context).get_span_context()
        if not found.is_valid:
            return None
        flags = TraceFlags(found.trace_flags)
        return [Link(SpanContext(found.trace_id, found.span_id, is_remote=True, trace_flags=flags))]


def _headers_of(propagator: object) -> frozenset[bytes] | None:
    """Returns the headers that `propagator` reads, None if they are not known."""
    if not compatibility.holds(compatibility.PROPAGATORS):
        return None
    # otel-coach's wrapper (`provider_headers.Withholding`) reads what the host's propagator reads.
    unwrapped = getattr(propagator, "host_propagator", propagator)
    parts = getattr(unwrapped, "_propagators", ()) if type(unwrapped) is CompositePropagator else ()
    if not parts or any(type(part) not in _W3C for part in parts):
        return None
    return frozenset(field.encode() for part in parts for field in part.fields)
