"""After each test: all that started has ended once, as witnesses beside otel-coach counted it."""

import gc
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from opentelemetry.sdk.trace import Span, SpanProcessor
from starlette.applications import Starlette

from otel_coach.sdk.deferred_spans import DeferredSpan
from tests.support.waiting import eventually

_MARK = "tests.witnessed"


class StartedRuns(BaseCallbackHandler):
    """Counts the starts of runs, from any thread: as most handlers, not inline."""

    def __init__(self):
        self._lock = threading.Lock()

    def on_chat_model_start(self, *args, **kwargs):
        self._count("LLM calls")

    def on_llm_start(self, *args, **kwargs):
        self._count("LLM calls")

    def on_tool_start(self, *args, **kwargs):
        self._count("tools")

    def on_retriever_start(self, *args, **kwargs):
        self._count("retrievals")

    def _count(self, what):
        with self._lock:
            started[what] += 1


class EndedSpans(SpanProcessor):
    """Counts the ends of spans; a processor that saw their start would have them made otherwise."""

    def __init__(self):
        self.count = 0

    def on_end(self, span):
        self.count += 1


@contextmanager
def spans_counted():
    """The spans that start inside, ours and others'."""
    ours, theirs = DeferredSpan.__init__, Span.start
    started_spans = Counter()

    def making(self, *args, **kwargs):
        started_spans[type(self).__name__] += 1
        ours(self, *args, **kwargs)

    def starting(self, *args, **kwargs):
        started_spans[type(self).__name__] += 1
        theirs(self, *args, **kwargs)

    DeferredSpan.__init__, Span.start = making, starting
    try:
        yield started_spans
    finally:
        DeferredSpan.__init__, Span.start = ours, theirs


started = Counter()
"""What started since the test began; a test takes away what LangChain's cache answered."""
_handler = StartedRuns()
register_configure_hook(ContextVar("tests_runs", default=_handler), inheritable=True)


@contextmanager
def requests_counted():
    """Count the requests that reach an application, a mounted one's only once."""
    bare = Starlette.__call__

    async def counting(self, scope, receive, send):
        if scope["type"] == "http" and _MARK not in scope and not _is_scrape(scope):
            started["requests"] += 1
        scope[_MARK] = True
        await bare(self, scope, receive, send)

    Starlette.__call__ = counting
    try:
        yield
    finally:
        Starlette.__call__ = bare


def _is_scrape(scope):
    return scope["path"] == "/metrics" and scope["method"] in {"GET", "HEAD"}


@contextmanager
def conserved(measured):
    """All that starts inside is recorded once when it has ended."""
    ended = EndedSpans()
    measured.installation.providers.tracer_provider.add_span_processor(ended)
    started.clear()
    with requests_counted(), spans_counted() as started_spans:
        yield

    def at_rest():
        return finished(measured) == +started and started_spans.total() == ended.count

    with suppress(AssertionError):
        eventually(lambda: at_rest() or (gc.collect() >= 0 and at_rest()))
    assert finished(measured) == +started
    assert started_spans.total() == ended.count, f"{started_spans} started, {ended.count} ended"


def finished(measured):
    page = measured.page()
    assert page.sum("app_ai_streams_active") == 0
    return +Counter(
        {
            "LLM calls": int(page.sum("agent_llm_requests_total")),
            "tools": int(page.sum("agent_tool_calls_total")),
            "retrievals": int(page.sum("agent_retrieval_requests_total")),
            "requests": int(page.sum("http_server_request_duration_seconds_count")),
        }
    )
