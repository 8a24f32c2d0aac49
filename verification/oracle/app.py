"""The service under test: one route per way of calling a model, and nothing of otel-coach."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from pydantic import BaseModel

from verification.oracle import direct, sockets, witness
from verification.oracle.direct import in_steps
from verification.oracle.endings import LAST
from verification.oracle.graphs import calling_agent, graph, nested, weather, with_retriever
from verification.oracle.models import (
    CLOSED,
    ENDPOINTS,
    PROVIDER,
    open_embeddings,
    open_model,
    retriever,
)

RUNNING: set[asyncio.Future[Any]] = set()
"""Runs that outlive their requests; asyncio itself keeps only weak references to tasks."""


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    # Enough threads that no call of a batch waits for another one's thread.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(100))
    yield


app = FastAPI(lifespan=lifespan)


MODELS = {ending: open_model(url, timeout=timeout) for ending, (url, timeout) in ENDPOINTS.items()}
EMBEDDINGS = {ending: open_embeddings(url, timeout) for ending, (url, timeout) in ENDPOINTS.items()}
UNHEARD_EMBEDDINGS = open_embeddings(*ENDPOINTS["ok"], heard=False)
OTHER_MODEL = open_model(PROVIDER, model="gpt-4o-mini", timeout=30)
CLOSED_MODEL = open_model(CLOSED, timeout=5)


class Plan(BaseModel):
    weeks: int = 4


class Call:
    """One request's order: the prompt, the model, and how the application ends the call."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.text: str = order["text"]
        self.ending: str = order["ending"]
        self.number = str(order["number"])  # sent as `user`, which the ledger records
        self.user = {"model_kwargs": {"user": self.number}}
        self.model = MODELS.get(self.ending, MODELS["ok"]).model_copy(update=self.user)
        self.embeddings = EMBEDDINGS.get(self.ending, EMBEDDINGS["ok"]).model_copy(update=self.user)
        self.parts_before_the_cut: int = order["parts"]
        self.calls: int = order["calls"]

    @property
    def state(self) -> dict[str, Any]:
        return {"messages": [HumanMessage(self.text)]}


def chain(model: Any) -> Any:
    return ChatPromptTemplate.from_template("{text}") | model | StrOutputParser()


def text_of(part: Any) -> str:
    return getattr(part, "text", "") or str(part)[:20]


async def in_thread(work: Callable[[], Any]) -> Any:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, context.run, work)


async def both(model: Any, call: Call) -> Any:
    branches = RunnableParallel(one=RunnableLambda(lambda _: call.text) | model, two=model)
    return await branches.ainvoke(call.text)


async def two_models(model: Any, call: Call) -> Any:
    await OTHER_MODEL.model_copy(update=call.user).ainvoke("[tokens:3] first")
    return await model.ainvoke(call.text)


def retried(call: Call) -> Any:
    """Returns a chain with retries; the provider fails at the first try."""
    tries: list[int] = []

    def text(_: str) -> str:
        tries.append(1)
        return "[fail:500]" if len(tries) == 1 else call.text

    return (RunnableLambda(text) | call.model).with_retry(
        wait_exponential_jitter=False, stop_after_attempt=2
    )


