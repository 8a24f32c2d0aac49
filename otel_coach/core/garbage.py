"""Tells whether the garbage collector is running."""

from __future__ import annotations

import gc


class Collections:
    """Follows the garbage collections of the process through `gc.callbacks`.

    The callbacks are two methods of a dictionary. The collector calls them with the phase (`start`
    or `stop`) and an info dictionary: `pop` removes the phase, `setdefault` adds it again, so that
    the newest phase is the last key. The callbacks are not Python functions, because a signal
    handler could run inside one, and the collector would discard the exception that it raises.
    """

    def __init__(self) -> None:
        self._phases: dict[str, object] = {}
        gc.callbacks.append(self._phases.pop)
        gc.callbacks.append(self._phases.setdefault)

    @property
    def is_running(self) -> bool:
        """Whether a collection is running; the calling code may then be part of a finaliser.

        The collection may also run in another thread; postponing work until its end does no harm.
        """
        return list(self._phases)[-1:] == ["start"]

    def close(self) -> None:
        """Removes the callbacks from `gc.callbacks`."""
        for callback in (self._phases.pop, self._phases.setdefault):
            if callback in gc.callbacks:
                gc.callbacks.remove(callback)

    def clear(self) -> None:
        """Resets the state in a forked child, where no collection is running."""
        self._phases.clear()
