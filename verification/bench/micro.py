"""Measures what otel-coach adds to a chunk, a call and an agent, in one process, with pyperf.

Each value is the difference of two loops that alternate: without otel-coach's callbacks and with
them. The time includes flushing what was recorded. For comparison, the time that the libraries
below take themselves is measured too.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

import pyperf
from opentelemetry.trace import SpanKind

from verification.bench.goals import AGENT, CHUNK, INVOKE, Measured, as_markdown, middle_half

if TYPE_CHECKING:
    from collections.abc import Generator

_CHUNKS: Final = 200
_PAIRS: Final = 10
_BLOCK: Final = 20
"""The number of calls in a block with otel-coach's callbacks, or without them."""
_WARM_UP: Final = 10
_RECORDS: Final = 10_000
_SPANS: Final = 512
_GOALS: Final = {"chunk": CHUNK, "invoke": INVOKE, "agent": AGENT}
_LIBRARIES: Final = {
    "agent, nothing": "LangChain, for a handler that does nothing, in an agent invoke",
    "record": "the SDK's Histogram.record, with three attributes and our Views",
    "encode": "the OTLP exporter's encoding of a server span",
    "encode, ours": "otel-coach's encoding of it, in its place",
}
_INNER: Final = {
    "chunk": _BLOCK * _CHUNKS,
    "record": _RECORDS,
    "encode": _SPANS,
    "encode, ours": _SPANS,
}
_NAMES: Final = (*_GOALS, *_LIBRARIES)
_Work = Callable[[], Awaitable[None]]
_Switch = Callable[[], AbstractContextManager[Callable[[], None]]]
"""A context manager that adds a handler to LangChain, and yields what flushes its recordings."""


def main() -> None:
    """Runs all benchmarks with pyperf, which starts this program again as its workers."""
    runner = pyperf.Runner(processes=3, values=2, warmups=1, loops=_PAIRS)
    work = _work() if runner.parse_args().worker else dict.fromkeys(_NAMES, _unused)
    # A collection of the whole heap costs more than what is measured, in whichever loop it falls.
    gc.collect()
    gc.freeze()
    for name in _NAMES:
        runner.bench_time_func(name, work[name], inner_loops=_INNER.get(name, _BLOCK))


def _unused(_loops: int) -> float:  # only pyperf's worker processes measure
    raise NotImplementedError


def _work() -> dict[str, Callable[[int], float]]:
    # Imported by the worker processes only, and before anything is measured.
    from langchain_core.language_models import FakeListChatModel  # noqa: PLC0415

    from verification.bench.agent import an_agent  # noqa: PLC0415

    model = FakeListChatModel(responses=["x" * _CHUNKS])
    agent = an_agent(model)

    async def stream() -> None:
        async for _ in model.astream("hi"):
            pass

    async def invoke() -> None:
        model.invoke("hi")

    async def run() -> None:
        agent.invoke({"messages": [("user", "hi")]})

    return {
        "chunk": lambda pairs: _added(stream, pairs, _ours()),
        "invoke": lambda pairs: _added(invoke, pairs, _ours()),
        "agent": lambda pairs: _added(run, pairs, _ours()),
        "agent, nothing": lambda pairs: _added(run, pairs, _nothing()),
        "record": _record,
        "encode": lambda loops: _encode(loops, is_ours=False),
        "encode, ours": lambda loops: _encode(loops, is_ours=True),
    }


def _added(work: _Work, pairs: int, switch: _Switch) -> float:
    """Returns the seconds that `pairs` blocks of calls take more with `switch` than without it."""
    return asyncio.run(_difference(work, pairs, switch))


async def _difference(work: _Work, pairs: int, switch: _Switch) -> float:
    added: list[float] = []
    for number in range(pairs):
        took: dict[bool, float] = {}
        for is_on in (True, False) if number % 2 else (False, True):
            with switch() if is_on else nullcontext(_no_more) as flush:
                took[is_on] = await _timed(work, flush)
        added.append(took[True] - took[False])
    # The median ignores pairs in which the machine was disturbed. A difference may be negative if
    # there is no cost, but pyperf does not accept negative times.
    return max(pairs * statistics.median(added), 1e-9)


