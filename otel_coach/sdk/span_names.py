"""Names of other instrumentations' spans and events, without paths, statements and keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from otel_coach.metrics.labels import is_model_address

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_WORD: Final = 1000
_FIRST_WORD: Final = re.compile(r"\s*+([A-Za-z]++)(?!\S)")
_SAFE_NAME: Final = re.compile(r"[\w.:-]{1,60}( [\w.:-]{1,60})?")


def sql_operation(text: str) -> str:
    """Returns the first word of a statement or span name, in capitals; empty if there is none."""
    found = _FIRST_WORD.match(text, 0, _MAX_WORD)
    return found[1].upper() if found else ""


def safe_event_name(name: str) -> str:
    """Returns the name of an event if it can hold nothing private, else `event`."""
    return name if _SAFE_NAME.fullmatch(name) else "event"


def safe_span_name(name: str, attributes: Mapping[str, Any]) -> str:
    """Returns a name for an instrumentation's span without raw paths, statements and keys."""
    if "db.system" in attributes or "db.system.name" in attributes:
        system = attributes.get("db.system", attributes.get("db.system.name", "db"))
        return sql_operation(name) or str(system)
    method = attributes.get("http.request.method", attributes.get("http.method"))
    if method is not None and "gen_ai.operation.name" not in attributes:
        route = attributes.get("http.route")
        return f"{method} {route}" if route else str(method)
    is_safe = _SAFE_NAME.fullmatch(name) and not any(map(is_model_address, name.split()))
    return name if is_safe else "span"
