"""`otel_coach.instrument()` where the contrib instrumentation of FastAPI makes the server spans."""

import fastapi
import pytest
from opentelemetry.trace import SpanKind

import otel_coach
from otel_coach.settings import Settings
from otel_coach.setup.installation import install
from tests.support.serving import serving


@pytest.mark.parametrize("by_name", [True, False], ids=["this application", "all applications"])
def test_it_makes_the_server_spans_and_makes_none_afterwards(by_name):
    ended = []
    if by_name:
        app = fastapi.FastAPI()
    settings = Settings(server_spans="fastapi", trace_exporters=("console",))
    otel_coach.instrument(app if by_name else None, settings=settings)
    if not by_name:
        app = fastapi.FastAPI()  # the contrib instrumentation replaces this name
    try:

        @app.get("/ask/{name}")
        async def ask(name: str) -> str:
            return name

        provider = install().providers.tracer_provider
        provider.add_span_processor(_Ended(ended))
        with serving(app) as client:
            assert client.get("/ask/anna").text == '"anna"'
    finally:
        otel_coach.uninstrument()
    (span,) = [span for span in ended if span.kind is SpanKind.SERVER]
    assert span.name == "GET /ask/{name}"
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.fastapi"
    assert not getattr(app, "_is_instrumented_by_opentelemetry", False)


class _Ended:
    def __init__(self, ended):
        self._ended = ended

    def on_start(self, span, parent_context=None):
        """Nothing is to be seen at a start."""

    def _on_ending(self, span):
        """Nor here."""

    def on_end(self, span):
        self._ended.append(span)

    def shutdown(self):
        """Nothing is open."""

    def force_flush(self, timeout_millis=0):
        return True
