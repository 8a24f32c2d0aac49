"""What is wrong with a variable, for the log and for `otel-coach doctor`."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """A variable that could not be used, or only in part."""

    variable: str
    text: str
    """One line: the variable, what is wrong with it, and what takes effect instead."""
