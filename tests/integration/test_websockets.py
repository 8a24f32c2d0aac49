"""WebSockets on a real socket: their turns are AI requests, their refusals are counted."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from fastapi import FastAPI, WebSocket
from opentelemetry.trace import SpanKind
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from otel_coach import Settings
from otel_coach.instrumentors.asgi.middleware import Middleware
from otel_coach.instrumentors.asgi.turns import Turn
from otel_coach.instrumentors.asgi.websocket import Connection
from otel_coach.testing import measuring
from tests.support.applications import counted
from tests.support.hooks import HOOKS, inject
from tests.support.serving import serving, serving_by_hypercorn
from tests.support.sockets import HAS_DENIALS, SLOW, WORDS, Sockets, rest_of_turn, socket_to, turn
from tests.support.versions import WEBSOCKET_SERVERS
from tests.support.waiting import eventually

REQUESTS = "app_ai_request_duration_seconds_count"
SECONDS = "app_ai_request_duration_seconds_sum"
CHUNKS = "app_ai_stream_chunks_total"
ABORTS = "app_ai_stream_aborts_total"
FIRST = "app_ai_time_to_first_chunk_seconds_sum"
OPEN = "app_websockets_active"
AUTH = "auth_failures_total"
STREAMED = [*WORDS, "end"]


@pytest.fixture
def sockets():
    return Sockets()


@pytest.fixture(params=WEBSOCKET_SERVERS)
def client(request, sockets, measured):
    is_hypercorn = request.param == "hypercorn"
    served = serving_by_hypercorn(sockets.app) if is_hypercorn else None
    with served or serving(sockets.app, ws=request.param) as client:
        yield client


@pytest.fixture
def one(sockets, measured):
    with serving(sockets.app) as client:
        yield client


def turns(measured, path):
    """{status: count} of the turns at an endpoint."""
    return {
        labels["status"]: int(value)
        for labels, value in measured.page().samples(REQUESTS)
        if labels["endpoint"] == path and value
    }


def expect(measured, path, **statuses):
    eventually(lambda: turns(measured, path) == statuses)


SHAPES = {
    "/ws/stream": STREAMED,
    "/ws/invoke": [WORDS],
    "/ws/two-runs": STREAMED,
    "/ws/thread": [WORDS],
    "/ws/queue": STREAMED,
    "/ws/embeds": STREAMED,
    "/ws/timeout": STREAMED,
}


@pytest.mark.parametrize("path", SHAPES)
def test_each_turn_is_an_ai_request_with_its_messages(client, measured, path):
    with socket_to(client, path) as connection:
        for _ in range(3):
            assert turn(connection) == SHAPES[path]
            time.sleep(0.15)  # a task that takes from a queue: its last turn must have ended
    expect(measured, path, ok=3)
    page = measured.page()
    assert page.sum(CHUNKS, endpoint=path, status="ok") == 3 * len(SHAPES[path])
    assert page.sum(ABORTS, endpoint=path) == 0
    assert page.sum("agent_llm_requests_total", status="ok") == 3 * (1 + (path == "/ws/two-runs"))
    assert not [key for key in counted(measured) if key[0] != "/health"]
    assert page.sum("otel_coach_errors_total") == 0


def test_a_turn_lasts_from_the_message_to_the_last_answer(one, measured):
    with socket_to(one, "/ws/slow") as connection:
        time.sleep(0.3)  # before the first message, nobody waits for anything
        began = time.perf_counter()
        turn(connection)
        took = time.perf_counter() - began
        time.sleep(0.3)
    expect(measured, "/ws/slow", ok=1)
    page = measured.page()
    assert SLOW * len(WORDS) * 0.8 < page.sum(SECONDS, endpoint="/ws/slow") <= took
    assert SLOW * 0.8 < page.sum(FIRST, endpoint="/ws/slow") < took - SLOW


def test_a_server_that_speaks_first_has_a_turn_of_its_own(client, measured):
    with socket_to(client, "/ws/first") as connection:
        assert rest_of_turn(connection) == STREAMED
        expect(measured, "/ws/first", ok=1)
        assert turn(connection) == STREAMED
    expect(measured, "/ws/first", ok=2)
    assert measured.page().sum(CHUNKS, endpoint="/ws/first") == 2 * len(STREAMED)


def test_turns_that_overlap_are_told_apart(client, measured):
    with socket_to(client, "/ws/tasks") as connection:
        for _ in range(3):
            connection.send("hi")
        received = [connection.recv(timeout=60) for _ in range(3 * len(STREAMED))]
        assert sorted(received) == sorted(3 * STREAMED)
    expect(measured, "/ws/tasks", ok=3)
    page = measured.page()
    assert page.sum(CHUNKS, endpoint="/ws/tasks") == 3 * len(STREAMED)
    # Each lasts as long as one stream, not as all of them.
    assert page.sum(SECONDS, endpoint="/ws/tasks") >= 3 * SLOW * len(WORDS) * 0.8


def test_a_turn_lasts_as_long_as_the_task_that_answers_it(client, measured):
    with socket_to(client, "/ws/late") as connection:
        connection.send("hi")
        assert rest_of_turn(connection) == rest_of_turn(connection) == STREAMED
    expect(measured, "/ws/late", ok=1)
    assert measured.page().sum(CHUNKS, endpoint="/ws/late") == 2 * len(STREAMED)


def test_messages_without_ai_are_no_requests(client, measured):
    with socket_to(client, "/ws/echo") as connection:
        for text in ("a", "b"):
            connection.send(text)
            assert connection.recv(timeout=60) == text
        connection.send(b"\x00")  # FastAPI's receive_text fails; the server closes
        with suppress(ConnectionClosed):
            connection.recv(timeout=60)
    page = measured.page()
    assert page.sum(REQUESTS) == 0
    assert page.sum("otel_coach_errors_total") == 0


def leave_by_closing(connection):
    connection.close()


def leave_at_once(connection):
    connection.socket.close()


@pytest.mark.parametrize("leave", [leave_by_closing, leave_at_once])
@pytest.mark.parametrize("path", ["/ws/slow", "/ws/tasks"])
def test_a_client_that_leaves_in_a_turn_aborts_it(client, measured, path, leave):
    with ExitStack() as stack:
        connection = stack.enter_context(socket_to(client, path))
        connection.send("hi")
        assert connection.recv(timeout=60) == WORDS[0]
        leave(connection)
        with suppress(OSError, ConnectionClosed):
            stack.close()
    expect(measured, path, aborted=1)
    page = measured.page()
    assert page.sum(ABORTS, endpoint=path) == 1
    assert 1 <= page.sum(CHUNKS, endpoint=path, status="aborted") < len(STREAMED)
    eventually(lambda: measured.page().sum(OPEN, endpoint=path) == 0)


def test_a_client_that_leaves_between_turns_aborts_nothing(client, measured):
    with socket_to(client, "/ws/stream") as connection:
        turn(connection)
    expect(measured, "/ws/stream", ok=1)
    assert measured.page().sum(ABORTS) == 0


def test_a_run_that_fails_is_an_error_though_the_application_answers(client, measured):
    with socket_to(client, "/ws/fails") as connection:
        assert turn(connection) == ["sorry"]
    expect(measured, "/ws/fails", error=1)


def test_an_application_that_raises_in_a_turn_is_an_error(client, measured):
    with socket_to(client, "/ws/raises") as connection:
        connection.send("hi")
        with pytest.raises(ConnectionClosed):
            while True:
                connection.recv(timeout=60)
    expect(measured, "/ws/raises", error=1)
    span = next(span for span in measured.spans if span.name == "GET /ws/raises")
    assert span.attributes["error.type"] == "LookupError"


def refusals(measured):
    return {
        (labels["endpoint"], labels["method"], labels["status"], labels["error_type"]): int(value)
        for labels, value in measured.page().samples(AUTH)
        if value
    }


def refused(client, path, **options):
    with pytest.raises(InvalidStatus) as refusal:
        connect(f"ws://{client.base_url.netloc.decode()}{path}", **options)
    return refusal.value.response.status_code


def test_refused_handshakes_count_as_http_answers_do(client, measured):
    key = {"additional_headers": {"X-API-Key": "wrong"}}
    assert refused(client, "/ws/closed/anna") == 403
    assert refused(client, "/ws/closed/berta", **key) == 403
    expected = {
        ("/ws/closed/{name}", "GET", "403", "missing_credentials"): 1,
        ("/ws/closed/{name}", "GET", "403", "rejected"): 1,
    }
    if HAS_DENIALS:
        assert refused(client, "/ws/denied") == 401
        assert refused(client, "/ws/limited") == 429
        expected["/ws/denied", "GET", "401", "missing_credentials"] = 1
    eventually(lambda: refusals(measured) == expected)
    page = measured.page()
    assert (
        page.sum("rate_limit_hits_total")
        == page.sum("rate_limit_hits_total", endpoint="/ws/limited")
        == int(HAS_DENIALS)
    )
    assert not [key for key in counted(measured) if key[0] != "/health"]
    assert page.sum(OPEN) == 0


class ClosesBetaPaths:
    """A middleware that refuses handshakes, whether there is a route for them or not."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket" and scope["path"].startswith("/beta"):
            await receive()
            await send({"type": "websocket.close"})
            return
        await self.app(scope, receive, send)


