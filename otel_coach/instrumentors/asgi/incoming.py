"""What a caller's headers say of the trace that his request belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_coach import compatibility
from otel_coach.aggregation import NOWHERE

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from opentelemetry.context import Context

    Scope = MutableMapping[str, Any]


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
"""They read no headers but those that they name as their fields."""


class IncomingContext:
    """What a caller's headers say; without a look into them where none is of the propagator's."""

    def __init__(self) -> None:
        self._propagator: object = None
        self._headers: frozenset[bytes] | None = None

    def of(self, scope: Scope) -> Context:
        """The context that the headers of `scope` hold."""
        propagator = propagate.get_global_textmap()
        if propagator is not self._propagator:
            self._propagator, self._headers = propagator, _headers_of(propagator)
        known = self._headers
        if known is None:
            return propagate.extract(scope, getter=_HEADERS)
        for name, _ in scope["headers"]:
            if name in known:
                return propagate.extract(scope, getter=_HEADERS)
        return NOWHERE

    def links_of(self, scope: Scope) -> list[Link] | None:
        """What stands for the trace of an untrusted caller, if `scope` has one."""
        # Not the scope itself: of that nothing is taken up.
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        context = propagate.extract(headers)
        found = get_current_span(context).get_span_context()
        if not found.is_valid:
            return None
        flags = TraceFlags(found.trace_flags)
        return [Link(SpanContext(found.trace_id, found.span_id, is_remote=True, trace_flags=flags))]


def _headers_of(propagator: object) -> frozenset[bytes] | None:
    """The headers without which `propagator` finds nothing; None where that is not known."""
    if not compatibility.holds(compatibility.PROPAGATORS):
        return None
    # What stands before the host's propagator (`provider_headers`) reads as that one does.
    hosts = getattr(propagator, "hosts", propagator)
    parts = getattr(hosts, "_propagators", ()) if type(hosts) is CompositePropagator else ()
    if not parts or any(type(part) not in _W3C for part in parts):
        return None
    return frozenset(field.encode() for part in parts for field in part.fields)
