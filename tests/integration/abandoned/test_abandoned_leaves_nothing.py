"""What is left of work that was stopped: no task, no connection, no change of other answers."""

import asyncio
import gc
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import cycle, islice

import httpx
import psutil
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from otel_coach import Settings
from otel_coach.instrumentors.genai.stopping_client_calls import StoppingClientCalls
from otel_coach.testing import ScriptedProvider, measuring
from tests.support.abandoned_models import Notes, losing
from tests.support.abandoned_work import EMPTY, Work, answers, application, streams, task_per_chunk
from tests.support.hooks import REFUSALS, inject
from tests.support.leaving import asked
from tests.support.serving import serving
from tests.support.waiting import eventually
from verification.oracle.graphs import graph as calling

ON_THE_PATH = {
    "/stream": {"run_around", "replace_error_at_end", "check_chunks"},
    "/thread": {"run_around", "is_refused", "check_chunks", "is_stopped"},
}
STOPPED = "app_ai_stopped_runs_total"
ANSWER = " ".join(["word"] * 40)


@contextmanager
def stopping(provider=None, **more):
    gateways = {} if provider is None else provider.gateways
    settings = Settings(stop_abandoned=True, stop_after=0, gateways=gateways, **more)
    with measuring(settings) as measured:
        yield measured


def leaving(client, path, seconds=0.05, until=lambda: True):
    with asked(client.base_url, path):
        eventually(until)
        time.sleep(seconds)


def sockets():
    return len(psutil.Process().net_connections("tcp"))


def with_places(kind, places):
    """An HTTP client of the openai package that has so many connections."""
    module = import_module(kind.__mro__[2].__module__.partition(".")[0])  # httpx, or its successor
    return kind(limits=module.Limits(max_connections=places))


def asking_directly(provider, places=1000):  # noqa: C901 - one function for each route
    """Routes that call the openai package itself, whose connections are counted."""
    app = FastAPI()
    how = {"base_url": provider.base_url, "api_key": "x", "max_retries": 0}
    client = AsyncOpenAI(http_client=with_places(DefaultAsyncHttpxClient, places), **how)
    app.state.client = client
    sync_client = OpenAI(http_client=with_places(DefaultHttpxClient, places), **how)
    model = ChatOpenAI(base_url=provider.base_url, api_key="x", model="gpt-5", stream_usage=True)
    question = [{"role": "user", "content": "hi"}]
    ask = {"model": "gpt-5", "messages": question}

    @app.get("/stream")
    async def stream():
        async def parts():
            answer = await client.chat.completions.create(**ask, stream=True)
            async for _ in answer:
                yield "x"

        return StreamingResponse(parts())

    @app.get("/answer")
    async def answer():
        for _ in range(3):
            async for _ in await client.chat.completions.create(**ask, stream=True):
                pass

    @app.get("/thread")
    def thread():
        for _ in range(3):
            for _ in sync_client.chat.completions.create(**ask, stream=True):
                pass

    @app.get("/langchain")
    async def langchain():
        async def parts():
            async for _ in model.astream("hi"):
                yield "x"

        return StreamingResponse(parts())

    compiled = calling(model, asynchronous=True)

    @app.get("/graph")
    async def graph():
        async def parts():
            async for _ in compiled.astream({"messages": question}, stream_mode="messages"):
                yield "x"

        return StreamingResponse(parts())

    return app


@pytest.mark.server
@pytest.mark.parametrize("path", ["/stream", "/answer", "/thread", "/langchain", "/graph"])
def test_calls_by_a_providers_package_are_stopped(path):
    with ScriptedProvider(ANSWER, pace=0.02) as provider, stopping(provider) as measured:
        with serving(asking_directly(provider)) as client:
            leaving(client, path, 0.1, until=lambda: provider.calls)
            eventually(lambda: measured.page().sum(STOPPED, endpoint=path) == 1)
            time.sleep(1)
        assert len(provider.calls) == 1
        assert measured.page().sum("agent_llm_requests_total", status="ok") == 0
        assert measured.page().sum("otel_coach_errors_total") == 0


