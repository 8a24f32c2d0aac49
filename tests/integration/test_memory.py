"""What is kept in memory, counted in a process of its own."""

import gc
import tracemalloc
from collections import Counter

import pytest
from langchain_core.language_models import FakeListChatModel

from otel_coach.metrics.delayed_call import DelayedCall
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.conservation import conserved
from tests.support.processes import alone
from tests.support.work import send, service
from verification.oracle.abandoned import growth, kept_for_each


def settings(**environ):
    return Settings.from_env({f"OTEL_COACH_{name}": value for name, value in environ.items()})


def own_meter(measured):
    return measured.installation.providers.meter_provider.get_meter("the.application")


# Instruments that are not ours


def kept_of_instruments_that_are_not_measured():
    with measuring(settings(BUDGET_INSTRUMENT="7")) as measured:
        meter = own_meter(measured)

        def make(begin):
            for number in range(begin, begin + 5000):
                meter.create_counter(f"made.{number}").add(1)
                meter.create_gauge(f"set.{number}").set(1)
                meter.create_observable_gauge(f"seen.{number}", [])
            measured.page()
            gc.collect()

        make(0)
        tracemalloc.start()
        make(5000)
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return grown


def test_instruments_that_are_not_measured_leave_nothing_in_memory():
    kept = alone(kept_of_instruments_that_are_not_measured)
    assert kept < 15_000 * 10  # bytes; one name would be more


# Cut off by the consumer


def kept_of_a_long_loop():
    import tracemalloc

    model = FakeListChatModel(responses=["hi"])

    def loop(count):
        for _ in range(count):
            model.invoke("hi")
        measured.forget_spans()
        gc.collect()

    with measuring() as measured, conserved(measured):
        loop(200)
        tracemalloc.start()
        loop(200)
        before, _ = tracemalloc.get_traced_memory()
        loop(1000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return after - before


def test_a_long_loop_in_one_context_keeps_nothing():
    assert alone(kept_of_a_long_loop) < 200 * 1000  # bytes: less than 200 for each call


def kept_of_abandoned_runs():
    return kept_for_each(list(growth(4_000)))  # `make abandoned` is the long form


@pytest.mark.long
def test_memory_stays_flat_while_runs_are_abandoned():
    assert alone(kept_of_abandoned_runs) < 20  # bytes; one that is kept costs over a thousand


STREAMS = 8  # whose facts are fewer than are settled at once


def what_waits():
    """Objects that wait to be recorded after some streams, by the package of their type."""

    def alive():
        gc.collect()
        return Counter(str(type(one).__module__).partition(".")[0] for one in gc.get_objects())

    # Nothing is settled meanwhile; the process ends with this function.
    DelayedCall.set = lambda *_, **__: True
    app = service()
    with measuring() as measured:
        send(app, "/stream/10", 3)
        measured.spans  # noqa: B018 - it settles
        measured.forget_spans()
        send(app, "/stream/10", STREAMS)
        waiting = alive()
        measured.spans  # noqa: B018
        measured.forget_spans()
        waiting.subtract(alive())
    return waiting


def test_what_waits_to_be_recorded_is_few_objects():
    """Each brings the next walk of the garbage collector through the whole heap closer."""
    waiting = Counter(alone(what_waits))
    # Of each stream: two spans, and what stands for one of them; the call, its end, its bill and
    # the one message on it; what is known of the request, and its answer.
    assert 0 < waiting["otel_coach"] <= 9 * STREAMS
    assert waiting["langchain_core"] == waiting["functools"] == 0
