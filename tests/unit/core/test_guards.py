"""What interrupts our code from outside is the host's; all else that fails in us is not."""

import ctypes
import functools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import trio
from opentelemetry.sdk.trace import SpanProcessor

from otel_coach.core import guard, interrupts
from otel_coach.core.guard import OwnThread, guarded, guarded_async
from otel_coach.instrumentors.langchain import model_frames
from otel_coach.metrics.catalogue import RATE_LIMIT_HITS
from otel_coach.testing import measuring


class TimeLimit(Exception):  # noqa: N818 - as Celery's
    """The host's."""


class Host:
    """Counts the faults of a hook."""

    def __init__(self):
        self.faults = []

    @property
    def recorder(self):
        return self

    def fault(self, fault, _place):
        self.faults.append(type(fault).__name__)

    @guarded
    def hook(self, work):
        return work()

    @guarded_async
    async def hook_async(self, work):
        return await work()


@pytest.fixture
def host():
    return Host()


def endless():
    while True:
        len("")


def rising(*_):
    raise TimeLimit


def forgetful(signum, frame):
    del signum, frame
    raise TimeLimit("too long")


class Handler:
    def __call__(self, signum, frame):
        raise TimeLimit

    def method(self, signum, frame):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # for once only
        raise TimeLimit


HANDLERS = {
    "a function": rising,
    "one that forgets its arguments": forgetful,
    "a part of a function": functools.partial(rising, 1),
    "an object": Handler(),
    "a method, for once": Handler().method,
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_what_a_signal_handler_raises_in_a_hook_reaches_the_host(host, handler):
    before = signal.signal(signal.SIGALRM, handler)

    def interrupted():
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        endless()

    try:
        with pytest.raises(TimeLimit):
            host.hook(interrupted)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert host.faults == []


def test_what_another_thread_sets_in_a_hook_reaches_the_host(host):
    """As dramatiq's and RQ's time limits do."""
    me = threading.get_ident()

    began = threading.Event()

    def interrupt():
        began.wait()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(me), ctypes.py_object(TimeLimit))

    def interrupted():
        began.set()
        endless()

    for _ in range(20):
        began.clear()
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(TimeLimit):
            host.hook(interrupted)
        interrupting.join()
    assert host.faults == []


def test_a_fault_of_ours_stays_one_though_handlers_are_installed(host):
    def failing():
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, rising)
    try:
        for work in (lambda: {}["x"], lambda: 1 / 0, lambda: int("x"), failing):
            assert host.hook(work) is None
    finally:
        signal.signal(signal.SIGALRM, before)
    assert host.faults == ["KeyError", "ZeroDivisionError", "ValueError", "TimeLimit"]


def test_cancellation_under_trio_reaches_trio(host):
    async def main():
        with trio.move_on_after(0.02) as scope:
            await host.hook_async(trio.sleep_forever)
        return scope.cancelled_caught

    assert trio.run(main)
    assert host.faults == []


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, guard.CancelledError])
def test_in_a_thread_of_ours_nothing_is_the_hosts(host, raised):
    def fail():
        raise raised

    def work():
        host.hook(fail)
        fail()

    thread = OwnThread(work, "ours", host.fault)
    thread.start()
    thread.join(10)
    assert host.faults == [raised.__name__] * 2


# The signal may come while Hypothesis's own hook of the garbage collector runs.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_in_the_middle_of_settling_costs_no_fact_after_it(measured):
    recorder = measured.installation.recorder
    recorder._delayed.close()
    before = signal.signal(signal.SIGALRM, rising)
    interrupted = 0
    try:
        while interrupted < 50:
            for _ in range(100):
                recorder.record(RATE_LIMIT_HITS, 1, ("/x",))
            try:
                signal.setitimer(signal.ITIMER_REAL, 3e-5 + interrupted * 1e-6)
                recorder._flush_now()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeLimit:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    faults = measured.page().sum("otel_coach_errors_total")
    hits = measured.page().sum("rate_limit_hits_total")
    for _ in range(1000):
        recorder.record(RATE_LIMIT_HITS, 1, ("/x",))
    page = measured.page()
    assert page.sum("rate_limit_hits_total") - hits == 1000
    assert page.sum("otel_coach_errors_total") == faults == 0


@pytest.mark.parametrize("another_has_it", [False, True])
def test_a_signal_that_loses_the_answer_of_acquire_leaves_the_lock_as_it_was(
    measured, monkeypatch, another_has_it
):
    recorder = measured.installation.recorder
    lock = recorder._flushing

    def acquire(*, blocking):
        lock.acquire(blocking)
        raise KeyboardInterrupt

    interrupted = SimpleNamespace(acquire=acquire, release=lock.release)
    with ThreadPoolExecutor(1) as another:
        if another_has_it:
            another.submit(lock.acquire).result()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(recorder, "_flushing", interrupted)
            recorder._flush_now()
        assert another.submit(lock.acquire, blocking=False).result()
        for _ in range(1 + another_has_it):
            another.submit(lock.release).result()
    assert measured.page().sum("otel_coach_errors_total") == 0


def test_the_settling_thread_outlives_a_span_processor_that_wants_to_exit():
    class Exiting(SpanProcessor):
        def on_end(self, span):
            raise SystemExit

    with measuring() as measured:
        installation = measured.installation
        installation.providers.tracer_provider.add_span_processor(Exiting())
        tracer = installation.providers.tracer_provider.get_tracer("otel_coach")
        for _ in range(2):
            recorder = installation.recorder
            recorder.later(lambda span, _: span.end(), tracer.start_span("x"), None)
            recorder.flush()
            deadline = time.monotonic() + 10
            while recorder._queue and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not recorder._queue
        assert measured.page().sum("otel_coach_errors_total") >= 2


@pytest.mark.parametrize(
    "look", [model_frames.is_inside_model, model_frames.is_inside_another_model]
)
def test_a_fault_while_frames_are_looked_at_is_otel_coachs_own(monkeypatch, look):
    """A handler of signals is called with the frame that it interrupts, too."""

    def fail(_frame):
        raise LookupError("injected")

    monkeypatch.setattr(model_frames, "_is_of_models", fail)
    with pytest.raises(LookupError, match="injected") as raised:
        look()
    assert not interrupts.interrupted(raised.value)
