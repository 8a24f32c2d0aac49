"""A server span that a middleware around the application makes: otel-coach makes no second one."""

import asyncio
import contextvars
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from langchain_core.language_models import FakeListChatModel
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind

from otel_coach.instrumentors.asgi.applications import KnownApplication
from otel_coach.instrumentors.asgi.server_span_start import GIVES_WAY, ServerSpans
from otel_coach.metrics.recorder import Recorder
from otel_coach.settings import Settings
from otel_coach.testing import measuring

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def asked(app, times=1, **headers):
    async def main():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return [(await client.get("/ask", headers=headers)).json() for _ in range(times)]

    # In a context of its own: other tests may have left something in this one's.
    return contextvars.Context().run(asyncio.run, main())


def answering():
    app = FastAPI()

    @app.get("/ask")
    async def ask():
        return (await FakeListChatModel(responses=["hi"]).ainvoke("x")).content

    return app


@pytest.mark.parametrize("headers", [{}, {"traceparent": TRACEPARENT}])
def test_the_middlewares_span_is_the_server_span(measured, headers):
    around = OpenTelemetryMiddleware(
        answering(), tracer_provider=measured.installation.providers.tracer_provider
    )
    assert asked(around, times=2, **headers) == ["hi", "hi"]
    servers = [span for span in measured.spans if span.kind is SpanKind.SERVER]
    chats = [span for span in measured.spans if span.name.startswith("chat")]
    assert len(servers) == len(chats) == 2
    assert {span.context.trace_id for span in chats} == {span.context.trace_id for span in servers}
    assert measured.page().sum("http_server_request_duration_seconds_count") == 2


class Sometimes(Sampler):
    """Samples the first span, and no further one."""

    def __init__(self):
        self._samplers = [ALWAYS_ON]

    def should_sample(self, *args, **kwargs):
        sampler = self._samplers.pop() if self._samplers else ALWAYS_OFF
        return sampler.should_sample(*args, **kwargs)

    def get_description(self):
        return "sometimes"


def test_if_that_span_is_not_sampled_there_is_no_other():
    with measuring() as measured:
        app = answering()
        around = OpenTelemetryMiddleware(app, tracer_provider=TracerProvider(sampler=Sometimes()))
        assert asked(around, times=3) == ["hi"] * 3
        kinds = {span.kind for span in measured.spans}
    assert kinds == {SpanKind.CLIENT}


def test_it_is_said_once_in_a_service():
    announced = []
    spans = ServerSpans(
        Recorder(NoOpMeter("test")), None, "", lambda topic, line: announced.append((topic, line()))
    )
    tracer = TracerProvider().get_tracer("opentelemetry.instrumentation.asgi")
    app = answering()
    with tracer.start_as_current_span("GET", kind=SpanKind.SERVER):
        assert spans.start(SimpleNamespace(app=app), KnownApplication(app), {}) is None
    assert announced == [("server spans", GIVES_WAY)]


def test_an_application_that_another_one_calls_has_a_server_span_of_its_own(measured):
    inner, outer = answering(), FastAPI()

    @outer.get("/ask")
    async def ask():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(inner), base_url="http://inner"
        ) as client:
            return (await client.get("/ask")).json()

    assert asked(outer) == ["hi"]
    assert len([span for span in measured.spans if span.kind is SpanKind.SERVER]) == 2


def test_with_fastapis_spans_only_the_page_has_none():
    """A route of the application may end as the page's path does."""
    with measuring(Settings(server_spans="fastapi")) as measured:
        app = FastAPI()
        app.get("/teams/{team}/metrics")(lambda team: team)
        measured.installation.contrib.load_fastapi(app)
        client = TestClient(app)
        for path in ("/teams/7/metrics", "/metrics", "/metrics/"):
            # In a context of its own: other tests may have left something in this one's.
            assert contextvars.Context().run(client.get, path).status_code == 200
        servers = [span for span in measured.spans if span.kind is SpanKind.SERVER]
    assert [span.attributes["http.route"] for span in servers] == ["/teams/{team}/metrics"]