async def _timed(work: _Work, flush: Callable[[], None]) -> float:
    # Warm up: patching a class discards Python's specialised bytecode.
    for _ in range(_WARM_UP):
        await work()
    flush()
    started = perf_counter()
    for _ in range(_BLOCK):
        await work()
    flush()
    return perf_counter() - started


def _no_more() -> None:
    """Does nothing: nothing was recorded."""


@functools.cache
def _ours() -> _Switch:
    from otel_coach.instrumentors.langchain import LangChainInstrumentor  # noqa: PLC0415
    from otel_coach.settings import Settings  # noqa: PLC0415
    from otel_coach.setup.installation import LANGCHAIN, Installation  # noqa: PLC0415

    installation = Installation(Settings())

    @contextmanager
    def switch() -> Generator[Callable[[], None]]:
        installation.instrument(LANGCHAIN)
        try:
            yield installation.recorder.flush_all
        finally:
            LangChainInstrumentor().uninstrument()

    return switch


@functools.cache
def _nothing() -> _Switch:
    from langchain_core.callbacks import BaseCallbackHandler  # noqa: PLC0415
    from langchain_core.tracers.context import register_configure_hook  # noqa: PLC0415

    handler: ContextVar[BaseCallbackHandler | None] = ContextVar("bench_handler", default=None)
    register_configure_hook(handler, inheritable=True)
    nothing = BaseCallbackHandler()
    nothing.run_inline = True

    @contextmanager
    def switch() -> Generator[Callable[[], None]]:
        before = handler.set(nothing)
        try:
            yield _no_more
        finally:
            handler.reset(before)

    return switch


def _record(loops: int) -> float:
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415

    from otel_coach.metrics.catalogue import HTTP_REQUEST_DURATION as METRIC  # noqa: PLC0415
    from otel_coach.views import build_views  # noqa: PLC0415

    provider = MeterProvider([InMemoryMetricReader()], views=build_views())
    record = provider.get_meter("bench").create_histogram(METRIC.name).record
    attributes = dict(zip(METRIC.labels, ("/health", "GET", "200"), strict=True))
    started = perf_counter()
    for _ in range(loops * _RECORDS):
        record(0.1, attributes)
    return perf_counter() - started


def _encode(loops: int, *, is_ours: bool) -> float:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415
    from opentelemetry.metrics import NoOpMeter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    from otel_coach.metrics.recorder import Recorder  # noqa: PLC0415
    from otel_coach.sdk.otlp_encoder import Encoder  # noqa: PLC0415

    ours = Encoder(Recorder(NoOpMeter("bench"))).around_http(encode_spans)
    encode = ours if is_ours else encode_spans
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    tracer = provider.get_tracer("bench")
    attributes = {
        "http.request.method": "GET",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.route": "/health",
        "http.response.status_code": 200,
    }
    for _ in range(_SPANS):
        tracer.start_span("GET /health", kind=SpanKind.SERVER, attributes=attributes).end()
    spans = made.get_finished_spans()
    started = perf_counter()
    for _ in range(loops):
        encode(spans).SerializeToString()
    return perf_counter() - started


def measured() -> tuple[list[Measured], str]:
    """Runs all benchmarks in processes of their own; returns goals and a table of the libraries."""
    with TemporaryDirectory(prefix="otel-coach-bench-") as folder:
        result = Path(folder) / "micro.json"
        command = [
            sys.executable,
            "-m",
            "verification.bench.micro",
            "--quiet",
            "--output",
            str(result),
        ]
        environment = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
        suite = pyperf.BenchmarkSuite.load(str(result))
    found = {bench.get_name(): [1e6 * value for value in bench.get_values()] for bench in suite}
    rows = [
        (text, f"{statistics.median(found[name]):.1f}", middle_half(found[name], 1))
        for name, text in _LIBRARIES.items()
    ]
    goals = [Measured(goal, found[name]) for name, goal in _GOALS.items()]
    return goals, as_markdown(rows, ("one by one", "us", "middle half"))


if __name__ == "__main__":
    if "--table" in sys.argv:
        reached, libraries = measured()
        print(as_markdown(goal.row for goal in reached))
        print(libraries, end="")
    else:
        main()
