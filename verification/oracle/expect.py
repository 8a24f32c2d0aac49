"""Computes what must be measured, from the plan, the provider's ledger and the users' notes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any, Final

from tests.support.versions import STREAMS_TELL_PARTS
from verification.oracle.endings import AI_ABORTED
from verification.oracle.ways import BACKGROUND, NO_AI_REQUEST, SOCKET, STREAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_coach.testing import Page
    from verification.oracle.plan import Order
    from verification.oracle.received import Received

Figures = dict[str, float]

_CALLS = "agent_llm_requests_total"
_EMBEDDINGS = "agent_embedding_requests_total"
_LOWEST_ERROR_STATUS: Final = 400
_PRICES: Final = {
    "claude-3-5-haiku-latest": (0.8, 0.08, 4),
    "gpt-3.5-turbo": (0.5, 0.5, 1.5),
    "gpt-4o-mini": (0.15, 0.075, 0.6),
}
"""US dollars per million tokens, as the providers publish them: input, cached input, output."""
_USD_OF_EMBEDDINGS: Final = 0.02
"""US dollars per million tokens of text-embedding-3-small."""


@dataclass
class Calls:
    """How many calls of each kind one order made, as the provider and the witness saw them."""

    ok: int
    error: int
    aborted: int
    begun: int
    """Streams of which the first chunk was read."""
    refused: int
    """Calls that failed before their first chunk."""
    answered: list[Any] = field(default_factory=list)
    """The ledger's entries of the answers that were read to their end."""
    finished: list[Any] = field(default_factory=list)
    """The ledger's entries of the answers whose finish reason was read."""
    embedded: list[Any] = field(default_factory=list)
    """The ledger's entries of the calls that an embedding model answered besides, all ok."""

    @property
    def all(self) -> int:
        """The number of all calls."""
        return self.ok + self.error + self.aborted

    @property
    def told(self) -> int:
        """The number of calls whose answer reported its usage."""
        return sum(entry.usage_sent for entry in self.answered)


def calls_of(
    orders: Iterable[Order],
    ledger: Iterable[Any],
    heard: Iterable[Mapping[str, Any]],
    *,
    stops: bool = False,
) -> dict[Order, Calls]:
    """Returns the calls of each order; `stops` says whether those of a user who leaves are stopped.

    `ledger` is the provider's record, `heard` the witness's: the requests of the service to the
    provider, in the order in which they were sent, and how much of each answer was read.
    """
    entries, asked = _by_user(ledger, lambda e: e.user), _by_user(heard, lambda h: h["user"])
    found: dict[Order, Calls] = {}
    for order in orders:
        own = entries[str(order.number)]
        calls = [entry for entry in own if (entry.kind == "embeddings") == order.way.embeds]
        found[order] = _calls(order, calls, asked[str(order.number)], stops=stops)
        beside = [entry for entry in own if (entry.kind == "embeddings") != order.way.embeds]
        found[order].embedded = beside
    return found


def _calls(
    order: Order, entries: list[Any], asked: list[Mapping[str, Any]], *, stops: bool
) -> Calls:
    """Returns the calls of one order. All calls that its ending applies to end in the same way."""
    read = sum(request["read_to_end"] for request in asked)
    begun = sum(request["streamed"] and request["chunks"] > 0 for request in asked)
    unanswered = sum(request["failed"] for request in asked)
    outcomes = Counter(entry.outcome for entry in entries)
    # An error response that was not read, because the call was cancelled meanwhile, ended no call.
    refused = sum(
        request["status"] >= _LOWEST_ERROR_STATUS and request["read_to_end"] for request in asked
    )
    complete = [entry for entry in entries if entry.outcome == "complete"]
    failed = refused + outcomes["cut"] + outcomes["garbled"]
    cut = order.ending.cut and not order.outlives and not failed
    finished = [request["streamed"] and request["finished"] for request in asked]
    is_stopped = stops and order.ending.leaves and order.way.route != BACKGROUND
    if failed:
        ok = outcomes["complete"]
    elif is_stopped:  # wherever it was; a call in a worker thread goes on to its end
        finished = [r["finished"] if r["streamed"] else r["read_to_end"] for r in asked]
        cut, ok = True, sum(finished)
    elif cut:
        # The reader stopped; all there was to read of an answer is over with its finish reason.
        ok = sum(finished)
    else:
        ok = read
    error = failed + unanswered
    return Calls(
        ok=ok,
        error=error + order.way.refused_before,
        aborted=len(asked) - ok - error,
        begun=begun,
        refused=error + order.way.refused_before - (begun if failed else 0),
        # An answer that was read to its end reported its usage, even if the call was aborted.
        answered=complete[: read if cut else max(ok, read)],
        finished=[*compress(entries, finished)] if cut else complete[:ok],
    )


