"""Python imports this first: a wall clock that another process sets, and then OpenTelemetry."""  # noqa: INP001 - on a path of its own

import os
import time

_time, _time_ns = time.time, time.time_ns
_file = os.open(os.environ["SOAK_CLOCK"], os.O_RDONLY)


def _ahead() -> float:
    """Seconds; in a file of a fixed length, which is written at once."""
    return float(os.pread(_file, 20, 0) or 0)


time.time = lambda: _time() + _ahead()
time.time_ns = lambda: _time_ns() + int(_ahead() * 1e9)

from opentelemetry.instrumentation.auto_instrumentation import initialize  # noqa: E402 - after it

initialize()
