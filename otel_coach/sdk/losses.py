"""Counts the spans, metric points and log records that could not be exported.

The SDK by itself only logs such losses. Here each exporter is wrapped, to count what it failed to
export, and the free slots of the queue before it are tracked, to count the items for which the
queue was full. What no back end has confirmed counts as lost, though a back end that answered too
late may have stored it.
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

from otel_coach.core.forks import in_each_child
from otel_coach.metrics.catalogue import LOST
from otel_coach.metrics.labels import LOGS_EXPORT, SPANS_QUEUE_FULL

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.metrics.measurement_queue import MeasurementQueue

_logger = logging.getLogger("otel_coach")

_MINUTE: Final = 60.0
_LESS: Final = {SPANS_QUEUE_FULL: "OTEL_TRACES_SAMPLER", LOGS_EXPORT: "a higher log level"}
"""How an application can produce less, by the label value under which the loss is counted."""


class Losses:
    """Counts what is lost; may be called in any thread and at any moment.

    Args:
        queue: receives the counts.
        span_slots: number of slots in the queue of spans before each exporter.
        log_slots: number of slots in the queue of log records before each exporter.
    """

    def __init__(self, queue: MeasurementQueue, span_slots: int, log_slots: int) -> None:
        self._queue = queue
        self.span_slots = span_slots
        self.log_slots = log_slots
        self._logged_at: dict[str, float] = {}
        self._queues: list[Exports] = []
        self.end = math.inf
        """The time by which the exporters have to stop, as `time.monotonic` counts."""

    @property
    def seconds_left(self) -> float:
        """The seconds that are left until `end`; infinite if none was set."""
        return max(0.0, self.end - monotonic())

    def of_queue(self, error_type: str, slots: int) -> Exports:
        """Returns the counter for an exporter with a queue of `slots` slots before it."""
        exports = Exports(self, error_type, slots)
        self._queues.append(exports)
        return exports

    def give_up(self) -> None:
        """Counts what is still queued or unconfirmed as lost: the time to stop is over."""
        for exports in self._queues:
            exports.close()

    def add(self, error_type: str, count: int) -> None:
        """Counts `count` lost spans, points or records."""
        if count:
            self._queue.put(LOST, count, (error_type,))

    def no_slot(self, error_type: str, what: str, variable: str) -> None:
        """Counts one item that found its queue full; logs it at most once a minute."""
        now = monotonic()
        if now - self._logged_at.get(what, -_MINUTE) >= _MINUTE:
            self._logged_at[what] = now
            _logger.warning(
                "otel-coach: the queue of %s is full, further ones are dropped and counted in %s. "
                "The application produces more than the back end accepts: produce less (%s), or "
                "raise %s if this is a short burst",
                what,
                LOST.prometheus_name,
                _LESS[error_type],
                variable,
            )
        self.add(error_type, 1)


class Exports:
    """Keeps track of the items that wait for one exporter or are being exported by it.

    `take` is lock-free: a span may end in a finaliser, in the middle of any other code.

    Args:
        losses: counts what is lost.
        error_type: the label value under which it is counted.
        slots: number of slots in the queue before the exporter; None if there is no queue.
    """

    def __init__(self, losses: Losses, error_type: str, slots: int | None = None) -> None:
        self._losses = losses
        self._error_type = error_type
        self._slots = slots
        self.is_closed = False
        self._reset()
        in_each_child(self._reset)

    def _reset(self) -> None:
        """Starts with an empty queue and no export under way; also called in each forked child."""
        self._lock = threading.Lock()
        self._stopping = threading.Lock()
        """Taken when the exporter begins to stop, and kept."""
        self._free_slots = deque[None](repeat(None, self._slots or 0))
        self._in_flight = 0

    def take(self) -> bool:
        """Takes a slot in the queue; returns False if there is none."""
        try:
            self._free_slots.pop()
        except IndexError:
            return False
        return True

    def begin(self, count: int) -> bool:
        """Notes that `count` items go from the queue to the exporter; False if already given up."""
        with self._lock:
            if self.is_closed:
                return False
            self._in_flight += count
            if self._slots is not None:
                self._free_slots.extend(repeat(None, count))
            return True

    def end(self, count: int, *, failed: bool) -> None:
        """Notes that the exporter is done with `count` items."""
        with self._lock:
            if self.is_closed:
                return  # already given up, and counted
            self._in_flight -= count
        if failed:
            self._losses.add(self._error_type, count)

    def begins_to_stop(self) -> bool:
        """Returns whether the exporter begins to stop now: False if it already has."""
        return self._stopping.acquire(blocking=False)

    def close(self) -> None:
        """Gives up what still waits or is not confirmed, and counts it as lost."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            lost = self._in_flight + (self._slots or 0)
            while self.take():
                lost -= 1
        self._losses.add(self._error_type, lost)


class CountedExporter(wrapt.ObjectProxy):  # type: ignore[type-arg] - generic in its stubs only
    """Counts the failures of an exporter; everything else is passed to the wrapped exporter.

    Args:
        exporter: an exporter of any signal.
        exports: the exporter's counter.
        size: returns the number of items in a batch.
    """

    def __init__(self, exporter: Any, exports: Exports, size: Callable[[Any], int] = len) -> None:
        super().__init__(exporter)
        self._self_exports = exports
        self._self_size = size

    def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the exporter's result; None if the batch was given up before."""
        exports, count = self._self_exports, self._self_size(batch)
        if not exports.begin(count):
            return None
        failed = True
        try:
            result = self.__wrapped__.export(batch, *args, **kwargs)
            # Result classes differ by signal and version; an export without a result has succeeded.
            failed = getattr(result, "name", "") == "FAILURE"
        except BaseException as error:
            if isinstance(error, Exception) or _is_main_thread():
                raise
            # In the SDK's thread: this exception would end the thread for good.
            cause = f"the exporter raised {type(error).__name__}"
            raise RuntimeError(cause) from error
        else:
            return result
        finally:
            exports.end(count, failed=failed)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
