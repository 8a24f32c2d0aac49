"""How workers ask each other to bring their snapshots up to date.

Whoever connects to a worker's socket waits; the worker writes its snapshot and answers one byte,
or none where it cannot write. No figure goes through a socket: a worker that cannot, or is hung or
dead, is read as it last wrote.
"""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import ExitStack, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from otel_coach.workers.outage import NO_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_DONE: Final = b"1"
_MOST_WAITING: Final = 128
_PROCESSORS: Final = os.cpu_count() or 1
_HOLD_UP: Final = 0.02
"""Seconds for which a worker that does not answer holds up the next one."""
_MOST_TIMES: Final = 6
"""At most so many times as long as for one, while others answer, all of them are waited for."""
_PAUSE: Final = 0.1
"""Seconds after which one who rings may be let in, if no descriptor is left now."""


class Doorbell:
    """A worker's own end."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`.

        Raises:
            OSError: it cannot be made.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(_MOST_WAITING)
        except OSError:
            self._socket.close()
            raise

    def wait(self, seconds: float, answer: Callable[[], bool]) -> bool:
        """Wait for a ring; False after `seconds`.

        `answer` is called once for all who rang before it, and says whether it succeeded.
        """
        self._socket.settimeout(seconds)
        try:
            waiting = [self._socket.accept()[0]]
        except TimeoutError:
            return False
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR:
                raise
            sleep(min(seconds, _PAUSE))  # who rings goes on waiting, and would be heard at once
            return False
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
        with suppress(OSError):  # nobody else waits, or no descriptor is left for who does
            while len(waiting) < _MOST_WAITING:
                waiting.append(self._socket.accept()[0])
        succeeded = False
        try:
            succeeded = answer()
        finally:
            for one in waiting:
                if succeeded:
                    with suppress(OSError):
                        one.send(_DONE)
                one.close()
        return True

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def ring(doors: Mapping[str, Path], seconds: float, meanwhile: Callable[[], object]) -> set[str]:
    """Ring at `doors`, do something `meanwhile`; the names of those that did not succeed in time.

    That is `seconds` after the last one that answered.

    No more of them work at once than there are processors: one that works and is not let run
    keeps its event loop waiting. Who is slow holds the next one up for a moment only.

    Raises:
        OSError: there are not enough descriptors for it.
    """
    deadline = monotonic() + seconds
    waiting, silent = dict(doors), set[str]()
    bells: dict[str, socket.socket] = {}
    with ExitStack() as afterwards:
        afterwards.callback(lambda: [bell.close() for bell in bells.values()])
        answers = afterwards.enter_context(selectors.DefaultSelector())

        def ring_next(doors: int) -> None:
            while waiting and doors:
                name, path = waiting.popitem()
                try:
                    bell = _connected(path)
                except OSError as error:
                    if error.errno in NO_DESCRIPTOR:
                        raise
                    silent.add(name)  # its queue is full
                    continue
                if bell is not None:
                    bells[name] = bell
                    answers.register(bell, selectors.EVENT_READ, name)
                    doors -= 1

        ring_next(_PROCESSORS - 1)
        meanwhile()
        ring_next(1)
        last = monotonic() + _MOST_TIMES * seconds
        while bells and (left := min(deadline, last) - monotonic()) > 0:
            answered = answers.select(min(left, _HOLD_UP))
            for key, _ in answered:
                bell = bells.pop(key.data)
                answers.unregister(bell)
                if not _is_answered(bell):
                    silent.add(key.data)
                bell.close()
            if answered:  # they all may be busy: who does not answer is alone in that
                deadline = monotonic() + seconds
            ring_next(len(answered) or 1)
    return silent.union(bells, waiting)


def _connected(path: Path) -> socket.socket | None:
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bell.setblocking(False)  # noqa: FBT003 - the standard library's signature
    try:
        bell.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        bell.close()  # it just died, or has just begun: it has nothing newer to write
        return None
    except OSError:
        bell.close()
        raise
    return bell


def _is_answered(bell: socket.socket) -> bool:
    try:
        return bell.recv(1) == _DONE
    except OSError:  # it died over it
        return False
