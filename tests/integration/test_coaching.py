"""The reference service under the command: /metrics against the provider's ledger and the
users' own notes, for each of the four endpoints.
"""

import json
import time

import httpx
import pytest

from examples.coaching.demo.checks import expectations, missing_at_rest
from otel_coach.metrics.catalogue import CATALOGUE
from otel_coach.metrics.labels import ALLOWED_LABELS
from otel_coach.testing import Page
from tests.support.stack import BARE, coaching_stack
from tests.support.users import ADVANCED, CHAT, LEGACY, PLAN, Users, one_round
from tests.support.versions import STREAMS_TELL_PARTS
from tests.support.waiting import eventually

SERVER, INTERNAL, CLIENT = 2, 1, 3


@pytest.fixture(scope="module")
def stack(database_url):
    limits = dict.fromkeys(("COACH_CHAT_LIMIT", "COACH_PLAN_LIMIT"), "1000/minute")
    limits["COACH_CHAT_LEGACY_LIMIT"] = "8/second"
    with coaching_stack(database_url=database_url, environment=limits) as running:
        yield running


@pytest.fixture(scope="module")
def users(stack):
    sending = Users(stack)
    yield sending
    sending.close()


def page(stack):
    return Page(httpx.get(f"{stack.url}/metrics").text)


def spans_of(stack, user_does):
    """The spans of the one trace that `user_does` makes."""
    since = time.time_ns()
    user_does()

    def new():
        roots = {s.trace_id for s in stack.receiver.spans if s.kind == SERVER and s.start >= since}
        return [span for span in stack.receiver.spans if span.trace_id in roots]

    eventually(new)
    assert len({span.trace_id for span in new()}) == 1
    return new()


def test_one_round_of_users_leaves_every_figure_right(stack, users):
    one_round(users, stack, lambda _: None)
    assert missing_at_rest(lambda: page(stack), users.notes, stack.provider) == []
    found = page(stack)
    # What the checks above would not see: that there was something to compare.
    whats = {
        what: expected
        for what, expected, _ in expectations(found, users.notes, stack.provider.ledger)
    }
    assert whats["LLM calls"] > 10
    assert whats["prompt tokens"] > 0
    assert whats["cached tokens"] > 0
    assert whats["reasoning tokens"] > 0
    assert whats["tool calls"] == 3
    assert whats["turns by WebSocket"] == 4
    assert whats["429"] >= 1
    assert whats[f"aborts {CHAT}"] == 1


@pytest.mark.parametrize("endpoint", [CHAT, LEGACY, PLAN, ADVANCED])
def test_each_endpoint_adds_exactly_what_it_did(stack, users, endpoint):
    if endpoint == LEGACY:
        time.sleep(1.1)  # the round before may have used up its second
    before = page(stack)
    stack.provider.reset()
    send = users.plan if endpoint in {PLAN, ADVANCED} else users.chat
    answers = [send("[tool:recent_activities] [cached:3] [reasoning:2] go", endpoint=endpoint)]
    if endpoint != LEGACY:  # which raises: its users see a broken connection
        answers.append(send("[fail:500] go", endpoint=endpoint))
    ledger = stack.provider.ledger
    after = page(stack)

    def added(name, **labels):
        return after.sum(name, **labels) - before.sum(name, **labels)

    mode = "plan_generator" if endpoint in {PLAN, ADVANCED} else "streamlit"
    told = [entry for entry in ledger if entry.usage_sent]
    assert added("agent_llm_requests_total", mode=mode) == len(ledger)
    assert added("agent_llm_requests_total") == len(ledger)
    refused = sum(entry.outcome == "refused" for entry in ledger)
    assert added("agent_llm_requests_total", status="error") == refused
    telling = [entry for entry in told if STREAMS_TELL_PARTS or not entry.stream]
    for entries, figure, name, labels in (
        (told, "prompt_tokens", "agent_llm_tokens_total", {"mode": "prompt"}),
        (told, "completion_tokens", "agent_llm_tokens_total", {"mode": "completion"}),
        (telling, "cached_tokens", "agent_llm_cached_tokens_total", {}),
        (telling, "reasoning_tokens", "agent_llm_reasoning_tokens_total", {}),
    ):
        assert added(name, **labels) == sum(getattr(entry, figure) for entry in entries)
    assert added("agent_tool_calls_total", tool_name="recent_activities", status="ok") == 1
    requests = "app_ai_request_duration_seconds_count"
    assert added(requests, endpoint=endpoint, model="gpt-3.5-turbo", mode=mode) == len(answers)
    assert added(requests) == len(answers)
    streams = [answer for answer in answers if "content-length" not in answer.headers]
    assert bool(streams) == (endpoint in {CHAT, LEGACY})
    chunks = sum(len(answer.text.splitlines()) for answer in streams if endpoint == CHAT)
    if endpoint == CHAT:
        assert added("app_ai_stream_chunks_total", endpoint=CHAT) == chunks
    if endpoint == LEGACY:
        words = sum(e.completion_tokens - e.reasoning_tokens for e in ledger if not e.tool_call)
        assert added("app_ai_stream_chunks_total", endpoint=LEGACY) == words
    assert added("app_ai_stream_aborts_total") == 0
    assert added("otel_coach_errors_total") == 0


