"""What spans that are not ours may carry when they leave."""

import logging

import pytest
from opentelemetry import baggage
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.processor.baggage import ALLOW_ALL_BAGGAGE_KEYS, BaggageSpanProcessor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_coach.sdk import sql_summary
from otel_coach.settings import Settings
from otel_coach.testing import measuring

STOCK = "opentelemetry.instrumentation.something"
ATTRIBUTES = {
    "http.request.method": "GET",
    "url.full": "http://h/secret",
    "url.scheme": "http",
    "db.statement": "SELECT 'secret'",
    "user.id": "secret",
}


def tracer(measured, scope):
    return measured.installation.providers.tracer_provider.get_tracer(scope)


def leave(measured, scope, name="work", **arguments):
    """The span of that scope as it leaves, with an exception and a message of its own."""
    span = tracer(measured, scope).start_span(name, **arguments)
    span.record_exception(ValueError("secret"))
    span.set_status(Status(StatusCode.ERROR, "ValueError: secret"))
    span.end()
    return measured.spans[-1]


def test_stock_spans_leave_with_allowed_attributes_only(measured):
    span = leave(measured, STOCK, attributes=ATTRIBUTES, kind=SpanKind.CLIENT)
    assert span.attributes == {"http.request.method": "GET", "url.scheme": "http"}
    assert [dict(event.attributes) for event in span.events] == [
        {"exception.type": "ValueError", "exception.escaped": "False"}
    ]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert span.kind is SpanKind.CLIENT
    assert "secret" not in span.to_json()


def test_spans_of_the_application_keep_all_but_the_texts_of_exceptions(measured):
    span = leave(measured, "coach.app", attributes=ATTRIBUTES)
    assert span.attributes == ATTRIBUTES
    (event,) = span.events
    assert set(event.attributes) == {"exception.type", "exception.escaped"}
    assert span.status.description == "ValueError"


@pytest.mark.parametrize("text", ["payment: declined", "step 2: failed", "http.client: refused"])
def test_a_status_in_the_applications_own_words_stays_also_with_a_colon(measured, text):
    with tracer(measured, "app").start_as_current_span("work") as span:
        span.set_status(Status(StatusCode.ERROR, text))
    assert measured.spans[-1].status.description == text


def test_an_operator_allows_the_messages_of_exceptions():
    with measuring(Settings(span_attributes=["exception.message"])) as measured:
        assert leave(measured, "app").status.description == "ValueError: secret"


def test_a_status_in_the_applications_own_words_stays(measured):
    with tracer(measured, "coach.app").start_as_current_span("pay") as span:
        span.set_status(Status(StatusCode.ERROR, "payment declined"))
    assert measured.spans[-1].status.description == "payment declined"


def test_an_operator_allows_more_by_name():
    allowed = Settings.from_env({"OTEL_COACH_SPAN_ATTRIBUTES": "url.full, exception.message"})
    with measuring(allowed) as measured:
        stock = leave(measured, STOCK, attributes=ATTRIBUTES)
        assert stock.attributes["url.full"] == "http://h/secret"
        assert "user.id" not in stock.attributes
        own = leave(measured, "coach.app")
        assert own.events[0].attributes["exception.message"] == "secret"
        assert "exception.stacktrace" not in own.events[0].attributes


def test_of_a_trace_state_only_opentelemetrys_own_part_leaves(measured):
    state = TraceState([("vendor", "secret"), ("ot", "th:fd70a4;rv:fe12")])
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    for scope in ("otel_coach", STOCK, "coach.app"):
        context = set_span_in_context(NonRecordingSpan(parent))
        span = tracer(measured, scope).start_span("work", context)
        span.add_link(parent)
        span.end()
        found = measured.spans[-1]
        for left in (found.context, found.parent, *(link.context for link in found.links)):
            if left.trace_state:
                assert dict(left.trace_state) == {"ot": "th:fd70a4;rv:fe12"}
        assert span.get_span_context().trace_state == state  # what is sent on is as it was


def test_whoever_adds_a_processor_later_gets_cleaned_spans(measured):
    exporter = InMemorySpanExporter()
    provider = measured.installation.providers.tracer_provider
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    leave(measured, STOCK, attributes=ATTRIBUTES)
    (span,) = exporter.get_finished_spans()
    assert "secret" not in span.to_json()


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("GET /users/secret", {"http.method": "GET"}, "GET"),
        ("GET /users/7", {"http.method": "GET", "http.route": "/users/{id}"}, "GET /users/{id}"),
        ("'secret'", {"db.system": "postgresql"}, "postgresql"),
        ("select 'secret'", {"db.system.name": "postgresql"}, "SELECT"),
        ("BackgroundTask send_mail", {}, "BackgroundTask send_mail"),
        ("mail to secret@example.org", {}, "span"),
    ],
)
def test_names_of_stock_spans_carry_no_values(measured, name, attributes, expected):
    assert leave(measured, STOCK, name, attributes=attributes).name == expected


