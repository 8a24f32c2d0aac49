"""`otel_coach.instrument()` where the contrib instrumentation of FastAPI makes the server spans."""

import os
import subprocess
import sys

import fastapi
import pytest
from opentelemetry.trace import SpanKind

import otel_coach
from otel_coach.settings import Settings
from otel_coach.setup.installation import install
from tests.support.programs import ALONE
from tests.support.serving import serving
from tests.support.stack import bin_path


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


LOADED_BY_THE_COMMAND = """
import fastapi, otel_coach
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

print(FastAPIInstrumentor().is_instrumented_by_opentelemetry)
otel_coach.uninstrument()
print(FastAPIInstrumentor().is_instrumented_by_opentelemetry)
print(getattr(fastapi.FastAPI(), "_is_instrumented_by_opentelemetry", False))
"""


def test_what_the_command_loaded_is_undone_too():
    command = [bin_path("opentelemetry-instrument"), sys.executable, "-c", LOADED_BY_THE_COMMAND]
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("OTEL_")},
        **ALONE,
        "OTEL_COACH_SERVER_SPANS": "fastapi",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "False", "False"], done.stderr


def test_all_parts_are_undone_though_one_raises(monkeypatch):
    otel_coach.instrument()
    installation, stopped = install(), []
    shutdown = installation.providers.shutdown
    monkeypatch.setattr(installation.providers, "shutdown", lambda: stopped.append(1) or shutdown())

    stop = installation.contrib.stop

    def fails():
        stop()
        raise LookupError

    monkeypatch.setattr(installation.contrib, "stop", fails)
    with pytest.raises(LookupError):
        otel_coach.uninstrument()
    assert stopped == [1]
    assert not hasattr(fastapi.FastAPI.__call__, "__wrapped__")
    otel_coach.uninstrument()  # nothing is left to undo
