"""What Jaeger says: its query API, asked over HTTP."""

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
    """One span as Jaeger has it. Times are microseconds."""

    name: str
    span_id: str
    parent_id: str
    start: int
    duration: int
    tags: Mapping[str, object]

    @property
    def is_error(self) -> bool:
        """Whether its status is an error."""
        return self.tags.get("otel.status_code") == "ERROR"


@dataclass(frozen=True)
class Trace:
    """One trace as Jaeger has it."""

    trace_id: str
    spans: tuple[Span, ...]

    @property
    def roots(self) -> tuple[Span, ...]:
        """The spans whose parent is not among them: one, unless something was lost."""
        ids = {span.span_id for span in self.spans}
        return tuple(span for span in self.spans if span.parent_id not in ids)

    def walk(self) -> Iterator[tuple[int, Span]]:
        """Each span with its depth, after its parent, in the order of their starts."""
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
        """The names, indented below their parents."""
        return tuple("  " * depth + span.name for depth, span in self.walk())


class Jaeger:
    """A running Jaeger."""

    def __init__(self, url: str, service: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)
        self._service = service

    def traces(self, tags: Mapping[str, str] | None = None) -> list[Trace]:
        """The last traces of the service that have a span with `tags`."""
        parameters: dict[str, Any] = {"service": self._service, "limit": 5000, "lookback": "1h"}
        if tags:
            parameters["tags"] = json.dumps(tags)
        found = self._client.get("/api/traces", params=parameters).json()["data"]
        return [_trace(one) for one in found or ()]

    def trace(self, trace_id: str) -> Trace | None:
        """The trace of that id; None if Jaeger does not have it."""
        answer = self._client.get(f"/api/traces/{trace_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        (found,) = answer.json()["data"]
        return _trace(found)


def _trace(found: Mapping[str, Any]) -> Trace:
    return Trace(found["traceID"], tuple(_span(span) for span in found["spans"]))


def _span(span: Mapping[str, Any]) -> Span:
    parents = [one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"]
    return Span(
        name=span["operationName"],
        span_id=span["spanID"],
        parent_id=parents[0] if parents else "",
        start=span["startTime"],
        duration=span["duration"],
        tags={tag["key"]: tag["value"] for tag in span["tags"]},
    )
