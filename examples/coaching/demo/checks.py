"""Compares /metrics after one round with the provider's ledger and the users' own notes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from otel_coach.metrics.catalogue import CATALOGUE, InstrumentKind
from tests.support.users import ADVANCED, CHAT, LEGACY, PLAN, TALK, Notes
from tests.support.versions import STREAMS_TELL_PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_coach.testing import Page
    from tests.support.stack import Provider


class Sums(Protocol):
    """A source of metrics: a page, or a Prometheus that scraped one."""

    def sum(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples called `name` that have `labels`."""
        ...


AI_ENDPOINTS = (CHAT, LEGACY, PLAN, ADVANCED)
_AUTH_FAILURES = (401, 403)
_METHOD_NOT_ALLOWED = 405
MAX_REST = 8.0
"""Seconds that a run may continue after its user has left, and that spans may take to arrive."""
_INTERVAL = 0.5
_Value = TypeVar("_Value")


def at_rest(
    look: Callable[[], _Value], is_right: Callable[[_Value], bool], within: float = MAX_REST
) -> _Value:
    """Calls `look` until its result `is_right` or `within` seconds are over; returns the result."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if is_right(found) or time.monotonic() > deadline:
            return found
        time.sleep(_INTERVAL)


NOT_USED = ("agent_embedding_", "agent_retrieval_", "app_ai_stopped_runs")
"""How families begin that the service never fills: it has no embedding model and no retriever, and
the work of those who left is not stopped."""


def missing_at_rest(page: Callable[[], Page], notes: Notes, provider: Provider) -> list[str]:
    """Returns what `missing` does once everything has ended: runs may outlive their users."""
    return at_rest(lambda: missing(page(), notes, provider.ledger), lambda lines: not lines)


def missing(page: Page, notes: Notes, ledger: list[Any]) -> list[str]:
    """Returns one line for each metric that is missing or wrong on the page."""
    return [*_missing_families(page), *_wrong_sums(page, notes, ledger)]


def _missing_families(page: Page) -> Iterator[str]:
    for metric in CATALOGUE:
        name = metric.prometheus_name
        sample = f"{name}_count" if metric.kind is InstrumentKind.HISTOGRAM else name
        samples = page.samples(sample)
        if not samples and not name.startswith(NOT_USED):
            yield f"{name} is not there"
        for labels, _ in samples:
            if set(labels) != set(metric.labels):
                yield f"{name} has the labels {sorted(labels)}"


def _wrong_sums(page: Page, notes: Notes, ledger: list[Any]) -> Iterator[str]:
    for what, expected, found in expectations(page, notes, ledger):
        if expected != found:
            yield f"{what}: {found:g} instead of {expected:g}"


def expectations(page: Sums, notes: Notes, ledger: list[Any]) -> Iterator[tuple[str, float, float]]:
    """Yields (what is compared, its value by the ledger or the notes, its value on the page)."""
    reported = [entry for entry in ledger if entry.usage_sent and entry.outcome == "complete"]
    tokens = "agent_llm_tokens_total"
    yield "LLM calls", len(ledger), page.sum("agent_llm_requests_total")
    prompt = sum(entry.prompt_tokens for entry in reported)
    yield "prompt tokens", prompt, page.sum(tokens, mode="prompt")
    completion = sum(entry.completion_tokens for entry in reported)
    yield "completion tokens", completion, page.sum(tokens, mode="completion")
    with_details = [entry for entry in reported if STREAMS_TELL_PARTS or not entry.stream]
    cached = sum(entry.cached_tokens for entry in with_details)
    yield "cached tokens", cached, page.sum("agent_llm_cached_tokens_total")
    reasoning = sum(entry.reasoning_tokens for entry in with_details)
    yield "reasoning tokens", reasoning, page.sum("agent_llm_reasoning_tokens_total")
    tools = sum(entry.tool_call is not None for entry in ledger)
    yield "tool calls", tools, page.sum("agent_tool_calls_total")
    aborts = "app_ai_stream_aborts_total"
    for endpoint in AI_ENDPOINTS:
        yield f"aborts {endpoint}", notes.left[endpoint], page.sum(aborts, endpoint=endpoint)
    yield f"aborts {TALK}", notes.left[TALK], page.sum(aborts, endpoint=TALK)
    turns = page.sum("app_ai_request_duration_seconds_count", endpoint=TALK)
    yield "turns by WebSocket", notes.turns, turns
    refused: dict[str, int] = {TALK: notes.refused_talks}
    for (endpoint, method, status), count in notes.answers.items():
        name = "http_server_request_duration_seconds_count"
        # The page shows a method that the route does not answer as `_OTHER`.
        label = "_OTHER" if status == _METHOD_NOT_ALLOWED else method
        found = page.sum(name, endpoint=endpoint, method=label, status=str(status))
        yield f"{label} {endpoint} {status}", count, found
        if status in _AUTH_FAILURES:
            refused[endpoint] = refused.get(endpoint, 0) + count
    for endpoint, count in refused.items():
        yield f"auth failures {endpoint}", count, page.sum("auth_failures_total", endpoint=endpoint)
    limited = sum(count for (_, _, status), count in notes.answers.items() if status == 429)  # noqa: PLR2004
    yield "429", limited, page.sum("rate_limit_hits_total")
    yield "dependency_up", 1, page.sum("dependency_up", dependency_name="postgres_django")
    yield "faults", 0, page.sum("otel_coach_errors_total")
    yield "streams open", 0, page.sum("app_ai_streams_active")
    yield "WebSockets open", 0, page.sum("app_websockets_active")
