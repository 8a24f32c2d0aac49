"""What happens a little later."""

import os
import signal
import time

import psutil


def eventually(check, *, within=60.0, every=0.01):
    """Wait until `check()` is true; what happens after a client left takes its time.

    On a machine that is busy with something else, a moment may last some seconds: the time limit
    ends a test that would wait for ever, and says nothing about speed.
    """
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(every)


def end(pid, how=signal.SIGTERM):
    """Sends the signal and waits until the process has ended.

    Until then, a server's worker resets connections that it accepted at the last moment.
    """
    os.kill(pid, how)
    eventually(lambda: has_ended(pid))


def has_ended(pid):
    """Whether the process has ended, also if its parent has not asked for its exit code yet.

    uvicorn's supervisor may wait for the answer of a worker that has just ended, for as long as its
    health check lasts.
    """
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
