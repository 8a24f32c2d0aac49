"""The environment of this process, for code that reads variables beyond otel-coach's settings."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


def process_environment() -> Mapping[str, str]:
    """Returns a copy of `os.environ`."""
    return dict(os.environ)


def set_variables(variables: Mapping[str, str]) -> None:
    """Sets these variables in `os.environ`."""
    os.environ.update(variables)


@contextmanager
def replaced_environment(variables: Mapping[str, str]) -> Generator[None]:
    """Has `os.environ` hold these variables, and no others, until the end of the block."""
    before = process_environment()
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