@pytest.mark.server
@pytest.mark.parametrize("path", ["/stream", "/thread"])
@pytest.mark.parametrize("name", [name for _, name in REFUSALS])
def test_a_fault_in_what_ends_calls_changes_no_answer(path, name, monkeypatch):
    def failing(*_args):
        raise LookupError

    inject(monkeypatch, StoppingClientCalls, name, failing)
    with ScriptedProvider("a word", pace=0) as provider, stopping(provider) as measured:
        with serving(asking_directly(provider)) as client:
            assert client.get(path).status_code == 200
            leaving(client, path, 0.05)
        faults = measured.page().sum("otel_coach_errors_total")
        assert (faults > 0) is (name in ON_THE_PATH[path])


@pytest.mark.server
@pytest.mark.parametrize("path", ["/stream", "/answer"])
def test_work_that_is_just_connecting_is_stopped_when_it_has_connected(path, monkeypatch):
    """anyio cancels the task that connects once an attempt succeeded, and takes that back."""
    connecting = []

    async def connect_and_send(*args, **kwargs):
        task = asyncio.current_task()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        connecting.append(True)
        await asyncio.sleep(0.3)
        task.uncancel()
        return await send(*args, **kwargs)

    with ScriptedProvider(ANSWER, pace=0.02) as provider, stopping(provider) as measured:
        app = asking_directly(provider)
        http_client = app.state.client._client
        send = http_client.send
        monkeypatch.setattr(http_client, "send", connect_and_send)
        with serving(app) as client:
            with asked(client.base_url, path):
                eventually(lambda: connecting)
            eventually(lambda: measured.page().sum(STOPPED, endpoint=path) == 1)
            time.sleep(0.5)
        assert len(connecting) == 1
        assert measured.page().sum("agent_llm_requests_total", status="ok") == 0
        assert measured.page().sum("otel_coach_errors_total") == 0


PLACES = 12
"""Connections in each pool of the package's client: one that stays taken is missed."""


@pytest.mark.long
@pytest.mark.server
@pytest.mark.timeout(240)
def test_a_thousand_abandonments_leave_no_task_no_connection_and_no_place_in_a_pool():
    paths = ("/stream", "/langchain", "/answer", "/graph", "/thread")
    with ScriptedProvider(ANSWER, pace=0.02) as provider, stopping(provider) as measured:
        app = asking_directly(provider, places=PLACES)
        tasks = []

        @app.get("/tasks")
        async def count():
            gc.collect()
            tasks.append(len(asyncio.all_tasks()))

        def leave(first):
            """Until the provider has had a thousand calls; some clients leave before theirs."""
            for path in islice(cycle(paths), first, None):
                leaving(client, path, 0.15)
                if len(provider.calls) - calls >= 1000:
                    return

        def all_ask(times):
            with ThreadPoolExecutor(times) as users:
                asked_for = [*users.map(lambda _: client.get("/stream", timeout=30), range(times))]
            assert all(len(answer.content) >= 40 for answer in asked_for)

        with serving(app) as client:
            all_ask(PLACES)
            client.get("/tasks")
            before = sockets()
            calls = len(provider.calls)
            with ThreadPoolExecutor(10) as crowd:
                list(crowd.map(leave, range(10)))
            eventually(lambda: client.get("/tasks") and tasks[-1] <= tasks[0])
            eventually(lambda: sockets() <= before + 5)
            left = len(provider.calls) - calls
            all_ask(PLACES)
        page = measured.page()
        assert page.sum(STOPPED) >= left
        assert page.sum("agent_llm_requests_total", status="ok") == 2 * PLACES
        assert page.sum("app_ai_streams_active") == 0
        assert page.sum("otel_coach_errors_total") == 0
        assert page.sum("agent_llm_requests_total", status="error") == 0


def told(client, path, **more):
    answer = client.get(path, **more)
    return answer.status_code, sorted(answer.headers.multi_items()), answer.content


@pytest.mark.server
def test_an_answer_that_is_read_is_the_same_byte_for_byte():
    notes = Notes(pause=0)
    work = Work(notes)

    def app():
        found = application(work)

        @found.post("/echo")
        async def echo(request: Request):
            await work.model.ainvoke("hi")
            return len(await request.body())

        return found

    paths = [
        *(f"/streams/{name}" for name in streams(work)),
        *(f"/answers/{name}" for name in answers(work)),
        "/sse",
    ]
    seen = []
    for is_on in (False, True):
        with measuring(Settings(stop_abandoned=is_on)), serving(app()) as client:
            found = [told(client, path) for path in paths]
            body = os.urandom(300_000)
            found.append(client.post("/echo", content=body).content)
            slow = client.post("/echo", content=(body[:1000] for _ in range(20)))
            found.append(slow.content)
            seen.append(found)
    off, on = ([[part for part in one if part] for one in found] for found in seen)
    assert [strip(one) for one in off] == [strip(one) for one in on]


