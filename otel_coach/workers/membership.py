"""One worker's part in its service: it writes its own metrics and reads those of all workers.

Metrics are opaque bytes here; only the `prometheus` package knows their format.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager, suppress
from errno import ENOENT
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from otel_coach.core.guard import OwnThread
from otel_coach.core.traps import SHARED_FOLDER
from otel_coach.workers.append_log import SharedLog
from otel_coach.workers.dead_workers import read_dead_workers, write_dead_workers
from otel_coach.workers.journal import Journal
from otel_coach.workers.log_once import ANOTHER_FOLDER, RESTART, LogOnce, cure, reason
from otel_coach.workers.refresh_socket import RefreshSocket, request_refresh
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.worker_metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from pathlib import Path

    from otel_coach.workers.supervisor import Supervisor
    from otel_coach.workers.worker_metrics import MetricsSource

_logger = logging.getLogger("otel_coach")

MAX_WAIT: Final = 0.5
"""Seconds to wait for a worker that does not answer."""

_TICK: Final = 0.7
"""Seconds between two checks for changes; a killed worker may lose otel-coach's counts of them."""
_MAX_MEASUREMENT: Final = 5.0
"""Seconds to wait for a measurement in another thread."""
_MAX_LEAVE: Final = 2.0
"""Seconds for which `leave` waits for the background thread."""
_TICKS_BETWEEN_FOLDS: Final = 5
_TICKS_BETWEEN_TOUCHES: Final = 1000
_ALL_ENDED: Final = "dead"
"""The name under which the merged metrics of all workers that have ended are kept."""


