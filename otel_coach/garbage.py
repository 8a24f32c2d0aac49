"""Whether the garbage collector runs at this moment."""

from __future__ import annotations

import gc


class Collections:
    """Those of a process, told by `gc.callbacks`.

    What is called there are two methods of a dictionary, with the phase (`start`, `stop`) and what
    is known of it: the first takes a phase out, the second puts it in again, so that the newest one
    is the last. No function of Python runs for that. What a signal handler raised in one would be
    lost, as all is that a callback of the collector raises.
    """

    def __init__(self) -> None:
        self._phases: dict[str, object] = {}
        gc.callbacks.append(self._phases.pop)
        gc.callbacks.append(self._phases.setdefault)

    @property
    def is_running(self) -> bool:
        """Whether one has begun and not ended: the code that asks may be called by a finaliser.

        Or by another thread, meanwhile: to wait until it has ended costs that one nothing.
        """
        return list(self._phases)[-1:] == ["start"]

    def close(self) -> None:
        """Leave no trace in the interpreter."""
        for note in (self._phases.pop, self._phases.setdefault):
            if note in gc.callbacks:
                gc.callbacks.remove(note)

    def clear(self) -> None:
        """In a forked child none runs."""
        self._phases.clear()
