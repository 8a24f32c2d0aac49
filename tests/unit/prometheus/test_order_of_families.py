"""The order of the families on the page."""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from langchain_core.language_models import FakeListChatModel
from prometheus_client import Counter

from otel_coach.metrics.catalogue import CATALOGUE


def test_families_are_in_the_catalogues_order_those_of_others_next_and_ours_about_us_last(
    measured, default_registry
):
    default_registry(Counter, "jobs", "Jobs.").inc()
    app = FastAPI()

    @app.get("/")
    def root():
        return FakeListChatModel(responses=["hi"]).invoke("hi").content

    TestClient(app).get("/")
    text = measured.page().text
    shown = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    names = [metric.prometheus_name for metric in CATALOGUE]
    ours = [name for name in shown if name in names]
    about_us = [name for name in ours if name.startswith("otel_coach_")]
    assert len(ours) >= 12
    assert len(about_us) >= 3
    assert [*ours[: -len(about_us)]] == [n for n in names if n in ours and n not in about_us]
    assert about_us == [name for name in names if name in about_us]
    assert shown[-len(about_us) :] == about_us
    assert shown.index("jobs_total") >= len(ours) - len(about_us)
