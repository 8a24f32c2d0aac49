"""What the middleware keeps of each application, and who makes its server spans."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otel_coach.instrumentors.asgi.routes import OwnPage, Routes

if TYPE_CHECKING:
    from collections.abc import Iterator

_logger = logging.getLogger("otel_coach")


class KnownApplication:
    """State of an application, kept from its first event on."""

    __slots__ = (
        "app",
        "has_own_server_spans",
        "is_traced_outside",
        "may_rewrite",
        "page",
        "routes",
    )

    def __init__(self, app: object) -> None:
        self.app = weakref.ref(app)
        self.routes = Routes()
        self.page = OwnPage()
        self.may_rewrite = False
        """Whether a middleware may rewrite paths, so that it is noted which one the router gets."""
        self.has_own_server_spans: bool | None = None
        """Whether another instrumentation makes the server spans; None before the first request."""
        self.is_traced_outside = False
        """Whether a middleware around it has made the server span of a request."""


def has_own_server_spans(app: Any) -> bool:
    """Returns whether a contrib middleware in the stack of `app` makes the server spans."""
    if app.middleware_stack is None:
        app.middleware_stack = app.build_middleware_stack()
    if any(map(_is_contrib, _stack(app))):
        return True
    if hasattr(app, "_native_telemetry"):
        _logger.info("otel-coach: FastAPI's built-in telemetry gives way to otel-coach")
    return False


def is_server_span(span: trace.Span) -> bool:
    """Returns whether `span` is a server span that other code than otel-coach has made."""
    scope: Any = getattr(span, "instrumentation_scope", None)
    is_ours = scope is None or scope.name == "otel_coach"
    return not is_ours and getattr(span, "kind", None) is trace.SpanKind.SERVER


def _stack(app: Any) -> Iterator[object]:
    """Yields the middlewares of `app`, outermost first."""
    inside = app.middleware_stack
    while inside is not None:
        yield inside
        inside = getattr(inside, "app", None)


def _is_contrib(middleware: object) -> bool:
    cls = type(middleware)
    return (cls.__module__, cls.__name__) == (
        "opentelemetry.instrumentation.asgi",
        "OpenTelemetryMiddleware",
    )
