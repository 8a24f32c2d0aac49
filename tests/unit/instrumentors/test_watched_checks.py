"""The application's own checks of its dependencies, by `watch_dependency`."""

import asyncio
import contextvars
import gc
import inspect
import time

import grpc
import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

import otel_coach
from tests.support.dependencies import up


def latencies(measured):
    return {
        labels["status"]: value
        for labels, value in measured.page().samples("dependency_latency_seconds_count")
    }


async def slept(seconds):
    """Sleeps; returns for how long, as uvloop's clock is coarse and its sleeps end early."""
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    return time.perf_counter() - began


def test_watching_a_check_sync_and_async_decorated_and_entered(measured):
    @otel_coach.watch_dependency("db")
    def check():
        """Documented."""
        return 7

    @otel_coach.watch_dependency("db")
    async def acheck():
        return 8

    async def enter():
        async with otel_coach.watch_dependency("db"):
            return await slept(0.05)

    assert check() == 7
    assert check.__doc__ == "Documented."
    assert asyncio.run(acheck()) == 8
    seconds = asyncio.run(enter())
    with otel_coach.watch_dependency("db"):
        pass
    assert latencies(measured) == {"ok": 4}
    assert up(measured) == 1
    assert measured.page().sum("dependency_latency_seconds_sum") >= seconds


def test_a_check_that_raises_is_down_and_still_raises(measured):
    @otel_coach.watch_dependency("db")
    def check():
        raise ConnectionError("postgres://u:hunter2@h")

    with pytest.raises(ConnectionError, match="hunter2"):
        check()
    assert up(measured) == 0
    assert latencies(measured) == {"error": 1}


@pytest.mark.parametrize("result", [False, 0, None, True])
def test_a_check_is_down_if_it_returns_false_and_only_then(measured, caplog, result):
    @otel_coach.watch_dependency("db")
    def check():
        return result

    @otel_coach.watch_dependency("db")
    async def acheck():
        return result

    assert check() is result
    assert asyncio.run(acheck()) is result
    assert up(measured) == (0 if result is False else 1)
    assert latencies(measured) == {"error" if result is False else "ok": 2}
    lines = [line for line in caplog.messages if "is down" in line]
    assert lines == ["otel-coach: dependency db is down (it returned False)"] * (result is False)


def test_one_watch_serves_many_tasks_and_nested_blocks_each_with_its_own_time(measured):
    watch = otel_coach.watch_dependency("db")

    async def check(seconds):
        async with watch:
            took = await slept(seconds)
            with watch:
                pass
        return took

    async def main():
        return sum(await asyncio.gather(*(check(0.03 * count) for count in (1, 2, 3))))

    seconds = asyncio.run(main())
    assert latencies(measured) == {"ok": 6}
    assert measured.page().sum("dependency_latency_seconds_sum") >= seconds


def test_a_block_that_is_left_in_another_context_is_recorded(measured):
    watch = otel_coach.watch_dependency("db")
    contextvars.Context().run(watch.__enter__)
    watch.__exit__(None, None, None)
    assert latencies(measured) == {"ok": 1}


def test_the_decorator_without_a_name_is_refused_with_its_cure():
    with pytest.raises(TypeError, match=r'@watch_dependency\("postgres"\), not function'):

        @otel_coach.watch_dependency
        def check():
            """Is never defined."""


def test_a_check_that_is_cancelled_says_nothing(measured):
    async def cancelled():
        async def check():
            async with otel_coach.watch_dependency("db"):
                await asyncio.sleep(10)

        task = asyncio.create_task(check())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert measured.page().samples("dependency_up") == []


def test_an_object_whose_call_is_async_is_watched_to_its_end(measured):
    class Check:
        async def __call__(self):
            await asyncio.sleep(0.02)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(otel_coach.watch_dependency("db")(Check())())
    assert latencies(measured) == {"error": 1}


