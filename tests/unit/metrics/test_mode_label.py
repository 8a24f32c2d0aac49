"""`labels` as a block and as a decorator of every kind of function."""

import asyncio
import gc
import inspect
import logging
from types import SimpleNamespace

import pytest

from otel_coach.metrics import mode_label
from otel_coach.metrics.mode_label import labelled_mode, labels

PLANNER = labels(mode="planner")


@PLANNER
def plain():
    return labelled_mode()


@PLANNER
async def coroutine():
    await asyncio.sleep(0)
    return labelled_mode()


@PLANNER
def generator():
    yield labelled_mode()
    yield labelled_mode()


@PLANNER
async def async_generator():
    yield labelled_mode()
    await asyncio.sleep(0)
    yield labelled_mode()


async def all_of(generated):
    return [(one, labelled_mode()) async for one in generated]


def test_a_decorated_function_has_the_mode_and_its_caller_has_not():
    assert (plain(), labelled_mode()) == ("planner", None)
    assert (asyncio.run(coroutine()), labelled_mode()) == ("planner", None)
    assert [(one, labelled_mode()) for one in generator()] == [("planner", None)] * 2
    assert asyncio.run(all_of(async_generator())) == [("planner", None)] * 2


def plain_form_of(function):
    """A plain function that returns what `function` returns, as many decorators make one."""

    def call():
        return function.__wrapped__()

    return PLANNER(call)


def test_what_a_decorated_plain_function_returns_has_the_mode_too():
    class Asked:
        async def __call__(self):
            return await coroutine.__wrapped__()

    assert asyncio.run(plain_form_of(coroutine)()) == "planner"
    assert asyncio.run(PLANNER(Asked())()) == "planner"
    assert [*plain_form_of(generator)()] == ["planner"] * 2
    assert asyncio.run(all_of(plain_form_of(async_generator)())) == [("planner", None)] * 2
    assert labelled_mode() is None


def test_a_decorated_function_is_of_the_same_kind_under_the_same_name():
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert (plain.__name__, generator.__name__) == ("plain", "generator")


def test_a_decorated_function_has_its_annotations_evaluated():
    """So that a FastAPI that looks for their names in the wrapper's module finds them, too."""
    space = {"__name__": "a_module", "labels": labels}
    code = (
        "from __future__ import annotations\nfrom fractions import Fraction\n"
        "@labels(mode='planner')\ndef half(of: Fraction) -> Fraction:\n    return of / 2\n"
        "@labels(mode='planner')\ndef unknown(of: NotThere): ...\n"
    )
    exec(code, space)
    (parameter,) = inspect.signature(space["half"]).parameters.values()
    assert parameter.annotation is space["Fraction"]
    assert str(inspect.signature(space["unknown"])) == "(of: 'NotThere')"


def test_a_decorated_generator_gets_what_its_consumer_sends_and_throws():
    @labels(mode="planner")
    def echo():
        got = []
        try:
            while True:
                try:
                    got.append((yield labelled_mode()))
                except KeyError as error:
                    got.append(error.args[0])
        finally:
            seen.append((got, labelled_mode()))

    seen = []
    generated = echo()
    assert next(generated) == "planner"
    assert generated.send("sent") == "planner"
    assert generated.throw(KeyError("thrown")) == "planner"
    generated.close()
    assert seen == [(["sent", "thrown"], "planner")]
    with pytest.raises(StopIteration):
        next(generated)


def test_a_decorated_generator_returns_its_value():
    @labels(mode="planner")
    def returning():
        yield 1
        return labelled_mode()

    def delegating():
        return (yield from returning())

    generated = delegating()
    next(generated)
    with pytest.raises(StopIteration) as end:
        next(generated)
    assert end.value.value == "planner"


def test_a_decorated_async_generator_gets_what_its_consumer_sends_and_throws():
    @labels(mode="planner")
    async def echo():
        got = []
        try:
            while True:
                try:
                    got.append((yield labelled_mode()))
                except KeyError as error:
                    got.append(error.args[0])
        finally:
            seen.append((got, labelled_mode()))

    seen = []

    async def main():
        generated = echo()
        assert await anext(generated) == "planner"
        assert await generated.asend("sent") == "planner"
        assert await generated.athrow(KeyError("thrown")) == "planner"
        await generated.aclose()

    asyncio.run(main())
    assert seen == [(["sent", "thrown"], "planner")]


def test_one_object_serves_many_tasks_and_nested_blocks():
    async def task(index):
        async with PLANNER:
            with labels(mode=f"task{index}"), PLANNER:
                await asyncio.sleep(0.001 * (3 - index))
                assert labelled_mode() == "planner"
            await asyncio.sleep(0.001 * index)
            return labelled_mode()

    async def main():
        return await asyncio.gather(*map(task, range(3))), labelled_mode()

    assert asyncio.run(main()) == (["planner"] * 3, None)


def test_an_exception_passes_and_the_mode_ends():
    with pytest.raises(LookupError), labels(mode="planner"):
        raise LookupError
    assert labelled_mode() is None


def test_a_bad_mode_is_one_line_of_the_log_with_its_cure(caplog, monkeypatch):
    monkeypatch.setattr(mode_label, "_is_logged", False)

    class Unprintable:
        def __repr__(self):
            raise RuntimeError

    with caplog.at_level(logging.WARNING, "otel_coach"):
        for bad in ("x" * 100_000, "two words", Unprintable()):
            with labels(mode=bad):
                assert labelled_mode() == "other"
    (line,) = caplog.messages
    assert "counts as other. Cure: use 1 to 40 of" in line
    assert len(line) < 200


def test_the_mode_may_be_given_without_its_name():
    @labels("planner")
    def positional():
        return labelled_mode()

    assert positional() == "planner"
    with labels("two words"):
        assert labelled_mode() == "other"


def test_the_decorator_without_a_mode_is_an_error_of_the_import():
    with pytest.raises(TypeError, match=r'labels takes a mode: @labels\(mode="planner"\)'):

        @labels
        async def chat(question): ...


def test_in_a_request_the_decorator_without_a_mode_leaves_the_function_as_it_is_and_says_so(
    caplog, monkeypatch
):
    monkeypatch.setattr(mode_label, "_is_logged", False)
    request = SimpleNamespace(labelled_mode=None, is_answering=False)
    monkeypatch.setattr(mode_label, "current_request", SimpleNamespace(get=lambda: request))

    @labels
    async def chat(question):
        return question, labelled_mode()

    assert inspect.iscoroutinefunction(chat)
    assert asyncio.run(chat("hi")) == ("hi", "other")
    (line,) = caplog.messages
    assert "counts as other" in line


def test_generators_that_are_left_in_their_block_leave_nothing():
    """asyncio closes a generator that is left in another task, which has a copy of the context."""

    async def labelled():
        with labels(mode="planner"):
            yield 1
            yield 2

    async def leaves_many():
        for _ in range(20):
            async for _one in labelled():
                break
            await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0.01)
        assert labelled_mode() is None
        with PLANNER:
            return len([*mode_label._open])

    assert asyncio.run(leaves_many()) == 1
