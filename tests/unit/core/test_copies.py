"""Collections that change while they are copied: by other threads, and by the garbage collector."""

import asyncio
import gc
import uuid
from types import SimpleNamespace

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from otel_coach.core.copies import items_of
from otel_coach.instrumentors.asgi.websocket import Connection
from otel_coach.instrumentors.langchain.open_runs import OpenRuns
from otel_coach.metrics.recorder import Recorder


@pytest.fixture
def recorder():
    made = Recorder(NoOpMeterProvider().get_meter("test"))
    yield made
    made.close()


@pytest.fixture
def collecting_soon():
    """The garbage collector runs in the middle of what makes many tuples next."""
    before = gc.get_threshold()
    gc.collect()
    gc.disable()

    def begin():
        gc.set_threshold(gc.get_count()[0] + 1500)
        gc.enable()

    yield begin
    gc.set_threshold(*before)
    gc.enable()


class Run:
    __slots__ = ("__weakref__", "id_ref", "task")

    def __init__(self):
        self.id_ref = self.task = None


def test_runs_whose_ids_are_collected_while_all_are_ended_end_once(recorder, collecting_soon):
    ended = []
    runs = OpenRuns(recorder, ended.append)
    kept = []
    for number in range(6000):
        run_id = uuid.uuid4()
        runs.add(run_id, Run())
        holder = [run_id]
        # As a traceback holds what it has in a cycle; the end of the id is the end of the run.
        (holder if number % 50 == 0 else kept).append(holder)
    del run_id, holder
    collecting_soon()
    runs.lose(lambda _: True)
    assert len(ended) == len(set(map(id, ended))) == 6000
    assert not runs.by_key


def test_a_copy_of_items_lacks_what_is_removed_meanwhile():
    class Shrinking(dict):
        def __getitem__(self, key):
            raise AssertionError  # it may be gone

        def get(self, key, default=None):
            self.pop("b", None)
            return super().get(key, default)

    assert items_of(Shrinking(a=1, b=2, c=3)) == [("a", 1), ("c", 3)]
    assert items_of({}) == []


class Turn:
    """Another thread begins a turn whenever somebody looks at this one."""

    is_ai = True
    open_runs = (1,)

    def __init__(self, connection):
        self.connection = connection

    @property
    def has_dropped_stream(self):
        if len(self.connection.open_turns) < 50:
            self.connection.open_turns[Turn(self.connection)] = None
        return False


class AiTurn(Turn):
    @property
    def is_ai(self):
        return not self.has_dropped_stream


@pytest.mark.parametrize("turn", [Turn, AiTurn])
def test_turns_of_a_websocket_may_begin_while_they_are_looked_at(recorder, turn):
    connection = SimpleNamespace(open_turns={}, recorder=recorder)
    connection.open_turns.update({turn(connection): None, turn(connection): None})
    before = recorder.measurements
    assert Connection.open_streams.fget(connection) == 2
    asyncio.run(Connection._until_dropped_streams_end(connection))
    assert Connection._note_dropped_streams.__wrapped__(connection) is False
    assert recorder.measurements == before  # no fault


def test_a_fault_in_waiting_for_dropped_streams_reaches_no_handler(recorder):
    connection = SimpleNamespace(recorder=recorder)  # without what it looks at
    before = recorder.measurements
    asyncio.run(Connection._until_dropped_streams_end(connection))
    assert recorder.measurements == before + 1
