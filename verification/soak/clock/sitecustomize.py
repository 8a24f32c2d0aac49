"""Imported by Python first: makes the wall clock settable, then initialises OpenTelemetry."""  # noqa: INP001 - on a path of its own

import os
import time

_time, _time_ns = time.time, time.time_ns
_file = os.open(os.environ["SOAK_CLOCK"], os.O_RDONLY)


def _ahead() -> float:
    """Returns the seconds in the file, whose fixed length is always written by a single write."""
    return float(os.pread(_file, 20, 0) or 0)


time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + int(_ahead() * 1e9)

from opentelemetry.instrumentation.auto_instrumentation import initialize  # noqa: E402 - after the clock is set

initialize()
