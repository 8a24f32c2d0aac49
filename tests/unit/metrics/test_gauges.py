"""Gauges whose labels exceed a budget."""

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from otel_coach.instrumentors.dependencies.health import Health
from otel_coach.metrics.cardinality import Budgets
from otel_coach.metrics.catalogue import AI_STREAMS_ACTIVE, DEPENDENCY_UP
from otel_coach.metrics.labels import DEPENDENCY_NAME, ENDPOINT
from otel_coach.metrics.recorder import Recorder


@pytest.fixture
def recorder():
    made = Recorder(
        NoOpMeterProvider().get_meter("test"), Budgets({DEPENDENCY_NAME: 2, ENDPOINT: 1})
    )
    yield made
    made.close()


@pytest.mark.parametrize(("down", "up"), [("d", 0), ("e", 0), (None, 1), ("a", 1)])
def test_others_are_up_if_all_of_them_are(recorder, down, up):
    health = Health(recorder)
    for name in "abcde":
        health.note(name, 0.1, "TimeoutError" if name == down else None)
    values = recorder.gauges()[DEPENDENCY_UP]
    assert values == {("a",): 0 if down == "a" else 1, ("b",): 1, ("other",): up}


def test_streams_of_others_are_added_up(recorder):
    recorder.observe(AI_STREAMS_ACTIVE, lambda: {("/a",): 1, ("/b",): 2, ("/c",): 3})
    assert recorder.gauges()[AI_STREAMS_ACTIVE] == {("/a",): 1, ("other",): 5}


def test_a_value_past_its_budget_is_an_overflow_once_however_often_it_is_read(recorder):
    recorder.observe(AI_STREAMS_ACTIVE, lambda: {("/a",): 0, ("/b",): 0, ("/c",): 0})
    before = recorder.measurements
    for _ in range(5):
        recorder.gauges()
    assert recorder.measurements - before == 2  # the overflows of /b and /c
