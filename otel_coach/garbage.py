"""Whether the garbage collector runs in this thread, at this moment."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from functools import partial
from operator import itemgetter
from typing import Final

_WHO: Final = "thread"


class Collections(defaultdict[str, int]):
    """Of a process: the number of the thread that collects is under `_WHO` meanwhile.

    `gc.callbacks` have `getattr` called with this, the phase and what is known of it. No function
    of Python runs for that: what a signal handler raised in one would be lost, as all is that a
    callback of the collector raises.
    """

    start = property(itemgetter(_WHO))
    """Looked up for the first time, it is made: by `get_ident`."""
    stop = property(dict[str, int].clear)

    def __init__(self) -> None:
        super().__init__(threading.get_ident)
        self._note = partial(getattr, self)
        gc.callbacks.append(self._note)

    @property
    def are_here(self) -> bool:
        """Whether this very code was called from within one, by a finaliser."""
        return self.get(_WHO) == threading.get_ident()

    def close(self) -> None:
        """Leave no trace in the interpreter."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)
