"""What the application said of a span stays, whatever we would have said."""

import asyncio
import contextvars

import pytest
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import (
    SpanKind,
    Status,
    StatusCode,
)
from starlette.testclient import TestClient

from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.spans import Curious

# The last word

OURS, SDKS, STOCK = "otel_coach", "the SDK's", "fastapi"


def spans_of(app, path, maker):
    """What leaves for one request, with server spans that `maker` makes."""
    settings = Settings(server_spans="fastapi" if maker == STOCK else "otel_coach")
    with measuring(settings) as measured:
        if maker == SDKS:
            measured.installation.providers.tracer_provider.add_span_processor(Curious())
        if maker == STOCK:
            arguments = measured.installation.contrib.arguments("fastapi")
            FastAPIInstrumentor.instrument_app(app, **arguments)
        try:
            # What a run of another test left current here would be around the stock span.
            client = TestClient(app, raise_server_exceptions=False)
            contextvars.Context().run(client.get, path)
        finally:
            if maker == STOCK:
                FastAPIInstrumentor.uninstrument_app(app)
        return {span.kind: span for span in measured.spans}


def saying(what):
    app = FastAPI()

    @app.get("/items/{number}")
    def items(number: int):
        what(trace.get_current_span())
        return number

    return app


@pytest.mark.parametrize("maker", [OURS, SDKS, STOCK])
def test_a_name_that_the_application_gave_the_server_span_stays(maker):
    app = saying(lambda span: span.update_name("pay an invoice"))
    span = spans_of(app, "/items/7", maker)[SpanKind.SERVER]
    assert span.name == "pay an invoice"
    assert span.attributes["http.route"] == "/items/{number}"


@pytest.mark.parametrize("maker", [OURS, SDKS, STOCK])
def test_where_it_gave_none_the_routes_template_names_it(maker):
    span = spans_of(saying(lambda span: None), "/items/7", maker)[SpanKind.SERVER]
    assert (span.name, span.attributes["http.route"]) == ("GET /items/{number}", "/items/{number}")


def test_a_name_that_is_the_first_one_again_is_the_last_word_too():
    app = saying(lambda span: span.update_name("GET"))
    assert spans_of(app, "/items/7", OURS)[SpanKind.SERVER].name == "GET"


@pytest.mark.parametrize("maker", [OURS, SDKS, STOCK])
def test_a_route_that_the_application_stated_stays_and_its_status_code_does_not(maker):
    def what(span):
        span.set_attributes({"http.route": "/v{n}/items", "http.response.status_code": 418})
        span.set_attribute("http.status_code", 418)

    span = spans_of(saying(what), "/items/7", maker)[SpanKind.SERVER]
    assert span.attributes["http.route"] == "/v{n}/items"
    code = "http.status_code" if maker == STOCK else "http.response.status_code"
    assert span.attributes[code] == 200


@pytest.mark.parametrize("maker", [OURS, SDKS])
@pytest.mark.parametrize(
    ("said", "error", "expected"),
    [
        (Status(StatusCode.ERROR, "declined"), None, (StatusCode.ERROR, "declined", None)),
        (Status(StatusCode.ERROR, "declined"), OSError, (StatusCode.ERROR, "declined", "500")),
        (Status(StatusCode.OK), OSError, (StatusCode.OK, None, "500")),
        (None, OSError, (StatusCode.ERROR, None, "500")),
        (None, None, (StatusCode.UNSET, None, None)),
    ],
)
def test_a_status_that_the_application_set_stays(maker, said, error, expected):
    def what(span):
        if said is not None:
            span.set_status(said)
        if error is not None:
            raise error

    span = spans_of(saying(what), "/items/7", maker)[SpanKind.SERVER]
    found = span.status.status_code, span.status.description, span.attributes.get("error.type")
    assert found == expected


@pytest.mark.parametrize("maker", [OURS, SDKS])
def test_an_error_type_that_the_application_stated_stays(maker):
    def what(span):
        span.set_attribute("error.type", "declined")
        raise OSError

    span = spans_of(saying(what), "/items/7", maker)[SpanKind.SERVER]
    assert span.attributes["error.type"] == "declined"


@pytest.mark.parametrize("curious", [False, True])
def test_names_and_states_that_it_gave_runs_stay(curious):
    def said(name):
        span = trace.get_current_span()
        span.update_name(name)
        span.set_status(Status(StatusCode.ERROR, "in its own words"))

    class Model(FakeListChatModel):
        def _generate(self, *args, **kwargs):
            said("my call")
            raise OSError

    @tool
    def mine() -> str:
        """A tool."""
        said("my tool")
        raise OSError

    async def node(state):
        said("my agent")
        for run in (Model(responses=["hi"]).ainvoke("hi"), mine.ainvoke({})):
            with pytest.raises(OSError):  # noqa: PT011 - any
                await run
        return {"messages": [AIMessage("x")]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    with measuring() as measured:
        if curious:
            measured.installation.providers.tracer_provider.add_span_processor(Curious())
        asyncio.run(graph.compile().ainvoke({"messages": ["hi"]}))
        found = {span.name: span for span in measured.spans}
    assert set(found) == {"my agent", "my tool", "my call"}
    assert {span.status.description for span in found.values()} == {"in its own words"}
    assert found["my call"].attributes["error.type"] == "OSError"
    assert found["my call"].attributes["gen_ai.operation.name"] == "chat"
