"""What of spans, metrics and log records did not leave, counted.

The SDK says so in its log only. Here each exporter is wrapped, which tells what failed, and the
places in the queue before it are counted, which tells what found none. What no back end has
confirmed is lost: one that took a batch and answered too late had it nevertheless.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from itertools import repeat
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import wrapt

from otel_coach.catalogue import LOST
from otel_coach.forks import in_each_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.recorder import Recorder

_logger = logging.getLogger("otel_coach")

_MINUTE: Final = 60.0


class Losses:
    """Counts what is lost, in any thread and at any moment.

    Args:
        span_places: in the queue of spans before each exporter.
        log_places: in that of log records.
    """

    recorder: Recorder | None = None
    """Known once there is a meter, which needs the exporters first; nothing is sent before."""

    def __init__(self, span_places: int, log_places: int) -> None:
        self.span_places = span_places
        self.log_places = log_places
        self._said: dict[str, float] = {}
        self._queues: list[Exports] = []
        self.end = math.inf
        """Until when the exporters may take to stop, by `time.monotonic`."""

    @property
    def seconds_left(self) -> float:
        """What of the time to stop is left; without end where none was set."""
        return max(0.0, self.end - monotonic())

    def of_queue(self, error_type: str, places: int) -> Exports:
        """What counts for an exporter with a queue of so many places before it."""
        exports = Exports(self, error_type, places)
        self._queues.append(exports)
        return exports

    def give_up(self) -> None:
        """Count what still waits in any queue, or is not confirmed: the time to stop is over."""
        for exports in self._queues:
            exports.close()

    def add(self, error_type: str, count: int) -> None:
        """Count so many spans, points or records."""
        if self.recorder is not None and count:
            self.recorder.record(LOST, count, (error_type,))
            self.recorder.settle()

    def no_place(self, error_type: str, what: str, variable: str) -> None:
        """Count one that found its queue full; said once a minute."""
        now = monotonic()
        if now - self._said.get(what, -_MINUTE) >= _MINUTE:
            self._said[what] = now
            _logger.warning(
                "otel-coach: the queue of %s is full, further ones are dropped and counted in %s. "
                "The back end takes less than is made: make less (OTEL_TRACES_SAMPLER), or raise "
                "%s if it is for a moment only",
                what,
                LOST.prometheus_name,
                variable,
            )
        self.add(error_type, 1)


class Exports:
    """What one exporter was given, and how that went.

    `take` is lock-free: a span may end in a finaliser, in the middle of anything.

    Args:
        losses: where what is lost is counted, as `error_type`.
        places: in the queue before the exporter; None where there is no queue.
    """

    def __init__(self, losses: Losses, error_type: str, places: int | None = None) -> None:
        self._losses = losses
        self._error_type = error_type
        self._places = places
        self.is_closed = False
        self._begin_anew()
        in_each_child(self._begin_anew)

    def _begin_anew(self) -> None:
        """A forked child has an empty queue, and no thread that exports."""
        self._lock = threading.Lock()
        self._free = deque[None](repeat(None, self._places or 0))
        self._under_way = 0

    def take(self) -> bool:
        """Take a place in the queue; whether there was one."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def begin(self, count: int) -> bool:
        """So many leave the queue for the exporter; not if they were given up already."""
        with self._lock:
            if self.is_closed:
                return False
            self._under_way += count
            if self._places is not None:
                self._free.extend(repeat(None, count))
            return True

    def end(self, count: int, *, failed: bool) -> None:
        """The exporter is done with them."""
        with self._lock:
            if self.is_closed:
                return  # given up, and counted, before
            self._under_way -= count
        if failed:
            self._losses.add(self._error_type, count)

    def close(self) -> None:
        """Give up what still waits, or is not confirmed."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            lost = self._under_way + (self._places or 0)
            while self.take():
                lost -= 1
        self._losses.add(self._error_type, lost)


class CountedExporter(wrapt.ObjectProxy):  # type: ignore[type-arg] - generic in its stubs only
    """An exporter whose failures are counted; all else is the exporter's own.

    Args:
        exporter: of any signal.
        exports: what counts.
        size: how many are in what it is given.
    """

    def __init__(self, exporter: Any, exports: Exports, size: Callable[[Any], int] = len) -> None:
        super().__init__(exporter)
        self._self_exports = exports
        self._self_size = size

    def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """The exporter's result."""
        exports, count = self._self_exports, self._self_size(batch)
        if not exports.begin(count):
            return None
        failed = True
        try:
            result = self.__wrapped__.export(batch, *args, **kwargs)
            # The classes of the result differ by signal and by version; who says nothing succeeded.
            failed = getattr(result, "name", "") == "FAILURE"
        except BaseException as error:
            if isinstance(error, Exception) or _is_main_thread():
                raise
            # The SDK's thread, which it would end for good.
            cause = f"the exporter raised {type(error).__name__}"
            raise RuntimeError(cause) from error
        else:
            return result
        finally:
            exports.end(count, failed=failed)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