def _by_user(notes: Iterable[Any], user: Callable[[Any], str]) -> dict[str, list[Any]]:
    found_by_user: dict[str, list[Any]] = defaultdict(list)
    for note in notes:
        found_by_user[user(note)].append(note)
    return found_by_user


def expected(calls: Mapping[Order, Calls], received: Received) -> Figures:
    """Returns every expected value by name; `found` returns the page's by the same names."""
    figures: Counter[str] = Counter()
    for order, order_calls in calls.items():
        (_count_embeddings if order.way.embeds else _count_calls)(figures, order_calls)
        figures["embeddings ok"] += len(order_calls.embedded)
        figures["embedding latency"] += len(order_calls.embedded)
        _count_embedded(figures, order_calls.embedded)
        if order.way.retrieves:
            _count_retrievals(figures, order, order_calls)
        # On a busy machine, a call may be cancelled before it starts: then there was no AI work.
        is_ai = order.way.route not in NO_AI_REQUEST and not order.way.embeds
        if is_ai and (order_calls.all or order.way.agents):
            figures[f"AI requests {order.ending.outcome}"] += 1
        left = order.ending.outcome == AI_ABORTED and order.way.route in {STREAM, SOCKET}
        figures["aborts"] += left
        if is_ai and order.number in received.left:
            _count_abandoned(figures, order_calls, received.left[order.number])
    for (endpoint, status), count in received.statuses.items():
        figures[f"HTTP {endpoint} {status}"] = count
    for endpoint, chunks in received.chunks.items():
        figures[f"chunks {endpoint}"] = chunks
    figures["first chunks"] = received.first_chunks
    figures["streams open"] = 0
    figures["faults"] = 0
    return dict(figures)


def _count_calls(figures: Counter[str], order_calls: Calls) -> None:
    figures["LLM calls ok"] += order_calls.ok
    figures["LLM calls error"] += order_calls.error
    figures["LLM calls aborted"] += order_calls.aborted
    figures["LLM calls"] += order_calls.all
    figures["LLM latency"] += order_calls.all
    figures["first tokens"] += order_calls.begun
    for entry in order_calls.answered:
        if entry.usage_sent:
            figures["prompt tokens"] += entry.prompt_tokens
            figures["completion tokens"] += entry.completion_tokens
            if _tells_parts(entry):
                figures["cached tokens"] += entry.cached_tokens
                if not entry.model.startswith("claude"):  # Anthropic does not report them
                    figures["reasoning tokens"] += entry.reasoning_tokens
            figures["microdollars"] += _microdollars(entry)
        if entry.tool_call:
            figures["tools ok" if entry.tool_call == "weather" else "tools error"] += 1
    figures["calls measured or refused"] += order_calls.told + order_calls.refused


def _count_abandoned(figures: Counter[str], order_calls: Calls, left: float) -> None:
    """Calls that ended after their user had left, at `left` in seconds since the epoch."""
    for entry in order_calls.answered:
        if entry.usage_sent and entry.ended > left:
            figures["abandoned tokens"] += entry.prompt_tokens + entry.completion_tokens
            figures["abandoned microdollars"] += _microdollars(entry)


