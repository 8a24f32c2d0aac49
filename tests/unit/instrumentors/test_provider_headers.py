"""What a provider is told of a user by headers: nothing, unless an operator asks for it."""

import httpx
import pytest
from langchain_openai import ChatOpenAI
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from otel_coach.settings import Settings
from otel_coach.testing import measuring

HEADERS = {"traceparent", "baggage"}
ASKED_FOR = Settings.from_env({"OTEL_COACH_PROPAGATE_TO_PROVIDERS": "true"})


@pytest.fixture
def sent():
    """The headers that left, by host and path; httpx's stock instrumentation injects before."""
    return {}


@pytest.fixture
def client(sent):
    def answer(request):
        sent[request.url.path] = set(request.headers) & HEADERS
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "hi"},
        }
        return httpx.Response(
            200,
            json={
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
            },
        )

    with httpx.Client(transport=httpx.MockTransport(answer)) as made:
        yield made


@pytest.fixture
def user():
    token = context.attach(baggage.set_baggage("user_id", "anna"))
    yield
    context.detach(token)


def ask(measured, client):
    """A call of a provider, and one of the application's own before and after it."""
    provider = measured.installation.providers.tracer_provider
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument_client(client, tracer_provider=provider)
    with provider.get_tracer("app").start_as_current_span("work"):
        client.get("http://inventory.test/before")
        ChatOpenAI(model="m", api_key="k", http_client=client).invoke("hi")
        client.get("http://inventory.test/after")


COMPLETIONS = "/v1/chat/completions"


def test_a_call_of_a_model_carries_neither_trace_context_nor_baggage(client, sent, user):
    with measuring() as measured:
        ask(measured, client)
    assert sent == {"/before": HEADERS, COMPLETIONS: set(), "/after": HEADERS}


def test_it_carries_both_where_an_operator_asks_for_it(client, sent, user):
    with measuring(ASKED_FOR) as measured:
        ask(measured, client)
    assert sent == {"/before": HEADERS, COMPLETIONS: HEADERS, "/after": HEADERS}


def test_the_trace_goes_on_below_the_call(client, sent, user):
    with measuring() as measured:
        ask(measured, client)
        spans = {span.name: span for span in measured.spans}
        assert spans["POST"].parent.span_id == spans["chat m"].context.span_id


def test_a_propagator_that_the_application_sets_later_is_stood_before_at_the_start(client, user):
    class Own(propagate.textmap.TextMapPropagator):
        fields = frozenset({"own"})

        def extract(self, carrier, context=None, getter=None):
            return context

        def inject(self, carrier, context=None, setter=None):
            carrier["own"] = "1"

    before = propagate.get_global_textmap()
    try:
        with measuring() as measured:
            own = Own()
            propagate.set_global_textmap(own)
            measured.installation.application_started()
            assert propagate.get_global_textmap().fields == {"own"}
            carrier = {}
            propagate.inject(carrier)
            assert carrier == {"own": "1"}
        assert propagate.get_global_textmap() is own
    finally:
        propagate.set_global_textmap(before)


def test_the_hosts_propagator_is_the_hosts_again():
    before = propagate.get_global_textmap()
    with measuring():
        assert propagate.get_global_textmap() is not before
    assert propagate.get_global_textmap() is before


@pytest.mark.parametrize(
    "scope", ["mistralai_sdk_tracer", "opentelemetry.instrumentation.openai.v1"]
)
def test_a_span_that_is_a_call_of_a_provider_is_not_told_to_it(measured, user, scope):
    provider = measured.installation.providers.tracer_provider
    carrier = {}
    with provider.get_tracer(scope).start_as_current_span("chat"):
        propagate.inject(carrier)
    assert carrier == {}


def test_a_message_whose_type_is_a_list_is_extracted():
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    message = {"traceparent": [f"00-{trace_id}-b7ad6b7169203331-01"], "type": ["order"]}
    with measuring(Settings.from_env({"OTEL_COACH_TRUST_INCOMING": "false"})) as measured:
        found = trace.get_current_span(propagate.extract(message)).get_span_context()
        assert f"{found.trace_id:032x}" == trace_id
        assert not measured.page().sum("otel_coach_errors_total")