@pytest.mark.parametrize("has_middleware", [True, False])
def test_a_path_without_a_route_is_no_auth_failure(measured, has_middleware):
    sub = FastAPI()
    app = FastAPI()
    app.mount("/sub", sub)

    @app.websocket("/beta/closed")
    @sub.websocket("/closed")
    async def closed(websocket: WebSocket):
        await websocket.close()

    if has_middleware:
        app.add_middleware(ClosesBetaPaths)
    with serving(app) as client:
        for path in ("/nows", "/sub/nows", "/sub/closed", "/beta/closed", "/beta/nows"):
            assert refused(client, path) == 403
    refusal = ("GET", "403", "missing_credentials")
    expected = {("/sub/closed", *refusal): 1, ("/beta/closed", *refusal): 1}
    if has_middleware:  # it refuses, not the router
        expected["unmatched", *refusal] = 1
    eventually(lambda: refusals(measured) == expected)
    spans = {span.name: span.attributes for span in measured.spans}
    assert spans["GET"]["http.response.status_code"] == 403  # which the client has got


def test_open_sockets_are_counted(one, measured):
    with ExitStack() as stack:
        for count in range(1, 4):
            stack.enter_context(socket_to(one, "/ws/echo"))
            eventually(lambda: measured.page().sum(OPEN, endpoint="/ws/echo") == count)  # noqa: B023
    eventually(lambda: measured.page().sum(OPEN, endpoint="/ws/echo") == 0)
    assert ("/ws/echo",) in {(labels["endpoint"],) for labels, _ in measured.page().samples(OPEN)}


