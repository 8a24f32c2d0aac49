"""The work of a client who has left is stopped, whatever its shape."""

import pytest
from starlette.middleware.base import BaseHTTPMiddleware

from otel_coach import Settings
from otel_coach.testing import measuring
from tests.support.abandoned_work import (
    TOKENS,
    Caller,
    Notes,
    Work,
    answers,
    application,
    streams,
)
from tests.support.conservation import conserved
from tests.support.serving import serving

STOPPED = "app_ai_stopped_runs_total"
NAMES = Work(Notes())
PATHS = [
    *(f"/streams/{name}" for name in streams(NAMES)),
    *(f"/answers/{name}" for name in answers(NAMES)),
    "/sse",
]
IN_FLIGHT = 5
"""Tokens that may be made before the server notices, for each of the calls that run then."""
BRANCHES = {
    "/streams/parallel": 3,
    "/answers/parallel": 3,
    "/streams/runnable-parallel": 2,
    "/answers/gather": 2,
    "/answers/group": 2,
}
RUNS = {"/answers/gather": 2, "/answers/group": 2}
"""Outermost runs that are open at a time, where it is more than one."""


class PassesThrough(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@pytest.fixture
def stopping():
    settings = Settings(stop_abandoned=True, stop_after=0, gateways={"127.0.0.1": "openai"})
    with measuring(settings) as measured, conserved(measured):
        yield measured


@pytest.mark.server
@pytest.mark.parametrize(
    "middlewares",
    [
        pytest.param([], id="bare"),
        pytest.param([PassesThrough], id="middleware", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_no_more_is_made_than_was_in_flight(stopping, path, middlewares, capfd):
    notes = Notes(pause=0.04)
    app = application(Work(notes))
    for middleware in middlewares:
        app.add_middleware(middleware)
    with serving(app) as client:
        caller = Caller(client.base_url, notes)
        left = caller.leave(path)
        total = caller.rest()
    after = sum(made > left for made in notes.tokens)
    assert after <= IN_FLIGHT * BRANCHES.get(path, 1)
    assert total < TOKENS
    assert "cleaned up" in notes.raised or not {"graph", "workflow"}.intersection(path.split("/"))
    page = stopping.page()
    endpoint = {"endpoint": path}
    assert page.sum(STOPPED, **endpoint) == RUNS.get(path, 1)
    assert page.sum("app_ai_request_duration_seconds_count", **endpoint, status="aborted") == 1
    assert page.sum("app_ai_request_duration_seconds_count") == 1
    assert page.sum("agent_llm_requests_total", status="error") == 0
    assert page.sum("otel_coach_errors_total") == 0
    assert "Traceback" not in capfd.readouterr().err
    for span in stopping.spans:
        assert span.status.is_unset, span.name
