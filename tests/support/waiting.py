"""What happens a little later."""

import time


def eventually(check, *, within=5.0):
    """Wait until `check()` is true; what happens after a client left takes its time."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)
