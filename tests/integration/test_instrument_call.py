"""`otel_coach.instrument()`, called by an application that serves."""

import os
import subprocess
import sys

from otel_coach.testing import Page
from tests.support.serving import serving
from tests.support.small_service import HTTP

# In this process


def test_instrument_called_late_watches_an_application_that_serves_already():
    import otel_coach
    from otel_coach.settings import Settings
    from otel_coach.setup.installation import install
    from tests.support.apps.small_app import app

    with serving(app) as client:
        client.get("/ask/x")
        otel_coach.instrument(app, settings=Settings())
        try:
            assert install() is not None
            for _ in range(3):
                client.get("/ask/x")
            page = Page(client.get("/metrics").text)
            assert page.sum(HTTP, endpoint="/ask/{name}") == 3
            assert page.sum("agent_llm_requests_total") == 3
        finally:
            otel_coach.uninstrument()
        assert client.get("/metrics").status_code == 404


def test_instrument_watches_only_the_applications_handed_over():
    from fastapi import FastAPI

    import otel_coach
    from otel_coach.settings import Settings

    watched, other = FastAPI(), FastAPI()
    otel_coach.instrument(watched, settings=Settings())
    try:
        with serving(watched) as client:
            client.get("/a")
            page = Page(client.get("/metrics").text)
        with serving(other) as client:
            assert client.get("/metrics").status_code == 404
        assert page.sum(HTTP) == 1
    finally:
        otel_coach.uninstrument()


def test_settings_that_come_too_late_are_named_once_without_their_values(caplog):
    from fastapi import FastAPI

    import otel_coach
    from otel_coach.settings import Settings

    first = Settings(metrics_path="/figures")
    otel_coach.instrument(FastAPI(), settings=first)
    try:
        otel_coach.instrument(FastAPI(), settings=first)
        otel_coach.instrument(FastAPI())
        assert not caplog.records
        for _ in range(2):
            otel_coach.instrument(
                FastAPI(), settings=Settings(metrics_path="/figures", metrics_token="sesame")
            )
        (record,) = caplog.records
        line = record.getMessage()
        assert record.levelname == "WARNING"
        assert "without effect: metrics_token. Cure: export OTEL_COACH_METRICS_TOKEN=..." in line
        assert "sesame" not in line
    finally:
        otel_coach.uninstrument()


def test_instrument_without_an_application_watches_all():
    from fastapi import FastAPI

    import otel_coach
    from otel_coach.settings import Settings

    one, other = FastAPI(), FastAPI()
    otel_coach.instrument(one, settings=Settings())
    otel_coach.instrument()
    try:
        with serving(other) as client:
            assert client.get("/metrics").status_code == 200
    finally:
        otel_coach.uninstrument()


def test_a_limit_with_which_the_sdk_cannot_be_imported_lets_the_host_go_on():
    done = subprocess.run(
        [sys.executable, "-c", "import otel_coach; otel_coach.instrument(); print('goes on')"],
        env={**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "goes on\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("otel-coach: it cannot start: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be ")


def test_uninstrument_counts_the_calls_that_are_open_as_aborted():
    program = """
import otel_coach
from langchain_core.language_models import FakeListChatModel

otel_coach.instrument(settings=otel_coach.Settings(trace_exporters=("console",)))
chunks = FakeListChatModel(responses=["four words of text"]).stream("hi")
next(chunks)
otel_coach.uninstrument()
print("left", len(list(chunks)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert '"name": "chat none"' in done.stdout
    assert '"otel_coach.outcome": "aborted"' in done.stdout
    assert "left 17" in done.stdout  # the application reads on
