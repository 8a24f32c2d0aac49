"""What must be measured: from the plan, the provider's ledger and the users' notes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from demo.versions import STREAMS_TELL_PARTS
from oracle.matrix import AI_ABORTED, NO_AI_REQUEST, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oracle.plan import Order
    from oracle.received import Received
    from otel_coach.testing import Page

Figures = dict[str, float]

_CALLS = "agent_llm_requests_total"
_REFUSED: Final = 400
_PRICES: Final = {"gpt-3.5-turbo": (0.5, 0.5, 1.5), "gpt-4o-mini": (0.15, 0.075, 0.6)}
"""US dollars for a million tokens: input, cached input, output. As OpenAI publishes them."""


@dataclass
class Calls:
    """What the provider and the witness know about the LLM calls of one order."""

    ok: int
    error: int
    aborted: int
    begun: int
    """Streamed, and their first chunk was read."""
    refused: int
    """In error before their first chunk."""
    answered: list[Any] = field(default_factory=list)
    """The ledger's entries of answers that were read to their end."""

    @property
    def all(self) -> int:
        """How many there were."""
        return self.ok + self.error + self.aborted

    @property
    def told(self) -> int:
        """How many brought their usage."""
        return sum(entry.usage_sent for entry in self.answered)


def calls_of(
    orders: Iterable[Order], ledger: Iterable[Any], heard: Iterable[Mapping[str, Any]]
) -> dict[Order, Calls]:
    """The calls by order.

    `ledger` is the provider's, `heard` the witness's: what the service asked its provider and
    how much of each answer it read, in the order of its asking.
    """
    entries, asked = _by_user(ledger, lambda e: e.user), _by_user(heard, lambda h: h["user"])
    return {
        order: _calls(order, entries[str(order.number)], asked[str(order.number)])
        for order in orders
    }


def _calls(order: Order, entries: list[Any], asked: list[Mapping[str, Any]]) -> Calls:
    """The calls of one order. All that it asks for at the end of its way ends alike."""
    read = sum(one["read_to_end"] for one in asked)
    begun = sum(one["streamed"] and one["chunks"] > 0 for one in asked)
    unanswered = sum(one["failed"] for one in asked)
    outcomes = Counter(entry.outcome for entry in entries)
    # A refusal that nobody read, because the call was cancelled meanwhile, ended no call.
    refused = sum(one["status"] >= _REFUSED and one["read_to_end"] for one in asked)
    failed = refused + outcomes["cut"] + outcomes["garbled"]
    if failed:
        ok = outcomes["complete"]
    elif order.ending.cut and not order.outlives:
        ok = 0  # who read it had enough, however much was read by then
    else:
        ok = read
    error = failed + unanswered
    return Calls(
        ok=ok,
        error=error + order.way.refused_before,
        aborted=len(asked) - ok - error,
        begun=begun,
        refused=error + order.way.refused_before - (begun if failed else 0),
        # What was read to its end brought its usage, also where nobody wanted it any more.
        answered=[entry for entry in entries if entry.outcome == "complete"][: max(ok, read)],
    )


def _by_user(notes: Iterable[Any], user: Callable[[Any], str]) -> dict[str, list[Any]]:
    found_by_user: dict[str, list[Any]] = defaultdict(list)
    for note in notes:
        found_by_user[user(note)].append(note)
    return found_by_user


def expected(calls: Mapping[Order, Calls], received: Received) -> Figures:
    """Every figure by a name of its own; `found` gives the page's under the same names."""
    figures: Counter[str] = Counter()
    for order, made in calls.items():
        _count_calls(figures, made)
        # On a busy machine a call may be cancelled before it began: then there was no AI work.
        if order.way.route not in NO_AI_REQUEST and (made.all or order.way.agents):
            figures[f"AI requests {order.ending.outcome}"] += 1
        left = order.ending.outcome == AI_ABORTED and order.way.route == STREAM
        figures["aborts"] += left
    for (endpoint, status), count in received.statuses.items():
        figures[f"HTTP {endpoint} {status}"] = count
    for endpoint, chunks in received.chunks.items():
        figures[f"chunks {endpoint}"] = chunks
    figures["first chunks"] = received.first_chunks
    figures["streams open"] = 0
    figures["faults"] = 0
    return dict(figures)


