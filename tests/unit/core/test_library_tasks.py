"""What the instrumentors of libraries say about their tasks, as long as they are active."""

import asyncio

import langchain_core.callbacks.manager  # noqa: F401 - its runs are observed where it is imported
import openai  # noqa: F401 - likewise
import pytest
from langchain_core.runnables import RunnableLambda

from otel_coach.core.library_tasks import feeds_events, packages
from otel_coach.testing import measuring


def test_libraries_are_known_as_long_as_their_calls_are_measured():
    assert packages() == ()
    with measuring():
        assert {"langchain", "langgraph", "openai"} <= set(packages())
    assert packages() == ()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_task_that_feeds_a_stream_of_events_is_recognised_and_no_other(version):
    found = []

    async def look(_asked):
        found.append([feeds_events(task) for task in asyncio.all_tasks()])

    async def main():
        _ = [event async for event in RunnableLambda(look).astream_events(1, version=version)]
        await look(1)

    with measuring():
        asyncio.run(main())
    during, after = found
    assert during.count(True) == 1
    assert len(during) > 1
    assert after == [False]
