"""A client of Jaeger's query API."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Span:
    """One span in Jaeger. Times are in microseconds."""

    name: str
    span_id: str
    parent_id: str
    start: int
    duration: int
    tags: Mapping[str, object]

    @property
    def is_error(self) -> bool:
        """Whether the span's status is an error."""
        return self.tags.get("otel.status_code") == "ERROR"


@dataclass(frozen=True)
class Trace:
    """One trace in Jaeger."""

    trace_id: str
    spans: tuple[Span, ...]

    @property
    def roots(self) -> tuple[Span, ...]:
        """The spans without their parent in the trace: a single one, unless spans were lost."""
        ids = {span.span_id for span in self.spans}
        return tuple(span for span in self.spans if span.parent_id not in ids)

    def walk(self) -> Iterator[tuple[int, Span]]:
        """Yields each span with its depth, after its parent; siblings in the order of starting."""
        children: defaultdict[str, list[Span]] = defaultdict(list)
        for span in sorted(self.spans, key=lambda span: span.start):
            children[span.parent_id].append(span)

        def below(span: Span, depth: int) -> Iterator[tuple[int, Span]]:
            yield depth, span
            for child in children[span.span_id]:
                yield from below(child, depth + 1)

        for root in self.roots:
            yield from below(root, 0)

    def tree(self) -> tuple[str, ...]:
        """Returns the names of the spans, indented below their parents."""
        return tuple("  " * depth + span.name for depth, span in self.walk())


class Jaeger:
    """A running Jaeger."""

    def __init__(self, url: str, service: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)
        self._service = service

    def traces(self, tags: Mapping[str, str] | None = None) -> list[Trace]:
        """Returns the last traces of the service that have a span with `tags`."""
        parameters: dict[str, Any] = {"service": self._service, "limit": 5000, "lookback": "1h"}
        if tags:
            parameters["tags"] = json.dumps(tags)
        found = self._client.get("/api/traces", params=parameters).json()["data"]
        return [_trace(trace) for trace in found or ()]

    def trace(self, trace_id: str) -> Trace | None:
        """Returns the trace with that id; None if Jaeger does not have it."""
        answer = self._client.get(f"/api/traces/{trace_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        (found,) = answer.json()["data"]
        return _trace(found)


def _trace(found: Mapping[str, Any]) -> Trace:
    return Trace(found["traceID"], tuple(_span(span) for span in found["spans"]))


def _span(span: Mapping[str, Any]) -> Span:
    parents = [ref["spanID"] for ref in span["references"] if ref["refType"] == "CHILD_OF"]
    return Span(
        name=span["operationName"],
        span_id=span["spanID"],
        parent_id=parents[0] if parents else "",
        start=span["startTime"],
        duration=span["duration"],
        tags={tag["key"]: tag["value"] for tag in span["tags"]},
    )