def strip(found):
    """Without the date."""
    if isinstance(found, list) and len(found) == 3:
        status, headers, content = found
        return status, [header for header in headers if header[0] != "date"], content
    return found


@pytest.mark.server
def test_a_body_that_is_read_after_the_work_began_is_whole():
    """The server's messages are read ahead while the work runs."""
    notes = Notes(pause=0.01)
    work = Work(notes)
    app = FastAPI()

    @app.post("/upload")
    async def upload(request: Request):
        await work.model.ainvoke("hi")
        size = 0
        async for part in request.stream():
            size += len(part)
            await asyncio.sleep(0)
        return size

    with stopping() as measured, serving(app) as client:
        parts = [os.urandom(50_000) for _ in range(40)]
        answer = client.post("/upload", content=iter(parts))
        assert answer.json() == 40 * 50_000
        assert measured.page().sum(STOPPED) == 0


@pytest.mark.server
def test_a_client_that_leaves_in_its_body_is_noticed_by_the_application_as_before():
    notes = Notes(pause=0.01)
    work = Work(notes)
    app = FastAPI()
    raised = []

    @app.post("/upload")
    async def upload(request: Request):
        try:
            await request.body()
        except BaseException as error:
            raised.append(type(error).__name__)
            raise
        await work.graph.ainvoke(EMPTY)

    with stopping(), serving(app) as client:
        address = client.base_url.host, client.base_url.port
        with socket.create_connection(address) as connection:
            connection.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            time.sleep(0.1)
        eventually(lambda: raised)
    assert raised == ["ClientDisconnect"]
    assert not notes.tokens


@pytest.mark.server
def test_a_server_that_stops_meanwhile_gets_its_cancellation():
    """Nothing that the server cancels is swallowed."""
    notes = Notes(pause=0.05)
    work = Work(notes)
    app = FastAPI()
    ended = []

    @app.get("/answer")
    async def answer():
        try:
            await work.graph.ainvoke(EMPTY)
        finally:
            ended.append(True)

    with stopping(), serving(app, timeout_graceful_shutdown=1) as client:

        def ask():
            with suppress(httpx.HTTPError):
                client.get("/answer")

        thread = threading.Thread(target=ask)
        thread.start()
        eventually(lambda: notes.tokens)
    thread.join()
    assert ended


of_openai = import_module(DefaultAsyncHttpxClient.__mro__[2].__module__.partition(".")[0])


class LosesCancellations(of_openai.AsyncHTTPTransport):
    """Waits for each part of an answer as `asyncio.wait_for` does before Python 3.12."""

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        response.stream = LosingParts(response.stream)
        return response


class LosingParts(of_openai.AsyncByteStream):
    def __init__(self, stream):
        self.stream = stream

    async def __aiter__(self):
        parts = aiter(self.stream)
        while (part := await losing(anext(parts, None))) is not None:
            yield part

    async def aclose(self):
        await self.stream.aclose()


@pytest.mark.server
def test_a_direct_stream_whose_client_loses_the_cancellation_is_stopped():
    app = FastAPI()
    with ScriptedProvider(ANSWER, pace=0.05) as provider, stopping(provider) as measured:
        transport = DefaultAsyncHttpxClient(transport=LosesCancellations())
        how = {"base_url": provider.base_url, "api_key": "x", "max_retries": 0}
        client = AsyncOpenAI(http_client=transport, **how)

        @app.get("/stream")
        async def stream():
            async def parts():
                ask = {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}
                async for _ in await client.chat.completions.create(**ask, stream=True):
                    yield "x"

            return StreamingResponse(task_per_chunk(parts()))

        with serving(app) as served:
            leaving(served, "/stream", 0.1, until=lambda: provider.calls)
            eventually(lambda: measured.page().sum(STOPPED, endpoint="/stream") == 1)
        assert measured.page().sum("agent_llm_requests_total", status="aborted") == 1
