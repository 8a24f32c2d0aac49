"""otel-coach's instrumentors have the interface of OpenTelemetry's, without its modules."""

import inspect

import pytest
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_coach.instrumentors.base import Instrumentor


class Counting(Instrumentor):
    def __init__(self):
        self.calls = vars(self).get("calls", [])

    def _instrument(self, **kwargs):
        self.calls.append(("instrument", kwargs))

    def _uninstrument(self, **kwargs):
        self.calls.append(("uninstrument", kwargs))


class Failing(Counting):
    def _instrument(self, **_kwargs):
        message = "broken"
        raise OSError(message)


class Stock(BaseInstrumentor):
    def __init__(self):
        self.calls = vars(self).get("calls", [])

    instrumentation_dependencies = Instrumentor.instrumentation_dependencies
    _instrument = Counting._instrument
    _uninstrument = Counting._uninstrument


def used(cls):
    """What was called, and what the instrumentor said it is, step by step."""
    states = []
    for step in (
        lambda: cls().uninstrument(),
        lambda: cls().instrument(skip_dep_check=True, recorder=1),
        lambda: cls().instrument(skip_dep_check=True, recorder=2),
        lambda: cls().instrument(),
        lambda: cls().uninstrument(why="done"),
        lambda: cls().uninstrument(),
        lambda: cls().instrument(),
        lambda: cls().uninstrument(),
    ):
        assert step() is None
        states.append(cls().is_instrumented_by_opentelemetry)
    assert cls() is cls()
    return states, cls().calls


def test_it_does_what_opentelemetrys_does():
    assert used(Counting) == used(Stock)


def test_one_that_cannot_start_is_not_active():
    with pytest.raises(OSError, match="broken"):
        Failing().instrument()
    assert not Failing().is_instrumented_by_opentelemetry
    assert Failing() is not Counting()


def test_it_has_all_public_members():
    public = {name for name, _ in inspect.getmembers(BaseInstrumentor) if not name.startswith("_")}
    assert public <= {name for name, _ in inspect.getmembers(Instrumentor)}