class Membership:
    """One worker's membership in a run of a service.

    Args:
        folder: the folder that the workers share.
        supervisor: the supervisor of the workers.
        source: the metrics of this worker.
        fault: called with each exception in the background thread, and its place.
        on_tick: called at each check for changes.
    """

    def __init__(
        self,
        folder: RunDir,
        supervisor: Supervisor,
        source: MetricsSource,
        fault: Callable[[BaseException, str], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._source = source
        self._fault = fault
        self._on_tick = on_tick
        self._pid = os.getpid()
        self._refreshing = threading.Lock()
        self._journal = Journal(folder, folder.snapshot(folder.me))
        """All workers, even this one, read its metrics from this file, so that all pages agree."""
        self._write_error: OSError | None = None
        """Why the newest metrics could not be written."""
        self._cannot_measure = LogOnce()
        self._cannot_write = LogOnce()
        self._cannot_ask = LogOnce()
        self._cannot_tidy = LogOnce()
        self._unanswered: dict[str, LogOnce] = {}
        self._tasks: dict[str, Callable[[], None]] = {}
        self._ticks = 0
        self._closed = False
        self._thread = OwnThread(self._work, "otel-coach-worker", fault)
        try:
            self._refresh_socket = RefreshSocket(folder.socket(folder.me))
        except OSError:
            folder.withdraw()  # otherwise the other workers would wait for its answers
            raise

    @classmethod
    def join(
        cls,
        base: Callable[[], Path],
        supervisor: Supervisor,
        source: MetricsSource,
        fault: Callable[[BaseException, str], None],
        on_tick: Callable[[], None] = lambda: None,
    ) -> Membership | None:
        """Joins the workers of `supervisor`; returns None, and logs why, if they cannot share.

        `base` returns the folder for the runs of all services; it may raise SharedDirError.
        """
        try:
            membership = cls(RunDir(base(), supervisor), supervisor, source, fault, on_tick)
        except OSError as error:
            line = SHARED_FOLDER.found(reason=error, cure=cure(error, ANOTHER_FOLDER))
            _logger.error("otel-coach: %s", line)  # noqa: TRY400 - one line with the cure
            return None
        try:
            membership._thread.start()
        except RuntimeError as error:  # no thread can be started
            membership._refresh_socket.close()
            membership._folder.withdraw()
            line = SHARED_FOLDER.found(reason=error, cure=RESTART)
            _logger.error("otel-coach: %s", line)  # noqa: TRY400 - as above
            return None
        return membership

    def shared_log(self, name: str) -> SharedLog:
        """Opens the log `name`, which all workers of the service share.

        Raises:
            OSError: it cannot be opened.
        """
        return SharedLog(self._folder.file(f"{name}.log"))

    def is_first(self, event: str) -> bool:
        """Returns whether no worker of this run has asked this about `event` before."""
        try:
            return self._folder.is_first(event)
        except OSError:  # the folder is full, for example: then no worker is the first
            return False

    def when_mine(self, task: str, begin: Callable[[], None]) -> None:
        """Calls `begin` when this worker gets `task`: now, or when the worker that has it ends."""
        if self._takes(task):
            begin()
        else:
            self._tasks[task] = begin

    def refresh(self) -> bool:
        """Writes this worker's current metrics; returns whether that succeeded."""
        if os.getpid() != self._pid or self._folder.is_removed:
            return False  # a forked child has only a copy of its parent's metrics
        with self._alone() as is_alone:
            if not is_alone:
                return False
            begins = self._journal.begins
            try:
                content = self._source.measure(whole=begins)
            except OSError as error:
                self._journal.close()  # the file starts over: it may lack some changes
                if self._cannot_measure.begins():
                    _logger.error(  # noqa: TRY400 - one line
                        "otel-coach: worker %d cannot measure: %s; the page shows its last figures",
                        self._pid,
                        error,
                    )
                return False
            except BaseException:
                self._journal.close()
                raise
            self._cannot_measure.ends()
            return self._write(self._journal.begin if begins else self._journal.append, content)

    def _write(self, how: Callable[[bytes], None], content: bytes) -> bool:
        try:
            how(content)
        except OSError as error:
            self._journal.close()  # the file starts over: it lacks these changes
            self._write_error = error.with_traceback(None)
            if self._cannot_write.begins():
                _logger.error(  # noqa: TRY400 - one line
                    "otel-coach: %s cannot be written (%s); until it can, the page shows the "
                    "figures that worker %d last wrote. %s",
                    self._folder.path,
                    reason(error),
                    self._pid,
                    cure(error, ANOTHER_FOLDER),
                )
            return False
        self._write_error = None
        if self._cannot_write.ends():
            _logger.warning(
                "otel-coach: %s can be written again; the page shows all that worker %d "
                "counted meanwhile",
                self._folder.path,
                self._pid,
            )
        return True

    def all_metrics(
        self, read: Mapping[str, tuple[bytes, int]] | None = None
    ) -> list[WorkerMetrics]:
        """Returns the metrics of all workers of the run, ended ones included.

        The living workers are first asked to write their current metrics. `read` maps a worker to
        the first bytes of its file, and to the number of its bytes that the caller has read.

        Raises:
            OSError: the metrics of a worker cannot be read; without them, counters would drop.
        """
        known = dict(self._folder.workers())
        me = self._folder.me if os.getpid() == self._pid else None
        if me is not None and me not in known:
            raise FileNotFoundError(ENOENT, "the folder of this run was removed", self._folder.path)
        sockets = {
            worker: self._folder.socket(worker)
            for worker, lives in known.items()
            if lives and worker != me
        }
        refreshed: list[bool] = []
        silent = request_refresh(sockets, MAX_WAIT, lambda: refreshed.append(self.refresh()))
        # A worker that has ended meanwhile cannot have newer metrics than those in its file.
        silent = set(filter(self._folder.lives, silent))
        self._report(silent, known)
        read = read or {}
        found: list[WorkerMetrics] = []
        for worker, lives in known.items():
            content, offset = self._last_written(worker, *read.get(worker, (b"", 0)))
            stale = not all(refreshed) if worker == me else worker in silent
            if stale or content is not None or worker == me:
                found.append(WorkerMetrics(worker, content, lives, stale, offset))
        # Read last: workers that were merged meanwhile are in this file, and have no other.
        names, folded = read_dead_workers(self._folder)
        found = [metrics for metrics in found if metrics.worker not in names]
        if folded is not None:
            head, offset = read.get(_ALL_ENDED, (b"", 0))
            offset = offset if head and folded.startswith(head) else 0
            merged = WorkerMetrics(
                _ALL_ENDED, folded[offset:], lives=False, stale=False, offset=offset
            )
            found.append(merged)
        return found

    def close(self) -> None:
        """Writes the last metrics; removes the run's folder if nothing else of the run is alive."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        if not self.refresh() and self._write_error is not None:
            _logger.error(
                "otel-coach: worker %d ends and cannot write (%s); what it counted since it last "
                "wrote is lost. %s",
                self._pid,
                reason(self._write_error),
                cure(self._write_error, ANOTHER_FOLDER),
            )
        if not self._supervisor.lives:
            # If the other workers' locks cannot be read, the next start removes what is left.
            with suppress(OSError):
                known = self._folder.workers()
                if not any(lives for worker, lives in known if worker != self._folder.me):
                    self._folder.remove()

    def leave(self) -> None:
        """Leaves the run; the other workers keep this worker's counts and take over its tasks."""
        if self._closed or os.getpid() != self._pid:
            return
        self.refresh()
        self._closed = True
        if self._thread.is_alive():
            self._thread.join(_MAX_LEAVE)
        self._refresh_socket.close()
        self._journal.close()
        self._folder.release()

    def _work(self) -> None:
        ticked = monotonic()
        has_tidied = False
        while not self._closed:
            try:
                if not has_tidied:  # immediately: all workers may end before the regular call
                    has_tidied = True
                    self._tidy()
                self._refresh_socket.wait(max(0.01, ticked + _TICK - monotonic()), self.refresh)
                if monotonic() - ticked >= _TICK and not self._closed:
                    ticked = monotonic()
                    self._tick()
            except BaseException as fault:  # noqa: BLE001 - the next tick tries again
                if not self._closed:
                    self._fault(fault, "Membership")
                    sleep(_TICK)

    def _tick(self) -> None:
        self._on_tick()
        if self._write_error is not None or self._journal.begins or self._source.changed():
            self.refresh()
        else:
            self._write_increments()
        for task in list(self._tasks):
            if self._takes(task):
                self._tasks.pop(task)()
        self._ticks += 1
        if self._ticks % _TICKS_BETWEEN_FOLDS == 0:
            self._tidy()

    def _write_increments(self) -> None:
        """Writes the changes that need no measurement, so that a killed worker loses little."""
        with self._alone() as is_alone:
            if is_alone and (content := self._source.increments()):
                self._write(self._journal.append, content)

    @contextmanager
    def _alone(self) -> Generator[bool]:
        """Waits for another thread, whose measurement may hang; yields whether that has ended."""
        is_alone = self._refreshing.acquire(timeout=_MAX_MEASUREMENT)
        try:
            yield is_alone
        finally:
            if is_alone:
                self._refreshing.release()

    def _takes(self, task: str) -> bool:
        try:
            is_mine = self._folder.take_task(task)
        except OSError as error:  # counts as not taken, until the next tick
            if self._cannot_ask.begins():
                _logger.error(  # noqa: TRY400 - one line
                    "otel-coach: worker %d cannot find out whether it has the task %s (%s); it "
                    "tries again. %s",
                    self._pid,
                    task,
                    reason(error),
                    cure(error, ANOTHER_FOLDER),
                )
            return False
        self._cannot_ask.ends()
        return is_mine

    def _tidy(self) -> None:
        try:
            if self._write_error is None:  # folding needs space and descriptors before it frees any
                self._fold()
            if self._ticks % _TICKS_BETWEEN_TOUCHES == 0:
                self._folder.touch()
        except OSError as error:
            if self._cannot_tidy.begins():
                _logger.error(  # noqa: TRY400 - one line
                    "otel-coach: the shared folder cannot be tidied (%s); this is tried again. %s",
                    error,
                    cure(error, RESTART),
                )
        else:
            self._cannot_tidy.ends()

    def _fold(self) -> None:
        """Merges the metrics of ended workers into one file, so that files do not accumulate."""
        ended = [worker for worker, lives in self._folder.workers() if not lives]
        if not ended:
            return
        with self._folder.holding("folding") as has_task:
            if not has_task:
                return
            names, folded = read_dead_workers(self._folder)
            contents = [] if folded is None else [folded]
            for worker in ended:
                content = None if worker in names else self._last_written(worker)[0]
                if content is not None:
                    contents.append(content)
            write_dead_workers(self._folder, [*names, *ended], self._source.fold(contents))
            for worker in ended:
                self._folder.forget(worker)

    def _last_written(
        self, worker: str, head: bytes = b"", offset: int = 0
    ) -> tuple[bytes | None, int]:
        """Returns the worker's file from `offset` on, and that offset.

        If the file does not begin with `head`, returns all of it, and 0. The content is None if
        the worker has written nothing, or its metrics have been merged with those of other ended
        workers.
        """
        try:
            with self._folder.snapshot(worker).open("rb", buffering=0) as file:
                if not head or file.read(len(head)) != head:
                    offset = 0
                file.seek(offset)
                return file.readall(), offset
        except FileNotFoundError:
            return None, 0

    def _report(self, silent: set[str], known: Iterable[str]) -> None:
        unanswered = {worker: self._unanswered.get(worker, LogOnce()) for worker in known}
        for worker, log_once in unanswered.items():
            if worker not in silent:
                log_once.ends()
            elif log_once.begins():
                _logger.warning(
                    "otel-coach: worker %s does not answer; the page shows its last figures. It "
                    "hangs, or it cannot write; in the latter case it logs why.",
                    worker.partition("-")[0],
                )
        self._unanswered = unanswered
