"""Spans as a tree of text."""

from langchain_openai import ChatOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from otel_coach.testing import ScriptedProvider, ToolCall
from otel_coach.testing.span_trees import tree
from tests.support.agents import agent, question


def test_a_tree_is_in_the_order_of_the_starts_and_a_stranger_is_a_root():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    stranger = tracer.start_span("never exported", start_time=1)

    def span(name, start, parent, kind=SpanKind.INTERNAL):
        context = None if parent is None else set_span_in_context(parent)
        return tracer.start_span(name, context, kind, start_time=start)

    root = span("GET /chat", 2, stranger, SpanKind.SERVER)
    agent = span("invoke_agent coach", 3, root)
    chat = span("chat gpt-4o", 4, agent, SpanKind.CLIENT)
    tool = span("execute_tool weather", 5, agent)
    query = span("SELECT", 6, tool, SpanKind.CLIENT)
    after = span("chat gpt-4o", 7, root, SpanKind.CLIENT)
    chat.set_attribute("gen_ai.usage.input_tokens", 3)
    chat.set_attribute("unasked", "x")
    tool.set_status(StatusCode.ERROR)
    for one in (query, tool, after, chat, agent, root):
        one.end()
    assert tree(exporter.get_finished_spans(), ["gen_ai.usage.input_tokens"]) == (
        "GET /chat (server)\n"
        "├─ invoke_agent coach\n"
        "│  ├─ chat gpt-4o (client) gen_ai.usage.input_tokens=3\n"
        "│  └─ execute_tool weather ERROR\n"
        "│     └─ SELECT (client)\n"
        "└─ chat gpt-4o (client)"
    )


def test_no_spans_are_no_lines():
    assert tree([]) == ""


def test_measured_has_a_tree(measured):
    with ScriptedProvider(ToolCall("pace", {"distance": 5}), "done") as provider:
        model = ChatOpenAI(model="m", base_url=provider.base_url, api_key="any")
        agent(model, asynchronous=False).invoke(question("hi"))
    lines = measured.span_tree("gen_ai.usage.input_tokens").splitlines()
    assert lines[0] == "invoke_agent LangGraph"
    assert "├─ execute_tool pace" in lines
    assert lines[-1].endswith("chat m (client) gen_ai.usage.input_tokens=6")
