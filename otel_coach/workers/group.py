"""One worker's part in its service: it writes its figures, and reads everybody's.

The figures are bytes here; what they say is the exposition's matter.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from otel_coach.guards import OwnThread
from otel_coach.workers.doorbell import Doorbell, ring
from otel_coach.workers.figures import Figures
from otel_coach.workers.folder import Folder
from otel_coach.workers.journal import Journal
from otel_coach.workers.log import SharedLog
from otel_coach.workers.outage import RESTART, Outage, cure, reason
from otel_coach.workers.retired import read_retired, write_retired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from otel_coach.workers.figures import Source
    from otel_coach.workers.supervisor import Supervisor

_logger = logging.getLogger("otel_coach")

LONGEST_WAIT: Final = 0.5
"""Seconds for which a worker is waited for that does not answer."""

_TICK: Final = 0.4
"""Seconds between two looks at what has changed: what a kill can lose at most, and some."""
_LONGEST_LEAVE: Final = 2.0
_TICKS_BETWEEN_FUNERALS: Final = 5
_TICKS_BETWEEN_TOUCHES: Final = 1000
_RETIRED: Final = "retired"
_ANOTHER_FOLDER: Final = (
    "Set OTEL_COACH_SHARED_DIR to a folder that only this user can read and write."
)


class Group:
    """The workers of one run of a service, seen by one of them.

    Args:
        folder: what they share.
        supervisor: whose workers they are.
        source: what this worker measures.
        fault: told of what fails in the background.
    """

    def __init__(
        self,
        folder: Folder,
        supervisor: Supervisor,
        source: Source,
        fault: Callable[[BaseException, str], None],
    ) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._source = source
        self._fault = fault
        self._pid = os.getpid()
        self._refreshing = threading.Lock()
        self._journal = Journal(folder, folder.snapshot(folder.me))
        """What all others read of this worker, and it shows of itself: so that all pages agree."""
        self._lack: OSError | None = None
        """Why its newest figures are not written."""
        self._cannot_measure = Outage()
        self._cannot_write = Outage()
        self._cannot_ask = Outage()
        self._cannot_tidy = Outage()
        self._silences: dict[str, Outage] = {}
        self._tasks: dict[str, Callable[[], None]] = {}
        self._ticks = 0
        self._closed = False
        self._thread = OwnThread(self._work, "otel-coach-worker", fault)
        try:
            self._doorbell = Doorbell(folder.socket(folder.me))
        except OSError:
            folder.withdraw()  # or else the others would wait for it
            raise

    @classmethod
    def join(
        cls,
        base: Callable[[], Path],
        supervisor: Supervisor,
        source: Source,
        fault: Callable[[BaseException, str], None],
    ) -> Group | None:
        """Become one of the workers of `supervisor`; None, and one line, where they cannot share.

        `base` finds the folder for all runs of all services; it may raise FolderError.
        """
        try:
            group = cls(Folder(base(), supervisor), supervisor, source, fault)
        except OSError as error:
            _logger.error(  # noqa: TRY400 - one line with the cure
                "otel-coach: the workers of this service cannot share their figures: %s. Each "
                "shows its own on /metrics. %s",
                error,
                cure(error, _ANOTHER_FOLDER),
            )
            return None
        group._thread.start()
        return group

    def shared_log(self, name: str) -> SharedLog:
        """The log of that name, which all workers have.

        Raises:
            OSError: it cannot be opened.
        """
        return SharedLog(self._folder.file(f"{name}.log"))

    def when_mine(self, task: str, begin: Callable[[], None]) -> None:
        """Call `begin` in the one worker that has `task`: now, or when the one before has died."""
        if self._is_mine(task):
            begin()
        else:
            self._tasks[task] = begin

    def refresh(self) -> bool:
        """Write this worker's figures as they are now; whether that was possible."""
        if os.getpid() != self._pid:
            return False  # a child that a worker forked has its parent's figures, and no own ones
        with self._refreshing:
            begins = self._journal.begins
            try:
                content = self._source.measure(whole=begins)
            except OSError as error:
                self._journal.close()  # what was measured in vain would be missing in it
                if self._cannot_measure.begins():
                    _logger.error(  # noqa: TRY400 - one line
                        "otel-coach: /metrics shows worker %d as it last wrote: %s",
                        self._pid,
                        error,
                    )
                return False
            except BaseException:
                self._journal.close()
                raise
            return self._write(self._journal.begin if begins else self._journal.append, content)

    def _write(self, how: Callable[[bytes], None], content: bytes) -> bool:
        try:
            how(content)
        except OSError as error:
            self._journal.close()  # it begins anew, since something is missing in it
            self._lack = error.with_traceback(None)
            if self._cannot_write.begins():
                _logger.error(  # noqa: TRY400 - one line
                    "otel-coach: %s cannot be written (%s); /metrics shows worker %d as it "
                    "last wrote, until it can. %s",
                    self._folder.path,
                    reason(error),
                    self._pid,
                    cure(error, _ANOTHER_FOLDER),
                )
            return False
        self._lack = None
        if self._cannot_write.ends():
            _logger.warning(
                "otel-coach: %s can be written again; /metrics shows all that worker %d "
                "counted meanwhile",
                self._folder.path,
                self._pid,
            )
        return True

    def everybody(self, read: Mapping[str, tuple[bytes, int]] | None = None) -> list[Figures]:
        """The figures of all workers that ever lived, those that live as they are now.

        `read` says, by worker, how the file began that was read of it, and how far it was read.

        Raises:
            OSError: some cannot be read; without them, counters would fall.
        """
        known = dict(self._folder.workers())
        me = self._folder.me if os.getpid() == self._pid else None
        doors = {
            worker: self._folder.socket(worker)
            for worker, lives in known.items()
            if lives and worker != me
        }
        refreshed: list[bool] = []
        silent = ring(doors, LONGEST_WAIT, lambda: refreshed.append(self.refresh()))
        # Who ended meanwhile has nothing newer.
        silent = set(filter(self._folder.lives, silent))
        self._report(silent, known)
        read = read or {}
        found: list[Figures] = []
        for worker, lives in known.items():
            content, offset = self._last_written(worker, *read.get(worker, (b"", 0)))
            stale = not all(refreshed) if worker == me else worker in silent
            if stale or content is not None or worker == me:
                found.append(Figures(worker, content, lives, stale, offset))
        # Last: who was retired in the meantime is in here, and only in here.
        names, retired = read_retired(self._folder)
        found = [figures for figures in found if figures.worker not in names]
        if retired is not None:
            head, offset = read.get(_RETIRED, (b"", 0))
            offset = offset if head and retired.startswith(head) else 0
            figures = Figures(_RETIRED, retired[offset:], lives=False, stale=False, offset=offset)
            found.append(figures)
        return found

    def close(self) -> None:
        """Write the last figures. The last one out removes all, unless others will follow it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        if not self.refresh() and self._lack is not None:
            _logger.error(
                "otel-coach: worker %d ends and cannot write (%s); what it counted since it last "
                "wrote is lost. %s",
                self._pid,
                reason(self._lack),
                cure(self._lack, _ANOTHER_FOLDER),
            )
        if not self._supervisor.lives:
            # Where nobody can tell who lives, the next start removes what is left.
            with suppress(OSError):
                known = self._folder.workers()
                if not any(lives for worker, lives in known if worker != self._folder.me):
                    self._folder.leave()

    def leave(self) -> None:
        """Take part no more; the other workers keep what this one counted, and take its tasks."""
        if self._closed or os.getpid() != self._pid:
            return
        self.refresh()
        self._closed = True
        if self._thread.is_alive():
            self._thread.join(_LONGEST_LEAVE)
        self._doorbell.close()
        self._journal.close()
        self._folder.release()

    def _work(self) -> None:
        ticked = monotonic()
        has_tidied = False
        while not self._closed:
            try:
                if not has_tidied:  # by now: perhaps no worker lives until its next turn
                    has_tidied = True
                    self._tidy()
                self._doorbell.wait(max(0.01, ticked + _TICK - monotonic()), self.refresh)
                if monotonic() - ticked >= _TICK:
                    ticked = monotonic()
                    self._tick()
            except BaseException as fault:  # noqa: BLE001 - the next tick tries again
                if not self._closed:
                    self._fault(fault, "Group")
                    sleep(_TICK)

    def _tick(self) -> None:
        if self._lack is not None or self._journal.begins or self._source.changed():
            self.refresh()
        else:
            self._write_increments()
        for task in tuple(self._tasks):
            if self._is_mine(task):
                self._tasks.pop(task)()
        self._ticks += 1
        if self._ticks % _TICKS_BETWEEN_FUNERALS == 0:
            self._tidy()

    def _write_increments(self) -> None:
        """Write what changed, at little cost, so that a kill loses little."""
        with self._refreshing:
            if increments := self._source.increments():
                self._write(self._journal.append, increments)

    def _is_mine(self, task: str) -> bool:
        try:
            is_mine = self._folder.exclusive(task)
        except OSError as error:  # it is not yet
            if self._cannot_ask.begins():
                _logger.error(  # noqa: TRY400 - one line
                    "otel-coach: nobody can tell whether worker %d has the task %s (%s); it asks "
                    "again. %s",
                    self._pid,
                    task,
                    reason(error),
                    cure(error, _ANOTHER_FOLDER),
                )
            return False
        self._cannot_ask.ends()
        return is_mine

    def _tidy(self) -> None:
        try:
            if self._lack is None:  # a funeral needs space and descriptors, and frees none at first
                self._bury()
            if self._ticks % _TICKS_BETWEEN_TOUCHES == 0:
                self._folder.touch()
        except OSError as error:
            if self._cannot_tidy.begins():
                _logger.error(  # noqa: TRY400 - one line
                    "otel-coach: what workers left that ended cannot be put together (%s); it is "
                    "tried again. %s",
                    error,
                    cure(error, RESTART),
                )
        else:
            self._cannot_tidy.ends()

    def _bury(self) -> None:
        """Retire the figures of workers that died, so that their files do not become many."""
        dead = [worker for worker, lives in self._folder.workers() if not lives]
        if not dead:
            return
        with self._folder.holding("funeral") as held:
            if not held:
                return
            names, retired = read_retired(self._folder)
            contents = [] if retired is None else [retired]
            for worker in dead:
                content = None if worker in names else self._last_written(worker)[0]
                if content is not None:
                    contents.append(content)
            write_retired(self._folder, [*names, *dead], self._source.retire(contents))
            for worker in dead:
                self._folder.forget(worker)

    def _last_written(
        self, worker: str, head: bytes = b"", offset: int = 0
    ) -> tuple[bytes | None, int]:
        """What it wrote from `offset` on, if its file begins with `head`, else all; and where.

        None where it has written nothing, or is retired.
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
        silences = {worker: self._silences.get(worker, Outage()) for worker in known}
        for worker, silence in silences.items():
            if worker not in silent:
                silence.ends()
            elif silence.begins():
                _logger.warning(
                    "otel-coach: worker %s does not answer; /metrics shows its last figures. It "
                    "hangs, or cannot write them, which it says itself.",
                    worker.partition("-")[0],
                )
        self._silences = silences
