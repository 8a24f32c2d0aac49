"""Whether another instrumentation makes the span of a call; otel-coach then makes none.

otel-coach counts the call in any case.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otel_coach.core.known_scopes import calls_a_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

    Instrumentation = tuple[str, str]
    """The module and the name of another package's instrumentor."""


def another_makes_the_span(instrumentations: Iterable[Instrumentation]) -> bool:
    """Whether the current span, or that of one of the `instrumentations`, stands for the call.

    Most instrumentations make their span current during the call. openllmetry's do not always, so
    this also checks whether one of the `instrumentations` is active.
    """
    span: Any = trace.get_current_span()
    # The API's own spans have no instrumentation scope; spans that can be exported have one.
    scope = getattr(span, "instrumentation_scope", None)
    if calls_a_provider(getattr(scope, "name", "")) and span.is_recording():
        return True
    return any(_is_active(*one) for one in instrumentations)


def _is_active(module: str, name: str) -> bool:
    cls: Any = getattr(sys.modules.get(module), name, None)
    if cls is None:
        return False
    # `cls()` would run __init__ again on the one instance, with other arguments than the host's.
    return bool(cls.__new__(cls).is_instrumented_by_opentelemetry)