def test_spans_of_turns_are_below_that_of_the_connection(client, measured):
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    headers = {"traceparent": f"00-{trace_id}-{parent}-01"}
    with socket_to(client, "/ws/stream", additional_headers=headers) as connection:
        turn(connection)
        turn(connection)
    eventually(lambda: any(span.name == "GET /ws/stream" for span in measured.spans))
    spans = measured.spans
    (server,) = [span for span in spans if span.name == "GET /ws/stream"]
    assert server.kind is SpanKind.SERVER
    assert f"{server.context.trace_id:032x}" == trace_id
    assert f"{server.parent.span_id:016x}" == parent
    assert dict(server.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 101,
        "http.route": "/ws/stream",
        "network.protocol.version": "1.1",
        "url.scheme": "ws",
    }
    of_turns = [span for span in spans if span.name == "websocket turn /ws/stream"]
    assert [span.parent.span_id for span in of_turns] == [server.context.span_id] * 2
    chats = [span for span in spans if span.name.startswith("chat")]
    assert {span.parent.span_id for span in chats} == {span.context.span_id for span in of_turns}
    for span in of_turns:
        assert server.start_time <= span.start_time <= span.end_time <= server.end_time


def test_the_span_of_an_abandoned_turn_says_so(one, measured):
    with suppress(OSError, ConnectionClosed), socket_to(one, "/ws/slow") as connection:
        connection.send("hi")
        connection.recv(timeout=60)
        connection.close()
    expect(measured, "/ws/slow", aborted=1)
    eventually(lambda: any(span.name == "GET /ws/slow" for span in measured.spans))
    for name in ("websocket turn /ws/slow", "GET /ws/slow"):
        (span,) = [span for span in measured.spans if span.name == name]
        assert span.attributes["otel_coach.outcome"] == "aborted"
        assert span.status.is_unset