def test_a_scheme_that_a_client_made_up_does_not_leave(measured):
    span = leave(measured, STOCK, attributes={"url.scheme": "secret", "db.operation": "'secret'"})
    assert span.attributes == {}


SAID = {
    "gen_ai.prompt.0.content": "secret",
    "gen_ai.input.messages": "secret",
    "gen_ai.tool.call.arguments": "secret",
    "llm.output_messages.0.message.content": "secret",
    "input.value": "secret",
    "traceloop.entity.output": "secret",
    "langfuse.observation.input": "secret",
}
ABOUT = {
    "langfuse.trace.metadata.mail": "secret",
    "traceloop.association.properties.user_id": "secret",
    "gen_ai.openai.api_base": "http://secret",
    "logfire.msg": "hello secret",
}
NUMBER = {"llm.token_count.total": 5}
CAPTURING = Settings.from_env({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only"})


@pytest.mark.parametrize("scope", ["coach.app", "otel_coach"])
def test_what_was_said_leaves_whoever_made_the_span_in_captured_traces_only(scope):
    given = {"order": "7", **SAID, **ABOUT, **NUMBER}
    for settings, expected in ((Settings(), {}), (CAPTURING, SAID)):
        with measuring(settings) as measured:
            with tracer(measured, scope).start_as_current_span("work", attributes=given) as span:
                span.add_event("gen_ai.user.message", {"content": "secret"})
            (left,) = measured.spans
            assert left.attributes == {"order": "7", **NUMBER, **expected}
            (event,) = left.events
            assert event.attributes == ({"content": "secret"} if expected else {})


@pytest.mark.parametrize(
    "scope",
    [
        *("langfuse-sdk", "openlit", "openlit.instrumentation.openai", "logfire", "logfire.openai"),
        *("traceloop.tracer", "openinference.instrumentation.langchain", "azure.ai.inference"),
        *("com.anthropic.sdk.python", "com.anthropic.sdk.python.bedrock", "mistralai_sdk_tracer"),
        *("pydantic-ai", "langsmith", "litellm", "mcp-python-sdk"),
    ],
)
def test_of_a_known_instrumentation_nothing_else_leaves(measured, scope):
    given = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "http://secret", "n": "x"}
    span = leave(measured, scope, "agent of secret", attributes={**given, **SAID, **ABOUT})
    assert span.name == "span"
    assert span.attributes == {"gen_ai.operation.name": "chat", "gen_ai.request.model": "other"}
    assert "secret" not in span.to_json()


def test_with_a_redactor_only_what_passed_it_leaves():
    variables = {
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
        "OTEL_COACH_CONTENT_REDACTOR": "module:function",
    }
    with measuring(Settings.from_env(variables)) as measured:
        for scope in (STOCK, "coach.app"):
            assert "secret" not in leave(measured, scope, attributes=SAID).to_json()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT * FROM activities WHERE athlete = 'secret'", "SELECT activities"),
        (
            "select a.x from activities a join weather on a.d = %s /* secret */",
            "SELECT activities weather",
        ),
        ("INSERT INTO plans (goal) VALUES (%(goal)s)", "INSERT plans"),
        (
            "WITH secret AS (SELECT 1 FROM runs) UPDATE plans SET goal = 'x' FROM secret",
            "UPDATE plans runs",
        ),
        ("SELECT 1", "SELECT"),
        ("DELETE FROM plans WHERE id = $1", "DELETE plans"),
        ('SELECT * FROM "a secret in a name"', "SELECT"),
        ("CALL secret('secret')", None),
        ("SELECT 'not closed", None),
        ("'secret'", None),
        ("", None),
        ("SELECT " + "1, " * 5000 + "1", None),
    ],
)
def test_a_statement_is_cut_to_its_operation_and_tables(statement, expected, caplog):
    caplog.set_level(logging.DEBUG)
    assert sql_summary.summary(statement, "postgresql") == expected
    assert caplog.text == ""


def test_a_span_of_a_database_is_named_by_its_summary(measured):
    attributes = {
        "db.system": "postgresql",
        "db.statement": "SELECT * FROM runs WHERE x = 'secret'",
    }
    span = leave(measured, STOCK, "SELECT", attributes=attributes)
    assert span.name == "SELECT runs"
    assert span.attributes == {"db.system": "postgresql", "db.query.summary": "SELECT runs"}


def test_arguments_of_the_command_line_are_no_part_of_the_resource(monkeypatch):
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "otel,process")
    from otel_coach.sdk.resource import process_resource

    attributes = process_resource().attributes
    assert "process.pid" in attributes
    assert not [key for key in attributes if key.startswith("process.command")]


def test_text_of_ours_in_spans_is_bounded(measured):
    from langchain_core.language_models import FakeListChatModel

    for name in ("x" * 10_000, "line\nend", "\ud800"):
        model = FakeListChatModel(responses=["hi"])
        model.invoke("hi", {"metadata": {"ls_model_name": name}})
    assert {span.name for span in measured.spans} == {"chat other"}
    assert {span.attributes["gen_ai.request.model"] for span in measured.spans} == {"other"}


