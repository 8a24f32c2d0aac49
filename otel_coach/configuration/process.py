"""The environment of this process, for code that reads variables beyond otel-coach's settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def process_environment() -> Mapping[str, str]:
    """Returns a copy of `os.environ`."""
    return dict(os.environ)


def set_variables(variables: Mapping[str, str]) -> None:
    """Sets these variables in `os.environ`."""
    os.environ.update(variables)
