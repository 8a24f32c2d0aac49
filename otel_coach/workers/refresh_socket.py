"""Unix sockets through which workers ask each other to bring their snapshots up to date.

A worker connects to another worker's socket and waits; that worker writes its snapshot and answers
with one byte, or with none if it cannot write. Metrics are never sent through a socket: if a worker
cannot write, hangs or has ended, the snapshot that it last wrote is read.
"""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import ExitStack, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from otel_coach.workers.log_once import NO_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_DONE: Final = b"1"
_MAX_WAITING: Final = 128
_PROCESSORS: Final = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
_MAX_DELAY: Final = 0.02
"""Seconds without an answer after which one more worker is asked."""
_MAX_TOTAL: Final = 6
"""The longest wait for all workers together, as a multiple of the wait for one answer."""
_PAUSE: Final = 0.1
"""Seconds between two attempts to accept a connection while no descriptor is left."""


class RefreshSocket:
    """The socket at which a worker is asked for a new snapshot."""

    def __init__(self, path: Path) -> None:
        """Listens at `path`.

        Raises:
            OSError: the socket cannot be created.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(_MAX_WAITING)
        except OSError:
            self._socket.close()
            raise

    def wait(self, seconds: float, answer: Callable[[], bool]) -> bool:
        """Waits for a request; returns False if none came within `seconds`.

        `answer` is called once for all requests that came before it, and returns whether it
        succeeded.
        """
        self._socket.settimeout(seconds)
        try:
            connections = [self._socket.accept()[0]]
        except TimeoutError:
            return False
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR:
                raise
            sleep(min(seconds, _PAUSE))  # still queued: the next accept would fail, too
            return False
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
        with suppress(OSError):  # no other connection is queued, or no descriptor is left for it
            while len(connections) < _MAX_WAITING:
                connections.append(self._socket.accept()[0])
        succeeded = False
        try:
            succeeded = answer()
        finally:
            for connection in connections:
                if succeeded:
                    with suppress(OSError):
                        connection.send(_DONE)
                connection.close()
        return True

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


def request_refresh(
    sockets: Mapping[str, Path], seconds: float, meanwhile: Callable[[], object]
) -> set[str]:
    """Asks the workers at `sockets` for new snapshots; returns the names of those without one.

    Those are workers that cannot write, whose queue of requests is full, or that have not answered
    `seconds` after the last answer of any worker, or after `_MAX_TOTAL` times `seconds` in all. A
    worker that has ended before it is asked has nothing newer, and is not among them. `meanwhile`
    is called once while the workers write; both times begin when it has returned.

    As many workers are asked at a time as there are processors: a worker that writes without a
    processor to itself delays its own event loop. If none answers soon, one more is asked.

    Raises:
        OSError: there are not enough descriptors.
    """
    waiting, silent = dict(sockets), set[str]()
    asked: dict[str, socket.socket] = {}
    with ExitStack() as stack:
        stack.callback(lambda: [connection.close() for connection in asked.values()])
        selector = stack.enter_context(selectors.DefaultSelector())

        def ask_next(count: int) -> None:
            while waiting and count:
                name, path = waiting.popitem()
                try:
                    connection = _connected(path)
                except OSError as error:
                    if error.errno in NO_DESCRIPTOR:
                        raise
                    silent.add(name)  # its queue is full
                    continue
                if connection is not None:
                    asked[name] = connection
                    selector.register(connection, selectors.EVENT_READ, name)
                    count -= 1

        ask_next(_PROCESSORS - 1)
        meanwhile()
        ask_next(1)
        deadline = monotonic() + seconds
        total_deadline = monotonic() + _MAX_TOTAL * seconds
        while asked and (left := min(deadline, total_deadline) - monotonic()) > 0:
            answered = selector.select(min(left, _MAX_DELAY))
            for key, _ in answered:
                connection = asked.pop(key.data)
                selector.unregister(connection)
                if not _is_answered(connection):
                    silent.add(key.data)
                connection.close()
            if answered:  # the others may just be busy: the wait begins again
                deadline = monotonic() + seconds
            ask_next(len(answered) or 1)
    return silent.union(asked, waiting)


def _connected(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)  # noqa: FBT003 - the standard library's signature
    try:
        connection.connect(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()  # the worker has just ended or just started: nothing newer to write
        return None
    except OSError:
        connection.close()
        raise
    return connection


def _is_answered(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == _DONE
    except OSError:  # the worker ended before it answered
        return False
