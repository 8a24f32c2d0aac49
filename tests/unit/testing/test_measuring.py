"""`measuring` where something measures already."""

import contextvars
import types
import weakref
from dataclasses import replace

import fastapi
import httpx
import pytest
import wrapt
from fastapi import FastAPI
from fastapi.testclient import TestClient
from langchain_core.language_models import FakeListChatModel
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

import otel_coach
from otel_coach.core.import_hooks import when_imported
from otel_coach.settings import Settings, effective
from otel_coach.setup import installation
from otel_coach.setup.installation import Installation
from otel_coach.testing import Page, measuring
from tests.support.programs import free_port

MODEL = FakeListChatModel(responses=["one two"])
CALLS = "agent_llm_requests_total"
HTTP = "http_server_request_duration_seconds_count"


def application():
    app = FastAPI()

    @app.get("/ask")
    def ask():
        return MODEL.invoke("hi").content

    return app


def asks(app):
    assert contextvars.Context().run(TestClient(app).get, "/ask").status_code == 200


def test_nested_use_is_refused_with_what_to_do(measured):
    with (
        pytest.raises(RuntimeError, match=r"active in this process already .* use that one"),
        measuring(),
    ):
        pass
    asks(application())
    assert measured.page().sum(CALLS) == 1


def test_after_an_error_inside_the_next_use_is_possible():
    with pytest.raises(LookupError), measuring():
        raise LookupError
    with measuring() as measured:
        asks(application())
    assert measured.page().sum(CALLS) == 1


@pytest.fixture
def elsewhere(monkeypatch):
    """Is installed as by `instrument(app)`, but without global providers."""
    alone = replace(effective(Settings(), {}), shares_figures=False)
    made = Installation(alone)
    monkeypatch.setattr(installation, "_installed", made)
    yield made
    made.uninstrument()


def page_of(made):
    return Page(made.page.render("")[0].decode())


def test_it_takes_over_where_the_application_is_instrumented_and_gives_it_back(elsewhere):
    app, other = application(), application()
    otel_coach.instrument(app)
    asks(app)
    with measuring() as measured:
        asks(app)
        asks(other)
        assert measured.page().sum(CALLS) == 2
        assert measured.page().sum(HTTP) == 2
        assert {span.name for span in measured.spans} == {"GET /ask", "chat none"}
    asks(app)
    asks(other)  # watched neither before nor after
    assert page_of(elsewhere).sum(HTTP) == 2
    assert page_of(elsewhere).sum(CALLS) == 3  # LangChain has no application
    assert measured.page().sum(CALLS) == 2


def test_an_application_that_is_added_later_is_given_back_too(elsewhere):
    first, second = application(), application()
    otel_coach.instrument(first)
    otel_coach.instrument(second)
    with measuring():
        asks(second)
    asks(first)
    asks(second)
    assert page_of(elsewhere).sum(HTTP) == 2


def test_what_served_before_is_not_started_again(monkeypatch, caplog):
    port = free_port()
    alone = replace(effective(Settings(metrics_port=port), {}), shares_figures=False)
    made = Installation(alone)
    monkeypatch.setattr(installation, "_installed", made)
    try:
        app = application()
        otel_coach.instrument(app)
        asks(app)
        with measuring():
            asks(app)
        asks(app)
        assert Page(httpx.get(f"http://localhost:{port}/metrics").text).sum(HTTP) == 2
    finally:
        made.uninstrument()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_psycopg_that_is_imported_meanwhile_is_given_back(elsewhere, monkeypatch):
    import psycopg

    bare = psycopg.connect
    with monkeypatch.context() as not_imported_yet:
        not_imported_yet.setattr("wrapt.register_post_import_hook", lambda hook, name: None)
        elsewhere.contrib.load_psycopg()
    with measuring():
        pass
    assert psycopg.connect is not bare
    elsewhere.contrib.stop()
    assert psycopg.connect is bare


def test_all_applications_are_given_back(elsewhere):
    otel_coach.instrument(application())
    otel_coach.instrument()
    with measuring():
        asks(application())
    asks(application())
    assert page_of(elsewhere).sum(HTTP) == 1


def test_psycopg_stays_as_it_was_if_the_outer_measurement_ends_meanwhile(elsewhere):
    import psycopg

    bare = psycopg.connect
    elsewhere.contrib.load_psycopg()
    with measuring():
        elsewhere.contrib.stop()
    assert psycopg.connect is bare


def test_what_the_application_takes_back_meanwhile_stays_away(elsewhere, monkeypatch):
    app = application()
    otel_coach.instrument(app)
    with measuring() as measured:
        otel_coach.uninstrument()  # as the end of a lifespan does
        asks(app)
    assert installation.installed() is None
    for _ in range(2):
        with measuring() as measured:
            asks(app)
            assert measured.page().sum(HTTP) == 1
    asks(app)
    assert measured.page().sum(HTTP) == 1


def test_what_the_application_asks_for_meanwhile_is_started_afterwards(elsewhere):
    app = application()
    with measuring():
        otel_coach.instrument(app)
        asks(app)
    asks(app)
    assert page_of(elsewhere).sum(HTTP) == 1


def test_the_server_spans_of_contrib_are_taken_over_and_given_back(monkeypatch):
    settings = Settings(server_spans="fastapi")
    made = Installation(replace(effective(settings, {}), shares_figures=False))
    monkeypatch.setattr(installation, "_installed", made)
    try:
        app = application()
        otel_coach.instrument(app)
        with measuring() as measured:
            asks(app)
            assert measured.span_tree().splitlines()[0] == "GET /ask (server)"
        assert app._is_instrumented_by_opentelemetry
    finally:
        made.uninstrument()
    assert not app._is_instrumented_by_opentelemetry


def test_what_the_application_has_instrumented_itself_stays(elsewhere):
    made = Installation(
        replace(effective(Settings(server_spans="fastapi"), {}), shares_figures=False)
    )
    app = application()
    FastAPIInstrumentor.instrument_app(app)
    made.contrib.load_fastapi(app)
    made.uninstrument()
    assert app._is_instrumented_by_opentelemetry
    FastAPIInstrumentor.uninstrument_app(app)


def test_an_import_hook_keeps_nothing_alive():
    class Owner:
        def imported(self, module):
            raise AssertionError(module)

    owner = Owner()
    when_imported("a_module_that_nobody_imports", owner.imported)
    found = weakref.ref(owner)
    del owner
    assert found() is None
    wrapt.notify_module_loaded(types.ModuleType("a_module_that_nobody_imports"))


def test_server_spans_of_fastapis_instrumentation_are_measured_too():
    with measuring(Settings(server_spans="fastapi")) as measured:
        app = fastapi.FastAPI()  # the instrumentation replaces the class

        @app.get("/hello")
        def hello():
            return {}

        TestClient(app).get("/hello")
        assert [span.name for span in measured.spans] == ["GET /hello"]
