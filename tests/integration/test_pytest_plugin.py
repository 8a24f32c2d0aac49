"""The pytest plugin, as a service's own tests use it."""

import re
import subprocess
import sys

SERVICE = """
from fastapi import FastAPI
from langchain_openai import ChatOpenAI
import otel_coach

app = FastAPI()
otel_coach.instrument(app)


@app.get("/ask")
async def ask():
    model = ChatOpenAI(model="gpt-4o-mini", api_key="any")
    return (await model.ainvoke("hi")).content
"""
TESTS = """
import sys

import pytest
from fastapi.testclient import TestClient


def test_it_is_not_imported_before_it_is_used():
    assert "otel_coach.testing" not in sys.modules
    assert "opentelemetry.sdk.metrics" not in sys.modules


def test_a_call(measured, monkeypatch):
    from otel_coach.testing import ScriptedProvider
    from service import app

    with ScriptedProvider("Run easy.") as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        assert TestClient(app).get("/ask").json() == "Run easy."
    assert measured.page().sum("agent_llm_requests_total", status="ok") == len(provider.calls) == 1
    assert "GET /ask (server)" in measured.span_tree()


def test_the_next_test_begins_at_zero(measured):
    assert measured.page().sum("agent_llm_requests_total") == 0


def test_a_wrong_figure(measured):
    assert measured.page().sum("agent_llm_requests_total") == 1


def test_a_wrong_name(measured):
    measured.page().sum("agent_llm_request_total")
"""


def test_a_services_tests_have_the_fixture_and_readable_failures(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "test_service.py").write_text(TESTS)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:langsmith_plugin", "-p", "no:cloudcoil"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_service.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    shown = done.stdout
    assert "E       AssertionError: assert 0.0 == 1" in shown
    assert re.search(r"where <Page of \d+ families: nothing has been measured> = ", shown)
    perhaps = (
        "there is no metric agent_llm_request_total; perhaps agent_llm_requests_total is meant"
    )
    assert (
        '>       measured.page().sum("agent_llm_request_total")\n'
        f"E       ValueError: {perhaps}\n" in shown
    )
