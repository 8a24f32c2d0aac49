"""`python -m bench.micro`: what a chunk, a call and an agent cost more, in one process, by pyperf.

Each value is the difference of two loops that alternate: without and with our callbacks. What is
recorded is settled within the time that is measured.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Final

import pyperf

from bench.goals import AGENT, CHUNK, INVOKE, Goal, Measured, as_markdown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_CHUNKS: Final = 200
_GOALS: Final = {"chunk": CHUNK, "invoke": INVOKE, "agent": AGENT}
_INNER: Final = {"chunk": _CHUNKS}


def _add_arguments(command: list[str], arguments: object) -> None:
    command.extend(["--spans"] if getattr(arguments, "spans", False) else [])


def main() -> None:
    """Run by pyperf, which starts processes of its own."""
    runner = pyperf.Runner(
        processes=3, values=3, warmups=1, min_time=0.05, add_cmdline_args=_add_arguments
    )
    runner.argparser.add_argument("--spans", action="store_true", help="make spans, too")
    arguments = runner.parse_args()
    if not arguments.worker:
        for name in _GOALS:
            runner.bench_time_func(name, _unused, inner_loops=_INNER.get(name, 1))
        return
    work = _work(spans=arguments.spans)
    for name in _GOALS:
        runner.bench_time_func(name, work[name], inner_loops=_INNER.get(name, 1))


def _unused(_loops: int) -> float:  # only the workers measure
    raise NotImplementedError


def _work(*, spans: bool) -> dict[str, Callable[[int], float]]:
    # Imported by the workers only, and before anything is measured.
    from langchain_core.language_models import FakeListChatModel  # noqa: PLC0415
    from langchain_core.messages import AIMessage, AnyMessage  # noqa: PLC0415
    from langchain_core.tools import tool  # noqa: PLC0415
    from langgraph.graph import START, MessagesState, StateGraph  # noqa: PLC0415
    from langgraph.prebuilt import ToolNode, tools_condition  # noqa: PLC0415

    model = FakeListChatModel(responses=["x" * _CHUNKS])

    @tool
    def pace(distance: int) -> str:
        """Return the pace for a distance."""
        return f"{distance}"

    def answer(state: MessagesState) -> MessagesState:
        model.invoke(state["messages"])
        asked = isinstance(state["messages"][-1], AIMessage) or len(state["messages"]) > 1
        calls = [] if asked else [{"name": "pace", "args": {"distance": 10}, "id": "1"}]
        said: list[AnyMessage] = [AIMessage("", tool_calls=calls)]
        return {"messages": said}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_node("tools", ToolNode([pace]))
    graph.add_edge(START, "answer")
    graph.add_conditional_edges("answer", tools_condition)
    graph.add_edge("tools", "answer")
    agent = graph.compile()

    async def stream() -> None:
        async for _ in model.astream("hi"):
            pass

    async def invoke() -> None:
        model.invoke("hi")

    async def run() -> None:
        agent.invoke({"messages": [("user", "hi")]})

    added = _Added(spans=spans)
    return {
        "chunk": lambda loops: added.seconds(stream, loops),
        "invoke": lambda loops: added.seconds(invoke, loops),
        "agent": lambda loops: added.seconds(run, loops),
    }


class _Added:
    """The time that our callbacks add."""

    def __init__(self, *, spans: bool) -> None:
        from opentelemetry.sdk.trace import SpanProcessor  # noqa: PLC0415

        from otel_coach.installation import Installation  # noqa: PLC0415
        from otel_coach.instrumentors.langchain import LangChainInstrumentor  # noqa: PLC0415
        from otel_coach.settings import Settings  # noqa: PLC0415

        # Of a processor's own work nothing is measured here; see the throughput for that.
        processors = [SpanProcessor()] if spans else []
        self._installation = Installation(Settings(), span_processors=processors)
        self._instrumentor = LangChainInstrumentor

    def seconds(self, work: Callable[[], Awaitable[None]], loops: int) -> float:
        """Of `loops` calls of `work`, beyond what they take without us."""
        return asyncio.run(self._seconds(work, loops))

    async def _seconds(self, work: Callable[[], Awaitable[None]], loops: int) -> float:
        added = 0.0
        block = 20
        done = 0
        while done < loops:
            block = min(block, loops - done)
            order = (False, True) if (done // block) % 2 else (True, False)
            for ours in order:
                added += await self._timed(work, block) if ours else -await _timed(work, block)
            done += block
        # pyperf knows no negative time; a single pair may have one where the machine was disturbed.
        return max(added, 1e-9)

    async def _timed(self, work: Callable[[], Awaitable[None]], block: int) -> float:
        self._installation.instrument("otel_coach_langchain")
        try:
            await work()
            self._installation.recorder.settle_all()
            started = perf_counter()
            for _ in range(block):
                await work()
            self._installation.recorder.settle_all()
            return perf_counter() - started
        finally:
            self._instrumentor().uninstrument()


async def _timed(work: Callable[[], Awaitable[None]], block: int) -> float:
    await work()
    started = perf_counter()
    for _ in range(block):
        await work()
    return perf_counter() - started


def measured() -> list[Measured]:
    """Run all of it, in processes of their own."""
    with TemporaryDirectory(prefix="otel-coach-bench-") as folder:
        result = Path(folder) / "micro.json"
        command = [sys.executable, "-m", "bench.micro", "--quiet", "--output", str(result)]
        environment = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
        suite = pyperf.BenchmarkSuite.load(str(result))
    return [_as_microseconds(_GOALS[one.get_name()], one) for one in suite.get_benchmarks()]


def _as_microseconds(goal: Goal, benchmark: pyperf.Benchmark) -> Measured:
    return Measured(goal, [1e6 * value for value in benchmark.get_values()])


if __name__ == "__main__":
    if "--table" in sys.argv:
        print(as_markdown(one.row for one in measured()), end="")
    else:
        main()
