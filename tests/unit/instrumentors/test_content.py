"""Captured content: in the shape of the GenAI semantic conventions, bounded, redacted."""

import json
from types import SimpleNamespace

import pytest
from langchain_core.language_models import FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from opentelemetry import trace

from otel_coach.instrumentors.genai.content import ContentCapture
from otel_coach.instrumentors.genai.direct_call import dumped
from otel_coach.settings import Settings
from otel_coach.testing import measuring

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CALL = {"name": "weather", "args": {"city": "Berlin", "days": [1, 2]}, "id": "call_1"}
CONVERSATION = [
    SystemMessage("You are a coach."),
    HumanMessage([{"type": "text", "text": "How"}, {"type": "image_url", "image_url": "data:..."}]),
    AIMessage([{"type": "thinking", "thinking": "Hm."}, {"type": "tool_use"}], tool_calls=[CALL]),
    ToolMessage("rain", tool_call_id="call_1"),
    "plain",
]


def test_messages_have_the_shape_of_the_semantic_conventions():
    """Written out by the examples of the conventions, not by the code."""
    said = ContentCapture().of_call([CONVERSATION], None)
    assert said == {
        "gen_ai.input.messages": [
            {"role": "system", "parts": [{"type": "text", "content": "You are a coach."}]},
            {
                "role": "user",
                "parts": [{"type": "text", "content": "How"}, {"type": "image_url"}],
            },
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "Hm."},
                    {
                        "type": "tool_call",
                        "id": "call_1",
                        "name": "weather",
                        "arguments": {"city": "Berlin", "days": [1, 2]},
                    },
                ],
            },
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "call_1", "response": "rain"}],
            },
            {"role": "user", "parts": [{"type": "text", "content": "plain"}]},
        ]
    }


def test_the_newest_messages_stay_within_the_limit():
    messages = [HumanMessage(f"{number:04}" * 25) for number in range(100)]
    said = ContentCapture(limit=250).of_call([messages], None)["gen_ai.input.messages"]
    texts = [message["parts"][0]["content"] for message in said]
    assert texts == ["0097" * 12 + "00...", "0098" * 25, "0099" * 25]


def test_documents_and_answers_end_at_the_limit():
    capture = ContentCapture(limit=250)
    documents = [SimpleNamespace(id="", page_content=f"{number:04}" * 25) for number in range(100)]
    found = capture.of_retrieval("q", documents)["gen_ai.retrieval.documents"]
    texts = [one["content"] for one in found]
    assert texts == ["0000" * 25, "0001" * 25, "0002" * 12 + "00..."]
    generations = [[SimpleNamespace(text=f"{number:04}" * 25) for number in range(100)]]
    said = capture.of_call([], SimpleNamespace(generations=generations))
    parts = [message["parts"][0] for message in said["gen_ai.output.messages"]]
    assert [part["content"] for part in parts] == texts


def test_values_of_any_kind_become_json_within_bounds():
    deep = []
    deep.append(deep)
    values = {
        "none": None,
        "number": 1.5,
        "object": object(),
        7: b"bytes",
        "lone": "\ud800",
        "d": deep,
    }
    found = ContentCapture(limit=500).of_tool(values, "x" * 1000)
    text = json.dumps(found)
    assert '"object": "object"' in text
    assert '"7": "bytes"' in text
    assert '"lone": "?"' in text
    assert found["gen_ai.tool.call.result"] == "x" * 500 + "..."


@pytest.mark.parametrize(
    "value", [[0.5] * 100_000, ["text"] * 100_000, {n: n for n in range(100_000)}, [[1]] * 100_000]
)
def test_the_limit_holds_for_many_small_values(value):
    found = ContentCapture(limit=100).of_tool(value, value)
    assert all(len(json.dumps(one)) < 1000 for one in found.values())


def test_a_redactor_gets_the_name_that_a_model_has_given_to_a_tool():
    message = AIMessage("", tool_calls=[{"name": "secret", "args": {"k": "secret"}, "id": "1"}])
    capture = ContentCapture(redactor="tests.unit.instrumentors.test_content:redacted")
    said = capture.of_call([[message]], None)
    assert "secret" not in json.dumps(said)


def redacted(_text):
    return "[R]"


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"rain in {city}"


