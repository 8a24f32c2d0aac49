"""The thread that calls the recorder a moment later."""

from otel_coach.metrics.delayed_call import DelayedCall
from tests.support.faults import never


class ClosingQueue:
    """A queue in whose `put` another thread closes the call."""

    def __init__(self, delayed):
        self._delayed = delayed

    def put(self, _item):
        self._delayed._wakeups = None
        self._delayed.close()


def test_a_call_that_is_set_while_another_thread_closes_it_is_not_expected():
    delayed = DelayedCall(lambda: None, 0.01, "test", never)
    delayed._wakeups = ClosingQueue(delayed)
    assert not delayed.set(may_start=True)
    assert not delayed.is_set
    assert not delayed.set(may_start=True)
    assert not delayed.is_set
