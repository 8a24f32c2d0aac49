"""What happens a little later."""

import os
import signal
import time

import psutil


def eventually(check, *, within=5.0):
    """Wait until `check()` is true; what happens after a client left takes its time."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)


def end(pid, how=signal.SIGTERM):
    """Sends the signal and waits until the process has ended.

    Until then, a server's worker resets connections that it accepted at the last moment.
    """
    os.kill(pid, how)
    eventually(lambda: not psutil.pid_exists(pid), within=30)