def closed_by_the_application(client):
    with socket_to(client, "/ws/closes") as connection:
        answer = turn(connection)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=60)
        return answer, closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(stop_abandoned=True, stop_after=0)], ids=["", "stopping"]
)
def test_what_the_application_gets_and_sends_is_unchanged(sockets, settings):
    def spoken():
        with serving(sockets.app) as client, ExitStack() as stack:
            said = [closed_by_the_application(client)]
            for path in SHAPES:
                connection = stack.enter_context(
                    socket_to(client, path, subprotocols=["chat", "other"])
                )
                said.append((path, turn(connection), turn(connection), connection.subprotocol))
            return said

    bare = spoken()
    with measuring(settings):
        assert spoken() == bare


def failing(*_args, **_kwargs):
    raise LookupError("injected")


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls, name in HOOKS
        if (cls in {Connection, Turn} or (cls, name) == (Middleware, "_watch_socket"))
        and name != "_until_dropped_streams_end"  # called if a stream is dropped: test_copies.py
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_fault_in_a_hook_changes_nothing_for_the_application(monkeypatch, sockets, cls, name):
    inject(monkeypatch, cls, name, failing)
    with measuring() as measured, serving(sockets.app) as client:
        for path, expected in {**SHAPES, "/ws/tasks": STREAMED}.items():
            with socket_to(client, path) as connection:
                assert [turn(connection), turn(connection)] == [expected] * 2
        assert refused(client, "/ws/closed/anna") == 403
        with suppress(OSError, ConnectionClosed), socket_to(client, "/ws/slow") as connection:
            connection.send("hi")
            connection.recv(timeout=60)
            connection.close()
        eventually(lambda: measured.page().sum("otel_coach_errors_total") > 0)


@pytest.mark.long
def test_a_thousand_sockets_are_open_and_leave_nothing(one, measured):
    before = left_in_memory()  # by earlier tests, whose servers have stopped meanwhile
    with ExitStack() as stack, ThreadPoolExecutor(50) as pool:
        opened = [stack.enter_context(socket_to(one, "/ws/stream")) for _ in range(1000)]
        eventually(lambda: measured.page().sum(OPEN, endpoint="/ws/stream") == 1000)
        assert list(pool.map(turn, opened)) == [STREAMED] * 1000
        expect(measured, "/ws/stream", ok=1000)
    eventually(lambda: measured.page().sum(OPEN, endpoint="/ws/stream") == 0)
    assert measured.page().sum(CHUNKS, endpoint="/ws/stream") == 1000 * len(STREAMED)
    eventually(lambda: left_in_memory() <= before)


def left_in_memory():
    gc.collect()
    return sum(type(one) in {Connection, Turn} for one in gc.get_objects())
