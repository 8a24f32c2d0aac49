"""What integrations hand over, written down once, for tests that have none of their packages."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from tests.support.paths import SUPPORT
from tests.support.providers.integrations import INTEGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SHAPES: Final = SUPPORT / "providers" / "shapes.jsonl"
_LEFT_OUT: Final = frozenset({"HTTPHeaders", "tools", "default_headers"})
_OF_THIS_RUN: Final = (
    (re.compile(r" at 0x[0-9a-f]+"), ""),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:11434"),
    (re.compile(r"/[^' ]*/site-packages/"), ""),
)
"""Addresses of objects, ports and folders, which are others each time."""
_MAX_TEXT: Final = 600


def write(path: Path, outcomes: Mapping[tuple[str, str], Any]) -> None:
    """Writes a line for each integration and way of calling that made one call."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in _lines(outcomes)))


def _lines(outcomes: Mapping[tuple[str, str], Any]) -> Iterator[dict[str, Any]]:
    for (name, way), outcome in outcomes.items():
        integration = INTEGRATIONS[name]
        (call,), (start,), (end,) = outcome.calls, outcome.handed.starts, outcome.handed.ends
        counts = ("prompt", "completion", "cached", "reasoning", "finish", "is_stream")
        price = integration.price
        yield {
            "name": name,
            "way": way,
            "ledger": {key: getattr(call, key) for key in counts},
            "withheld": [key for key, ways in integration.withholds.items() if way in ways],
            "provider": integration.provider,
            "model": integration.model,
            "price": price and [price.prompt, price.completion, price.cached, price.request],
            "stated_cost": integration.stated_cost,
            "start": _plain(start),
            "chunks": [_plain(chunk) for chunk in outcome.handed.chunks],
            "end": _plain(end),
        }


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        for pattern, instead in _OF_THIS_RUN:
            value = pattern.sub(instead, value)
        return value[:_MAX_TEXT]
    return value if isinstance(value, int | float | None) else f"<{type(value).__name__}>"