def captured(mode, **more):
    environ = {CAPTURE: mode, "OTEL_LOGS_EXPORTER": "none", **more}
    with measuring(Settings.from_env(environ)) as measured:
        model = GenericFakeChatModel(messages=iter([AIMessage("Run."), AIMessage("Rest.")]))
        model.invoke([HumanMessage("How?")])
        for _ in model.stream("And now?"):
            pass
        FakeListLLM(responses=["Sleep."]).invoke("At night?")
        weather.invoke({"city": "Berlin"})
        yield from ({span.name: dict(span.attributes)} for span in measured.spans)


def test_objects_of_a_package_are_mappings_in_lists_too():
    found = dumped(SimpleNamespace(items=[SimpleNamespace(a=1), 2], name="x"))
    assert found == {"items": [{"a": 1}, 2], "name": "x"}


def test_spans_say_what_was_said_only_where_it_was_asked_for():
    keys = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments"}
    for mode in ("", "NO_CONTENT", "EVENT_ONLY", "true", "nonsense"):
        assert not [1 for span in captured(mode) for found in span.values() if keys & set(found)]
    spans = [found for span in captured("SPAN_ONLY") for found in span.values()]
    said = [
        tuple(
            json.loads(found[f"gen_ai.{way}.messages"])[0]["parts"][0]["content"]
            for way in ("input", "output")
        )
        for found in spans[:3]
    ]
    assert said == [("How?", "Run."), ("And now?", "Rest."), ("At night?", "Sleep.")]
    assert json.loads(spans[3]["gen_ai.tool.call.arguments"]) == {"city": "Berlin"}
    assert spans[3]["gen_ai.tool.call.result"] == "rain in Berlin"


def test_a_redactor_is_found_by_its_name():
    (first, *_) = captured("SPAN_ONLY", OTEL_COACH_CONTENT_REDACTOR="tests.support.redactors:shout")
    assert '"HOW?"' in next(iter(first.values()))["gen_ai.input.messages"]


@pytest.mark.parametrize(
    "redactor",
    ["tests.support.redactors:fail", "tests.support.redactors:missing", "no.such:thing", "?"],
)
def test_while_a_redactor_fails_nothing_leaves_and_all_is_measured(redactor, caplog):
    more = {CAPTURE: "SPAN_AND_EVENT", "OTEL_COACH_CONTENT_REDACTOR": redactor}
    with measuring(Settings.from_env({**more, "OTEL_LOGS_EXPORTER": "none"})) as measured:
        model = GenericFakeChatModel(messages=iter([AIMessage("Run.")]))
        assert model.invoke("How?").content == "Run."
        (span,) = measured.spans
        assert not [key for key in span.attributes if "messages" in key]
        assert measured.page().sum("agent_llm_requests_total", status="ok") == 1
        # What is not found is a wrong setting, and no fault of otel-coach's own.
        is_called = redactor.endswith("fail")
        assert measured.page().sum("otel_coach_errors_total") == is_called
    assert "How?" not in caplog.text
    known = {"tests.support.redactors:fail": 0, "?": 0}
    assert caplog.text.count("cannot be imported") == known.get(redactor, 1)
    assert caplog.text.count("no content is captured") == (
        redactor != "tests.support.redactors:fail"
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [(CAPTURE, "true"), ("OTEL_COACH_CONTENT_LIMIT", "0"), ("OTEL_COACH_CONTENT_LIMIT", "many")],
)
def test_a_wrong_setting_is_one_line(variable, value):
    settings = Settings.from_env({variable: value})
    assert len(settings.problems) == 1
    assert variable in settings.problems[0]
    assert not settings.captures_on_spans


def test_an_event_has_the_ids_of_the_calls_span(monkeypatch):
    records, make = [], ContentCapture.event_of_call

    def kept(*args):
        records.append(make(*args))
        return records[-1]

    monkeypatch.setattr(ContentCapture, "event_of_call", staticmethod(kept))
    settings = Settings.from_env({CAPTURE: "EVENT_ONLY", "OTEL_LOGS_EXPORTER": "none"})
    with measuring(settings) as measured:
        FakeListLLM(responses=["Sleep."]).invoke("At night?")
        with trace.get_tracer("app").start_as_current_span("outer"):
            FakeListLLM(responses=["Sleep."]).invoke("At night?")
        spans = [span for span in measured.spans if span.name != "outer"]
    assert len(records) == len(spans) == 2
    assert [record.span_id for record in records] == [span.context.span_id for span in spans]
    assert [record.trace_id for record in records] == [span.context.trace_id for span in spans]