def test_a_chat_with_a_tool_is_one_trace_with_the_right_parents(stack, users):
    spans = spans_of(stack, lambda: users.chat("[tool:recent_activities] my secret question"))
    tree = {span.span_id: span for span in spans}
    shape = {
        (span.name, tree[span.parent_id].name if span.parent_id else None, span.kind)
        for span in spans
    }
    assert shape == {
        (f"POST {CHAT}", None, SERVER),
        ("invoke_agent LangGraph", f"POST {CHAT}", INTERNAL),
        ("chat gpt-3.5-turbo", "invoke_agent LangGraph", CLIENT),
        ("execute_tool recent_activities", "invoke_agent LangGraph", INTERNAL),
        ("SELECT activities", "execute_tool recent_activities", CLIENT),
    }
    assert len(tree) == len(spans) == 6
    by_name = {span.name: span.attributes for span in spans}
    assert by_name[f"POST {CHAT}"] == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": CHAT,
        "network.protocol.version": "1.1",
        "url.scheme": "http",
    }
    assert by_name["invoke_agent LangGraph"] == {
        "gen_ai.agent.name": "LangGraph",
        "gen_ai.operation.name": "invoke_agent",
    }
    assert by_name["execute_tool recent_activities"] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "recent_activities",
        "gen_ai.tool.type": "function",
    }
    assert by_name["SELECT activities"] == {
        "db.query.summary": "SELECT activities",
        "db.system": "postgresql",
    }
    chat = by_name["chat gpt-3.5-turbo"]
    entry = stack.provider.ledger[-1]
    assert chat["gen_ai.usage.input_tokens"] == entry.prompt_tokens
    assert chat["gen_ai.usage.output_tokens"] == entry.completion_tokens
    assert set(chat) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    }
    for span in spans:
        assert span.start <= span.end
        assert not span.is_error
        assert not span.events
        if span.parent_id:
            assert tree[span.parent_id].start <= span.start


def test_a_provider_that_fails_marks_the_spans_it_made_fail(stack, users):
    spans = spans_of(stack, lambda: users.plan("[fail:500] A plan"))
    assert [(s.name, s.is_error) for s in spans] == [
        (f"POST {PLAN}", True),
        ("invoke_agent LangGraph", True),
        ("chat gpt-3.5-turbo", True),
    ]
    assert all(span.attributes["error.type"] for span in spans)
    assert all(span.status_message == "" for span in spans)


def test_a_user_who_leaves_is_no_error_and_is_said_to_have_left(stack, users):
    spans = spans_of(stack, lambda: users.leave_chat("[pace:0.05] [tokens:80] everything"))
    assert not any(span.is_error for span in spans)
    (server,) = (span for span in spans if span.kind == SERVER)
    assert server.attributes["otel_coach.outcome"] == "aborted"


def test_no_content_and_nobody_is_in_any_span_or_label(stack, users):
    users.chat("my secret question [tool:weather]")
    httpx.get(f"{stack.url}/secret-path?q=secret-query", headers={"host": "secret-host"})
    httpx.get(f"{stack.url}/health", headers={"user-agent": "secret-agent"})
    eventually(lambda: any(s.name == "GET" for s in stack.receiver.spans))
    leaving = b"".join(body for _, body in stack.receiver.requests)
    leaving += httpx.get(f"{stack.url}/metrics").content
    for secret in (b"secret", b"user-1", b"thread-1", b"Keep most of", b"127.0.0.1", b"anna"):
        assert secret not in leaving
    ours = tuple(metric.prometheus_name.removesuffix("_total") for metric in CATALOGUE)
    found = page(stack)
    labels = {
        label
        for name in found.names
        if name.startswith(ours)
        for labels, _ in found.samples(name)
        for label in labels
    }
    assert labels <= ALLOWED_LABELS | {"le"}
    assert not any("otel_scope" in label for label in found.labels)
    assert "target_info" not in found.names


def normal(answer):
    """What a user gets, but for what no two answers share."""
    headers = sorted((k, v) for k, v in answer.headers.items() if k != "date")
    return answer.status_code, headers, answer.content


def everything(stack):
    """One answer of each kind."""
    users = Users(stack)
    answers = [
        users.chat("Hello"),
        users.chat("[tool:recent_activities] Hello"),
        users.chat("[tokens:3]", endpoint=LEGACY),
        users.plan("A plan"),
        users.plan("[tool:weather]", endpoint=ADVANCED),
        users.plan("[fail:500]"),
        users.chat("Hello", token=""),
        users.chat("Hello", token="wrong"),
        users.plan("A plan", key="wrong"),
        users.get("/no/such/page"),
        users.get(CHAT),
        users.get("/health"),
        users.get("/openapi.json"),
    ]
    users.close()
    return [normal(answer) for answer in answers]


def test_disabled_the_answers_are_those_of_the_bare_service(database_url, stack):
    measured = everything(stack)
    with coaching_stack(database_url=database_url, command=BARE) as bare:
        expected = everything(bare)
    with coaching_stack(
        database_url=database_url, environment={"OTEL_COACH_DISABLED": "true"}
    ) as disabled:
        assert everything(disabled) == expected
        assert disabled.receiver.requests == []
        assert httpx.get(f"{disabled.url}/metrics").status_code == 404
    assert measured == expected


def test_the_ledger_over_http_is_the_one_in_process(stack):
    over_http = json.loads(httpx.get(f"{stack.provider.url}/ledger").content)
    assert [entry["id"] for entry in over_http] == [entry.id for entry in stack.provider.ledger]