AWAITED: dict[str, Callable[[Call], Awaitable[Any]]] = {  # the response is one JSON document
    "ainvoke": lambda c: c.model.ainvoke(c.text),
    "invoke": lambda c: asyncio.to_thread(c.model.invoke, c.text),
    "invoke_blocking": lambda c: _now(lambda: c.model.invoke(c.text)),
    "abatch": lambda c: c.model.abatch([c.text, c.text]),
    "batch": lambda c: asyncio.to_thread(c.model.batch, [c.text, c.text]),
    "agenerate": lambda c: c.model.agenerate([[HumanMessage(c.text)], [HumanMessage(c.text)]]),
    "generate": lambda c: asyncio.to_thread(c.model.generate, [[HumanMessage(c.text)]]),
    "chain": lambda c: chain(c.model).ainvoke({"text": c.text}),
    "with_retry": lambda c: retried(c).ainvoke(c.text),
    "with_fallbacks": lambda c: CLOSED_MODEL.with_fallbacks([c.model]).ainvoke(c.text),
    "bind_tools": lambda c: c.model.bind_tools([weather]).ainvoke(c.text),
    "structured_output": lambda c: c.model.with_structured_output(Plan).ainvoke(c.text),
    "parallel": lambda c: both(c.model, c),
    "two_models": lambda c: two_models(c.model, c),
    "thread_pool": lambda c: in_thread(lambda: c.model.invoke(c.text)),
    "graph_ainvoke": lambda c: graph(c.model, asynchronous=True).ainvoke(c.state),
    "graph_ainvoke_sync_nodes": lambda c: graph(c.model, asynchronous=False).ainvoke(c.state),
    "graph_invoke": lambda c: asyncio.to_thread(graph(c.model, asynchronous=False).invoke, c.state),
    "graph_tools": lambda c: graph(c.model, asynchronous=True, tools=True).ainvoke(c.state),
    "graph_in_thread": lambda c: in_thread(
        lambda: graph(c.model, asynchronous=False).invoke(c.state)
    ),
    "subgraph": lambda c: nested(c.model).ainvoke(c.state),
    "nested_agent": lambda c: calling_agent(c.model).ainvoke(c.state),
    "graph_retriever": lambda c: with_retriever(
        c.model, retriever(UNHEARD_EMBEDDINGS.model_copy(update=c.user))
    ).ainvoke(c.state),
    "aembed_query": lambda c: c.embeddings.aembed_query(c.text),
    "embed_documents": lambda c: asyncio.to_thread(c.embeddings.embed_documents, [c.text]),
    "retriever": lambda c: retriever(c.embeddings).ainvoke(c.text),
}


async def _now(work: Callable[[], Any]) -> Any:
    return work()


async def v3(call: Call) -> AsyncIterator[Any]:
    stream = await call.model.astream_events(call.text, version="v3")  # type: ignore[misc]
    async for event in stream:
        yield event


def task_per_chunk(call: Call) -> AsyncIterator[Any]:
    """Streams the model's answer; reads each chunk in a separate task, as some frameworks do."""

    async def parts() -> AsyncIterator[Any]:
        stream = call.model.astream(call.text)

        async def step() -> Any:
            return await anext(stream, None)

        while (part := await asyncio.create_task(step())) is not None:
            yield part

    return parts()


STREAMED: dict[str, Callable[[Call], AsyncIterator[Any]]] = {  # the response has a line per part
    "astream": lambda c: c.model.astream(c.text),
    "stream": lambda c: in_steps(c.model.stream(c.text)),
    "task_per_chunk": task_per_chunk,
    "chain_astream": lambda c: chain(c.model).astream({"text": c.text}),
    "events_v1": lambda c: c.model.astream_events(c.text, version="v1"),
    "events_v2": lambda c: chain(c.model).astream_events({"text": c.text}, version="v2"),
    "events_v3": v3,
    "graph_messages": lambda c: graph(c.model, asynchronous=True).astream(
        c.state, stream_mode="messages"
    ),
    "graph_updates": lambda c: graph(c.model, asynchronous=True).astream(
        c.state, stream_mode="updates"
    ),
    "graph_values": lambda c: graph(c.model, asynchronous=False).astream(
        c.state, stream_mode="values"
    ),
    "graph_all": lambda c: graph(c.model, asynchronous=True).astream(
        c.state, stream_mode=["messages", "updates", "values", "debug", "custom"]
    ),
    "graph_stream": lambda c: in_steps(
        graph(c.model, asynchronous=False).stream(c.state, stream_mode="messages")
    ),
    "graph_stream_all": lambda c: in_steps(
        graph(c.model, asynchronous=False).stream(
            c.state, stream_mode=["messages", "updates", "values", "debug", "custom"]
        )
    ),
    "graph_tools_astream": lambda c: graph(c.model, asynchronous=True, tools=True).astream(
        c.state, stream_mode=["messages", "updates"]
    ),
    "graph_events_v2": lambda c: graph(c.model, asynchronous=True).astream_events(
        c.state, version="v2"
    ),
}

