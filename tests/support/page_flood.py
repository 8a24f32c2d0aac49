"""Pages that take their time."""

import threading

from otel_coach.workers.log_once import LogOnce


class Slow:
    """A page that is made when it is let."""

    cannot_read = LogOnce()

    def __init__(self):
        self.made = 0
        self.let = threading.Semaphore(0)
        self.fault = None

    def render(self, accept, own=None):
        assert self.let.acquire(timeout=10)
        self.made += 1
        if self.fault is not None:
            raise self.fault
        return b"page %d %s" % (self.made, accept.encode()), "text/plain"


def answered(renders):
    """What one gets who waits for a page."""
    ready = threading.Event()
    ticket = renders.ask("", "", ready.set)
    assert ready.wait(10)
    return ticket.found()
