"""Callbacks that reset state in forked child processes."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def in_each_child(method: Callable[[], object]) -> None:
    """Registers the bound `method` to be called in each forked child, while its object lives.

    Does nothing on Windows, which has no fork; Python has no `os.register_at_fork` there.
    """
    if hasattr(os, "register_at_fork"):
        reference = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (alive := reference()) and alive())
