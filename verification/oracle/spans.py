"""Compares the exported spans with the same truth, trace by trace."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from verification.oracle.endings import AI_ABORTED, AI_ERROR
from verification.oracle.ways import NO_AI_REQUEST, OUTSIDE, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.support.otlp import ReceivedSpan
    from verification.oracle.expect import Calls
    from verification.oracle.plan import Order

_SERVER: Final = 2
_USER_SPAN: Final = f"{1:016x}"
"""The id of the user's span, which is the parent of the server span."""
_AI: Final = ("chat", "embeddings", "execute_tool", "invoke_agent", "retrieval")
_OUTSIDE: Final = "outside any request"


class Traces:
    """One trace id for each order of one batch, by which the order's spans are found again."""

    def __init__(self) -> None:
        self._sending = secrets.token_hex(8)

    def trace_id(self, order: Order) -> str:
        """Returns the trace id of the order."""
        return f"{self._sending}{order.number + 1:016x}"

    def headers(self, order: Order) -> dict[str, str]:
        """Returns headers with which the service continues that trace (W3C Trace Context)."""
        return {"traceparent": f"00-{self.trace_id(order)}-{_USER_SPAN}-01"}

    def differences(
        self, calls: Mapping[Order, Calls], spans: Iterable[ReceivedSpan], *, stops: bool = False
    ) -> list[str]:
        """Returns one line for each order and kind of span whose number is not as expected.

        `stops` says whether the work of users who leave is stopped.
        """
        by_trace: dict[str, list[ReceivedSpan]] = defaultdict(list)
        for span in spans:
            by_trace[span.trace_id].append(span)
        wanted: dict[str, Counter[str]] = defaultdict(Counter)
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for order, counts in calls.items():
            name = str(order)
            wanted[name][_server_span(order, stops=stops)] += 1
            wanted[_OUTSIDE if order.way.route == OUTSIDE else name] += _ai_spans(order, counts)
            found[name] += _count(by_trace.pop(self.trace_id(order), []))
        # All other traces with AI spans belong to no request.
        for trace in by_trace.values():
            if any(span.name.startswith(_AI) for span in trace):
                found[_OUTSIDE] += _count(trace)
        return [
            f"spans of {name}, {kind}: {found[name][kind]} instead of {wanted[name][kind]}"
            for name in sorted(wanted.keys() | found.keys())
            for kind in sorted(wanted[name].keys() | found[name].keys())
            if found[name][kind] != wanted[name][kind]
        ]


def _server_span(order: Order, *, stops: bool) -> str:
    if order.ending.outcome == AI_ABORTED:
        # Only of AI requests it is said that the client left; and of a retrieval that is stopped.
        is_noticed = not order.way.embeds or (stops and order.way.retrieves)
        return "server aborted" if is_noticed else "server ok"
    # The application answers 200, whatever that hides or is done afterwards: no server error.
    answered = order.way.route in NO_AI_REQUEST or order.ending.name == "hidden"
    failed = order.ending.outcome == AI_ERROR and not answered
    return "server error" if failed else "server ok"


def _ai_spans(order: Order, counts: Calls) -> Counter[str]:
    kinds: Counter[str] = Counter()
    operations = ["embeddings" if order.way.embeds else "chat"]
    if order.way.embeds and order.way.retrieves:
        operations.append("retrieval")  # it ends as the embedding of its query does
    for operation in operations:
        kinds[f"{operation} ok"] = counts.ok
        kinds[f"{operation} error"] = counts.error
        kinds[f"{operation} aborted"] = counts.aborted
    if counts.embedded:
        kinds["embeddings ok"] += len(counts.embedded)
        kinds["retrieval ok"] += len(counts.embedded)
    for entry in counts.finished[: 0 if order.way.embeds else counts.ok]:
        kinds[f"finish reason {_finish_reason(order, entry)}"] += 1
    for entry in counts.answered:
        if entry.tool_call:
            kinds["execute_tool " + ("ok" if entry.tool_call == "weather" else "error")] += 1
    if order.way.route == SOCKET and (counts.all or order.way.agents):
        # The turn's: an error, like that of a server span, only if an exception left it.
        is_hidden = order.ending.name == "hidden"
        kinds[f"websocket {'ok' if is_hidden else order.ending.outcome}"] += 1
    kinds["invoke_agent"] = order.way.agents
    failed = counts.error > order.way.refused_before or order.ending.name == "tool_raises"
    kinds["invoke_agent error"] = order.way.agents if failed else 0
    return +kinds


def _finish_reason(order: Order, entry: Any) -> str:
    if order.way.name.startswith("anthropic"):
        return "end_turn"
    if "responses" in order.way.name:
        return "completed"
    return "tool_calls" if entry.tool_call else "stop"


def _count(trace: list[ReceivedSpan]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    ids = Counter(span.span_id for span in trace)
    kinds["ended twice"] = sum(count > 1 for count in ids.values())
    for span in trace:
        outcome = span.attributes.get("otel_coach.outcome")
        status = "error" if span.is_error else outcome or "ok"
        operation = "server" if span.kind == _SERVER else span.name.partition(" ")[0]
        if operation == "invoke_agent":
            kinds["invoke_agent"] += 1
            kinds["invoke_agent error"] += span.is_error
        else:
            kinds[f"{operation} {status}"] += 1
        if operation == "chat" and status == "ok":
            for reason in span.attributes.get("gen_ai.response.finish_reasons") or ["none"]:
                kinds[f"finish reason {reason}"] += 1
        kinds["error without type"] += span.is_error and not span.attributes.get("error.type")
        kinds["type without error"] += not span.is_error and "error.type" in span.attributes
        kinds["says too much"] += bool(span.status_message or span.events)
        kinds["without parent"] += span.parent_id not in {*ids, _USER_SPAN, ""}
        kinds["ends before it starts"] += span.end < span.start
    return +kinds
