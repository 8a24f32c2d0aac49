"""Context managers as decorators of generators."""

import asyncio
import gc
import weakref
from contextlib import suppress

from otel_coach.core.around import Around


class Nothing(Around):
    def __enter__(self):
        pass

    def __exit__(self, *raised):
        pass


class ThrownError(Exception):
    pass


@Nothing()
def generator():
    yield 1


@Nothing()
async def async_generator():
    yield 1


def thrown_into_a_generator():
    steps = generator()
    next(steps)
    error = ThrownError()
    with suppress(ThrownError):
        steps.throw(error)
    found = weakref.ref(error)
    del error, steps  # the traceback has this frame
    return found


async def thrown_into_an_async_generator():
    steps = async_generator()
    await anext(steps)
    error = ThrownError()
    with suppress(ThrownError):
        await steps.athrow(error)
    found = weakref.ref(error)
    del error, steps  # the traceback has this frame
    return found


def test_a_thrown_exception_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        assert thrown_into_a_generator()() is None
        assert asyncio.run(thrown_into_an_async_generator())() is None
    finally:
        gc.enable()