class Keeping(SpanProcessor):
    """Keeps spans from their start to their end, as tail samplers and live views do."""

    def __init__(self):
        self.open, self.started, self.ended = {}, [], []

    def on_start(self, span, parent_context=None):
        assert isinstance(span, Span)
        assert isinstance(span, ReadableSpan)
        span.set_attribute("gen_ai.system", "kept")
        self.started.append((span.name, dict(span.attributes), span.to_json()))
        self.open[span.context.span_id] = span

    def on_end(self, span):
        kept = self.open.pop(span.context.span_id)
        assert not kept.is_recording()
        self.ended.append((kept, span))


def test_what_a_processor_sees_at_a_spans_start_is_cleaned_too(measured):
    keeping = Keeping()
    measured.installation.providers.tracer_provider.add_span_processor(keeping)
    leave(measured, STOCK, "GET /users/secret", attributes={"http.method": "GET", **ATTRIBUTES})
    ((name, attributes, said),) = keeping.started
    assert name == "GET"
    assert attributes == {
        "http.method": "GET",
        "http.request.method": "GET",
        "url.scheme": "http",
        "gen_ai.system": "kept",
    }
    assert "secret" not in said
    ((kept, ended),) = keeping.ended
    assert kept.attributes == ended.attributes == attributes  # what it set was set
    assert kept.to_json() == ended.to_json()  # what it kept shows no more than what left
    assert "secret" not in str(kept._attributes) + kept._readable_span().to_json()


def test_a_processor_may_rename_and_mark_a_span_at_its_start_and_before_its_end(measured):
    class Marking(SpanProcessor):
        def on_start(self, span, parent_context=None):
            span.update_name("renamed")
            span.add_event("started")
            spans.add(span)

        def _on_ending(self, span):
            ending.append((span.name, span in spans))  # as the same key

    spans, ending = set(), []
    measured.installation.providers.tracer_provider.add_span_processor(Marking())
    with tracer(measured, "coach.app").start_as_current_span("own"):
        pass
    (span,) = measured.spans
    assert (span.name, dict(span.attributes)) == ("renamed", {})
    assert ending == [("renamed", True)]
    assert [event.name for event in span.events] == ["started"]


def test_the_baggage_processor_does_its_work(measured):
    processor = BaggageSpanProcessor(ALLOW_ALL_BAGGAGE_KEYS)
    measured.installation.providers.tracer_provider.add_span_processor(processor)
    context = baggage.set_baggage("tenant", "acme")
    for scope in ("coach.app", "otel_coach"):
        tracer(measured, scope).start_span("work", context).end()
        assert measured.spans[-1].attributes == {"tenant": "acme"}
    tracer(measured, STOCK).start_span("work", context).end()
    assert measured.spans[-1].attributes == {}  # no attribute of a stock span's allow list


def test_where_the_rule_fails_a_processor_sees_no_text(measured, monkeypatch):
    keeping = Keeping()
    measured.installation.providers.tracer_provider.add_span_processor(keeping)

    def fails(*_):
        raise LookupError

    with monkeypatch.context() as patch:
        patch.setattr("otel_coach.sdk.redaction.Redaction.applied", fails)
        span = tracer(measured, STOCK).start_span("secret", attributes=ATTRIBUTES)
    span.end()
    ((name, attributes, said),) = keeping.started
    assert (name, attributes) == ("span", {})
    assert "secret" not in said
    assert measured.page().sum("otel_coach_errors_total", error_type="LookupError") > 0


@pytest.mark.parametrize("scope", [STOCK, "the-application"])
def test_a_redacted_copy_states_what_the_limits_have_dropped(monkeypatch, scope):
    for kind in ("SPAN_ATTRIBUTE", "SPAN_EVENT", "SPAN_LINK", "EVENT_ATTRIBUTE", "LINK_ATTRIBUTE"):
        monkeypatch.setenv(f"OTEL_{kind}_COUNT_LIMIT", "1")
    two = {"url.scheme": "http", "http.request.method": "GET"}
    linked = SpanContext(1, 1, is_remote=False)
    with measuring() as measured:
        span = tracer(measured, scope).start_span(
            "work", attributes=two, links=[Link(linked, two), Link(linked, two), Link(linked, two)]
        )
        for _ in range(4):
            span.add_event("event", two)
        span.end()
        found = measured.spans[-1]
    assert found is not span
    assert (found.dropped_attributes, found.dropped_links, found.dropped_events) == (1, 2, 3)
    assert [one.dropped_attributes for one in (*found.links, *found.events)] == [1, 1]
    assert found.attributes == {"http.request.method": "GET"}
    (encoded,) = encode_spans([found]).resource_spans[0].scope_spans[0].spans
    assert encoded.dropped_attributes_count == 1
    assert (encoded.dropped_links_count, encoded.dropped_events_count) == (2, 3)
