"""What a forked child has to begin anew."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def in_each_child(method: Callable[[], object]) -> None:
    """Call the bound `method` in each forked child, while the object that it is of lives.

    Windows knows no forks, and Python no function for them there.
    """
    if hasattr(os, "register_at_fork"):
        reference = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (alive := reference()) and alive())