def _count_calls(figures: Counter[str], made: Calls) -> None:
    figures["LLM calls ok"] += made.ok
    figures["LLM calls error"] += made.error
    figures["LLM calls aborted"] += made.aborted
    figures["LLM calls"] += made.all
    figures["LLM latency"] += made.all
    figures["first tokens"] += made.begun
    for entry in made.answered:
        if entry.usage_sent:
            figures["prompt tokens"] += entry.prompt_tokens
            figures["completion tokens"] += entry.completion_tokens
            if STREAMS_TELL_PARTS or not entry.stream:
                figures["cached tokens"] += entry.cached_tokens
                figures["reasoning tokens"] += entry.reasoning_tokens
            figures["microdollars"] += _microdollars(entry)
        if entry.tool_call:
            figures["tools ok" if entry.tool_call == "weather" else "tools error"] += 1
    figures["LLM calls measured or refused"] += made.told + made.refused


def found(page: Page) -> Figures:
    """The page's own figures, summed up since its service started."""
    figures: Figures = {"LLM calls": page.sum(_CALLS)}
    for status in ("ok", "error", "aborted"):
        figures[f"LLM calls {status}"] = page.sum(_CALLS, status=status)
        figures[f"AI requests {status}"] = page.sum(
            "app_ai_request_duration_seconds_count", status=status
        )
    figures["LLM latency"] = page.sum("agent_llm_latency_seconds_count")
    figures["prompt tokens"] = page.sum("agent_llm_tokens_total", mode="prompt")
    figures["completion tokens"] = page.sum("agent_llm_tokens_total", mode="completion")
    figures["cached tokens"] = page.sum("agent_llm_cached_tokens_total")
    figures["reasoning tokens"] = page.sum("agent_llm_reasoning_tokens_total")
    figures["microdollars"] = page.sum("agent_llm_cost_usd_total") * 1e6
    unmeasured = page.sum("agent_llm_unmeasured_total")
    figures["LLM calls measured or refused"] = page.sum(_CALLS) - unmeasured
    figures["first tokens"] = page.sum("agent_llm_time_to_first_token_seconds_count")
    figures["tools ok"] = page.sum("agent_tool_calls_total", status="ok")
    figures["tools error"] = page.sum("agent_tool_calls_total", status="error")
    figures["aborts"] = page.sum("app_ai_stream_aborts_total")
    for labels, value in page.samples("http_server_request_duration_seconds_count"):
        if labels["endpoint"] not in {"/health", "/witness", "/collect"}:
            figures[f"HTTP {labels['endpoint']} {labels['status']}"] = value
    for endpoint in {
        labels["endpoint"] for labels, _ in page.samples("app_ai_stream_chunks_total")
    }:
        figures[f"chunks {endpoint}"] = sum(
            page.sum("app_ai_stream_chunks_total", endpoint=endpoint, status=status)
            for status in ("ok", "error")
        )
    figures["first chunks"] = page.sum("app_ai_time_to_first_chunk_seconds_count")
    figures["streams open"] = page.sum("app_ai_streams_active")
    figures["faults"] = page.sum("otel_coach_errors_total")
    return figures


def difference(before: Figures, after: Figures, wanted: Figures) -> list[str]:
    """A line for each figure that did not gain what it should have."""
    lines: list[str] = []
    for name in sorted(after.keys() | wanted.keys()):
        gained = after.get(name, 0) - before.get(name, 0)
        if abs(gained - wanted.get(name, 0)) > 1e-3:  # noqa: PLR2004 - of a microdollar
            lines.append(f"{name}: {gained:g} instead of {wanted.get(name, 0):g}")
    return lines


def _microdollars(entry: Any) -> float:
    fresh, cached, output = _PRICES[entry.model]
    if entry.model == "gpt-3.5-turbo":
        cached = fresh  # it has no price of its own for cached input
    if entry.stream and not STREAMS_TELL_PARTS:
        cached = fresh
    prompt = (entry.prompt_tokens - entry.cached_tokens) * fresh + entry.cached_tokens * cached
    return prompt + entry.completion_tokens * output
