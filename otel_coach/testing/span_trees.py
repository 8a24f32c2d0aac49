"""Spans as text: a tree of names, in the order in which they started."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind, StatusCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan


def tree(spans: Sequence[ReadableSpan], attributes: Sequence[str] = ()) -> str:
    """Returns the spans as a tree; a span whose parent is not among them is a root."""
    ids = {_id(span) for span in spans}
    children: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda one: one.start_time or 0):
        parent = 0 if span.parent is None else span.parent.span_id
        children[parent if parent in ids else 0].append(span)
    roots = children[0]
    return "\n".join(line for root in roots for line in _lines(root, children, attributes))


def _lines(
    span: ReadableSpan, children: dict[int, list[ReadableSpan]], attributes: Sequence[str]
) -> Iterator[str]:
    yield _line(span, attributes)
    below = children.get(_id(span), [])
    for child in below:
        is_last = child is below[-1]
        first, *rest = _lines(child, children, attributes)
        yield f"{'└─' if is_last else '├─'} {first}"
        yield from (f"{'   ' if is_last else '│  '}{line}" for line in rest)


def _line(span: ReadableSpan, attributes: Sequence[str]) -> str:
    parts = [span.name]
    if span.kind is not SpanKind.INTERNAL:
        parts.append(f"({span.kind.name.lower()})")
    if span.status.status_code is not StatusCode.UNSET:
        parts.append(span.status.status_code.name)
    known = span.attributes or {}
    parts += [f"{name}={known[name]}" for name in attributes if name in known]
    return " ".join(parts)


def _id(span: ReadableSpan) -> int:
    return 0 if span.context is None else span.context.span_id