AWAITED.update(direct.AWAITED)
STREAMED.update(direct.STREAMED)


@app.get("/health")
async def health() -> str:
    return "ok"


@app.get("/witness")
async def heard() -> list[dict[str, Any]]:
    return witness.notes()


@app.get("/witness/answers")
def answers() -> list[str]:
    return witness.answers()


@app.delete("/witness")
async def forget() -> None:
    witness.reset()


@app.post("/collect")
def collect() -> None:
    """Runs the garbage collector, which ends the runs that were dropped: the oracle cannot wait."""
    gc.collect()


async def asked(call: Call, calls: int) -> None:
    """Waits until the client has sent that many requests: a fixed time may be too short."""
    while witness.heard_of(call.number) < calls:  # noqa: ASYNC110 - threads count them too
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)


async def expire_when_asked(call: Call, limit: asyncio.Timeout) -> None:
    await asked(call, call.calls)
    limit.reschedule(asyncio.get_running_loop().time())


@app.post("/await/{way}")
async def awaited(way: str, request: Request) -> Any:
    call = Call(await request.json())
    answer = await _awaited(way, call)
    witness.answered(call.number)
    return answer


async def _awaited(way: str, call: Call) -> Any:
    work = AWAITED[way](call)
    match call.ending:
        case "asyncio_timeout":
            try:
                async with asyncio.timeout(None) as limit:
                    watching = asyncio.create_task(expire_when_asked(call, limit))
                    await work
            except TimeoutError:
                watching.cancel()
                return "it took too long"
        case "task_cancelled":
            task = asyncio.ensure_future(work)
            await asked(call, call.calls)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return "cancelled"
        case "goes_on":
            task = asyncio.ensure_future(work)
            await asked(call, 1)
            RUNNING.add(task)
            task.add_done_callback(RUNNING.discard)
            return "it goes on"
        case "hidden":
            try:
                await work
            except Exception as error:  # noqa: BLE001 - what an application may do
                return JSONResponse({"all": "well", "really": type(error).__name__})
    await work
    return "done"


@app.post("/background/{way}")
async def background(way: str, request: Request, tasks: BackgroundTasks) -> str:
    call = Call(await request.json())

    async def later() -> None:
        await AWAITED[way](call)

    tasks.add_task(later)
    return "later"


@app.post("/outside/{way}")
def outside(way: str, order: dict[str, Any]) -> str:
    """Calls the model in a new thread, outside the request's context, as a script does."""
    call = Call(order)
    # A model of its own: the connections of the others belong to the service's event loop.
    url, timeout = ENDPOINTS.get(call.ending, ENDPOINTS["ok"])
    call.model = open_model(url, timeout=timeout).model_copy(update=call.user)
    thread = Thread(target=lambda: asyncio.run(_awaiting(AWAITED[way](call))))
    thread.start()
    thread.join()
    return "done"


async def _awaiting(work: Awaitable[Any]) -> Any:
    return await work


@app.post("/stream/{way}")
async def streamed(way: str, request: Request) -> StreamingResponse:
    call = Call(await request.json())
    return StreamingResponse(_lines(way, call), media_type="text/plain")


async def _parts(way: str, order: dict[str, Any]) -> AsyncIterator[str]:
    call = Call(order)
    if way in STREAMED:
        async for line in _lines(way, call):
            yield line
    else:
        await AWAITED[way](call)
        yield "done\n"


sockets.add_to(app, _parts)


async def _lines(way: str, call: Call) -> AsyncIterator[str]:
    parts = STREAMED[way](call)
    count = 0
    async for part in parts:
        yield text_of(part).replace("\n", " ") + "\n"
        count += 1
        if count == call.parts_before_the_cut:
            match call.ending:
                case "application_raises":
                    raise ArithmeticError
                case "break":
                    break
                case "closed":
                    await parts.aclose()  # type: ignore[attr-defined]
                    break
                case "dropped":
                    del part, parts
                    gc.collect()
                    break
    if call.ending == "leaves_after_last_chunk":
        yield f"{LAST}\n"
        await asyncio.sleep(30)
    yield "end\n"
