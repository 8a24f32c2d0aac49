"""Counts how much of otel-coach runs."""

import gc
import sys
from contextlib import contextmanager
from pathlib import Path

import otel_coach

PACKAGE = str(Path(otel_coach.__file__).parent)


@contextmanager
def calls_of_ours():
    """Python functions of the package that this thread calls."""
    counted = [0]

    def count(frame, event, _argument):
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            counted[0] += 1

    gc.disable()  # it calls whoever wants to know of it, also recorders that other tests left
    sys.setprofile(count)
    try:
        yield counted
    finally:
        sys.setprofile(None)
        gc.enable()