def _count_embeddings(figures: Counter[str], order_calls: Calls) -> None:
    figures["embeddings ok"] += order_calls.ok
    figures["embeddings error"] += order_calls.error
    figures["embeddings aborted"] += order_calls.aborted
    figures["embedding latency"] += order_calls.all
    figures["calls measured or refused"] += order_calls.refused
    _count_embedded(figures, order_calls.answered)


def _count_embedded(figures: Counter[str], answered: Iterable[Any]) -> None:
    """LangChain passes no usage of embedding models on; the answer that the client beneath has."""
    for entry in answered:
        if entry.usage_sent:
            figures["calls measured or refused"] += 1
            figures["embedded tokens"] += entry.prompt_tokens
            figures["microdollars"] += entry.prompt_tokens * _USD_OF_EMBEDDINGS


def _count_retrievals(figures: Counter[str], order: Order, order_calls: Calls) -> None:
    """A retrieval ends as the embedding of its query does."""
    if order.way.embeds:
        figures["retrievals ok"] += order_calls.ok
        figures["retrievals error"] += order_calls.error
        figures["retrievals aborted"] += order_calls.aborted
    else:
        figures["retrievals ok"] += len(order_calls.embedded)


def found(page: Page) -> Figures:
    """Returns the page's values by name, as totals since the service started."""
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
    figures["abandoned tokens"] = page.sum("app_ai_abandoned_tokens_total")
    figures["abandoned microdollars"] = page.sum("app_ai_abandoned_cost_usd_total") * 1e6
    figures["embedded tokens"] = page.sum("agent_llm_tokens_total", mode="embedding")
    figures["embedding latency"] = page.sum("agent_embedding_latency_seconds_count")
    for status in ("ok", "error", "aborted"):
        figures[f"embeddings {status}"] = page.sum(_EMBEDDINGS, status=status)
        figures[f"retrievals {status}"] = page.sum("agent_retrieval_requests_total", status=status)
    calls = page.sum(_CALLS) + page.sum(_EMBEDDINGS)
    figures["calls measured or refused"] = calls - page.sum("agent_llm_unmeasured_total")
    figures["first tokens"] = page.sum("agent_llm_time_to_first_token_seconds_count")
    figures["tools ok"] = page.sum("agent_tool_calls_total", status="ok")
    figures["tools error"] = page.sum("agent_tool_calls_total", status="error")
    figures["aborts"] = page.sum("app_ai_stream_aborts_total")
    for labels, value in page.samples("http_server_request_duration_seconds_count"):
        if labels["endpoint"] not in {"/health", "/witness", "/witness/answers", "/collect"}:
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
    """Returns one line for each value that did not increase by what was `wanted`."""
    lines: list[str] = []
    for name in sorted(after.keys() | wanted.keys()):
        increase = after.get(name, 0) - before.get(name, 0)
        if abs(increase - wanted.get(name, 0)) > 1e-3:  # noqa: PLR2004 - of a microdollar
            lines.append(f"{name}: {increase:g} instead of {wanted.get(name, 0):g}")
    return lines


def _microdollars(entry: Any) -> float:
    fresh, cached, output = _PRICES[entry.model]
    if entry.model == "gpt-3.5-turbo":
        cached = fresh  # this model has no separate price for cached input
    if not _tells_parts(entry):
        cached = fresh
    prompt = (entry.prompt_tokens - entry.cached_tokens) * fresh + entry.cached_tokens * cached
    return prompt + entry.completion_tokens * output


def _tells_parts(entry: Any) -> bool:
    """Returns whether the parts of the prompt and the answer are known, not only the sums."""
    by_langchain = entry.model == "gpt-3.5-turbo"
    return STREAMS_TELL_PARTS or not entry.stream or not by_langchain