@pytest.mark.parametrize(("result", "status"), [(True, "ok"), (False, "error")])
def test_a_function_that_returns_a_coroutine_is_over_when_that_is(measured, result, status):
    took = []

    async def ping():
        took.append(await slept(0.05))
        return result

    @otel_coach.watch_dependency("db")
    def check():
        return ping()

    assert asyncio.run(check()) is result
    assert latencies(measured) == {status: 1}
    assert measured.page().sum("dependency_latency_seconds_sum") >= took[0]


def test_a_generator_is_refused_with_the_cure():
    def check():
        yield

    async def check_async():
        yield

    for one in (check, check_async):
        with pytest.raises(TypeError, match=r"is a generator.*with watch_dependency\('db'\)"):
            otel_coach.watch_dependency("db")(one)


def test_watching_without_otel_coach_does_nothing():
    @otel_coach.watch_dependency("db")
    def check():
        return 7

    assert check() == 7


def states(measured):
    page = measured.page()
    return {labels["name"]: value for labels, value in page.samples("dependency_up")}


def test_a_call_of_grpc_is_passed_on_and_said_to_run_later(measured, caplog):
    """It has callbacks as a future has, but is none: it does not tell its exception."""

    async def ask():
        server = grpc.aio.server()
        answer = grpc.unary_unary_rpc_method_handler(lambda *_: b"fine")
        handler = grpc.method_handlers_generic_handler("service", {"Check": answer})
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = otel_coach.watch_dependency("search")(channel.unary_unary("/service/Check"))
            answers = [await check(b""), await check(b"")]
        await server.stop(0)
        return answers

    assert asyncio.run(ask()) == [b"fine", b"fine"]
    assert states(measured) == {}
    assert caplog.text.count("watch_dependency('search') returns a") == 1


def test_an_awaitable_is_not_up_before_it_has_run(measured, caplog):
    class Connecting:
        def __await__(self):
            raise ConnectionError
            yield

    connecting = Connecting()
    check = otel_coach.watch_dependency("db")(lambda: connecting)
    assert check() is connecting
    assert states(measured) == {}
    assert "Cure: make the check an `async def` that awaits it" in caplog.text


def test_an_endpoint_that_is_watched_keeps_its_signature(measured):
    """FastAPI reads it, in some versions in the module of the wrapper."""

    @otel_coach.watch_dependency("db")
    async def ready(request: "Request") -> str:
        return request.url.path

    @otel_coach.watch_dependency("db")
    def checked(request: "Request") -> str:
        return request.url.path

    for check in (ready, checked):
        assert inspect.signature(check).parameters["request"].annotation is Request
        app = FastAPI()
        app.get("/ready")(check)
        assert TestClient(app).get("/ready").json() == "/ready"
    assert latencies(measured) == {"ok": 2}


def test_a_task_that_fails_opens_no_descriptor(measured, monkeypatch, caplog):
    async def main():
        ping = asyncio.get_running_loop().create_future()
        otel_coach.watch_dependency("db")(lambda: ping)()
        monkeypatch.setattr("socket.socketpair", out_of_descriptors)
        ping.set_exception(ConnectionError("lost"))
        await asyncio.sleep(0)
        ping.exception()

    def out_of_descriptors(*_):
        raise OSError(24, "Too many open files")

    asyncio.run(main())
    assert "an assumption does not hold" not in caplog.text
    assert up(measured) == 0


@pytest.mark.parametrize("is_awaited", [True, False])
def test_a_task_that_fails_is_reported_by_the_event_loop_as_without_us(measured, is_awaited):
    async def ping():
        raise ConnectionError("lost")

    @otel_coach.watch_dependency("db")
    def check():
        return asyncio.create_task(ping())

    async def main():
        reported = []

        def report(_loop, context):
            if context["future"].get_coro().__name__ == "ping":  # others may be garbage of others
                reported.append(context["message"])

        asyncio.get_running_loop().set_exception_handler(report)
        task = check()
        await asyncio.sleep(0.01)
        if is_awaited:
            with pytest.raises(ConnectionError):
                await task
        del task
        gc.collect()
        return reported

    reported = asyncio.run(main())
    assert reported == ([] if is_awaited else ["Task exception was never retrieved"])
    assert up(measured) == 0
