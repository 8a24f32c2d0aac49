"""Bounded series, where a real server answers."""

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Mount, Route

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from verification.soak.servers import SERVERS, running


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


# Who has a place


def ask(client, path):
    assert client.get(path).status_code == 200


def test_routes_that_the_application_declares_come_before_those_made_at_run_time():
    from tests.support.serving import serving

    app = FastAPI()
    for name in ("one", "two"):
        app.get(f"/{name}/{{x}}")(lambda x: x)
    inside = [Route("/deep", lambda _request: None)]
    app.router.routes.append(Mount("/mounted", routes=inside))
    with measuring(settings(BUDGET_ENDPOINT="8")) as measured, serving(app) as client:
        for number in range(9):
            app.get(f"/made/{number}")(lambda: 1)
            ask(client, f"/made/{number}")
        ask(client, "/two/2")
        rows = measured.page().samples("http_server_request_duration_seconds_count")
    # /docs, its redirect, /redoc and /openapi.json are four of the eight.
    found = {labels["endpoint"] for labels, _ in rows}
    assert "/two/{x}" in found
    assert "other" in found
    assert not {f"/made/{number}" for number in range(9)} & found


# Several workers


@pytest.mark.long
@pytest.mark.fleet
def test_the_merged_page_of_real_workers_keeps_to_the_budget():
    environment = {"OTEL_COACH_BUDGET_MODE": "4", "SMALL_APP": "says who answers"}
    with running(SERVERS["uvicorn"], environment=environment, workers=3) as server:
        asked = 60
        for number in range(asked):
            with httpx.Client() as client:  # a connection of its own, to any worker
                assert client.get(f"{server.url}/mode/{number}").status_code == 200
        text = httpx.get(f"{server.url}/metrics").text
    rows = [
        sample
        for family in text_string_to_metric_families(text)
        if family.name == "agent_llm_requests"
        for sample in family.samples
    ]
    modes = {sample.labels["mode"] for sample in rows}
    assert len(modes - {"other", "stream", "invoke"}) == 4
    assert sum(sample.value for sample in rows) == asked
