"""One worker's part in its service: it writes its figures, and reads everybody's.

The figures are bytes here; what they say is the exposition's matter.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, Protocol

from otel_coach.workers.doorbell import Doorbell, ring
from otel_coach.workers.folder import Folder, FolderError
from otel_coach.workers.log import SharedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from otel_coach.workers.supervisor import Supervisor

_logger = logging.getLogger("otel_coach")

LONGEST_WAIT: Final = 0.5
"""Seconds for which a worker is waited for that does not answer."""

_TICK: Final = 0.4
"""Seconds between two looks at what has changed: what a kill can lose at most, and some."""
_TICKS_BETWEEN_FUNERALS: Final = 5
_TICKS_BETWEEN_TOUCHES: Final = 1000
_RETIRED: Final = "retired"
_MOST_NAMES: Final = 1000
"""Of workers whose figures are retired already."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one worker wrote last."""

    worker: str
    content: bytes
    lives: bool
    stale: bool
    """It was asked for newer figures, and did not answer in time."""


class Source(Protocol):
    """What this worker measures."""

    def measure(self) -> bytes:
        """The figures as they are now."""
        ...

    def changed(self) -> bool:
        """Whether they changed since they were measured last."""
        ...

    def retire(self, contents: Sequence[bytes]) -> bytes:
        """One content of several dead workers', of which the first may be such a one."""
        ...


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
        self._doorbell = Doorbell(folder.socket(folder.me))
        self._refreshing = threading.Lock()
        self._tasks: dict[str, Callable[[], None]] = {}
        self._ticks = 0
        self._silent: frozenset[str] = frozenset()
        self._cannot_write = False
        self._closed = False

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
        except (FolderError, OSError) as error:
            _logger.error(  # noqa: TRY400 - one line with the cure
                "otel-coach: the workers of this service cannot share their figures: %s. Each "
                "shows its own on /metrics. Set OTEL_COACH_SHARED_DIR to a folder that only this "
                "user can read and write.",
                error,
            )
            return None
        threading.Thread(target=group._work, name="otel-coach-worker", daemon=True).start()
        return group

    def shared_log(self, name: str) -> SharedLog:
        """The log of that name, which all workers have.

        Raises:
            OSError: it cannot be opened.
        """
        return SharedLog(self._folder.path / f"{name}.log")

    def when_mine(self, task: str, begin: Callable[[], None]) -> None:
        """Call `begin` in the one worker that has `task`: now, or when the one before has died."""
        if self._folder.exclusive(task):
            begin()
        else:
            self._tasks[task] = begin

    def refresh(self) -> bytes:
        """Write this worker's figures as they are now."""
        with self._refreshing:
            content = self._source.measure()
            # A child that a worker forked has the figures of its parent, once and for ever.
            if os.getpid() == self._pid and not self._cannot_write:
                try:
                    self._folder.write(self._folder.snapshot(self._folder.me), content)
                except OSError as error:
                    self._cannot_write = True
                    _logger.error(  # noqa: TRY400 - one line
                        "otel-coach: %s cannot be written any more (%s); what this worker counts "
                        "from now on is on its own page only",
                        self._folder.path,
                        error.strerror,
                    )
            return content

    def everybody(self) -> list[Figures]:
        """The figures of all workers that ever lived, those that live as they are now."""
        mine: list[bytes] = []
        known = dict(self._folder.workers())
        me = self._folder.me
        doors = {
            worker: self._folder.socket(worker)
            for worker, lives in known.items()
            if lives and worker != me
        }
        silent = ring(doors, LONGEST_WAIT, lambda: mine.append(self.refresh()))
        self._report(frozenset(silent))
        found = [Figures(me, mine[0], lives=True, stale=False)]
        for worker, lives in known.items():
            if worker != me:
                with suppress(FileNotFoundError):  # it has written nothing, or is retired
                    content = self._folder.snapshot(worker).read_bytes()
                    found.append(Figures(worker, content, lives, stale=worker in silent))
        # Last: who was retired in the meantime is in here, and only in here.
        names, retired = self._read_retired()
        found = [figures for figures in found if figures.worker not in names]
        if retired is not None:
            found.append(Figures(_RETIRED, retired, lives=False, stale=False))
        return found

    def close(self) -> None:
        """Write the last figures. The last one out removes all, unless others will follow it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self.refresh()
        if not self._supervisor.lives:
            others = (
                lives for worker, lives in self._folder.workers() if worker != self._folder.me
            )
            if not any(others):
                self._folder.leave()

    def _work(self) -> None:
        ticked = monotonic()
        while not self._closed:
            try:
                self._doorbell.wait(max(0.01, ticked + _TICK - monotonic()), self.refresh)
                if monotonic() - ticked >= _TICK:
                    ticked = monotonic()
                    self._tick()
            except Exception as fault:  # noqa: BLE001 - the next tick tries again
                if not self._closed:
                    self._fault(fault, "Group")
                    sleep(_TICK)

    def _tick(self) -> None:
        if self._source.changed():
            self.refresh()
        for task in tuple(self._tasks):
            if self._folder.exclusive(task):
                self._tasks.pop(task)()
        self._ticks += 1
        if self._ticks % _TICKS_BETWEEN_FUNERALS == 0:
            self._bury()
        if self._ticks % _TICKS_BETWEEN_TOUCHES == 0:
            self._folder.touch()

    def _bury(self) -> None:
        """Retire the figures of workers that died, so that their files do not become many."""
        dead = [worker for worker, lives in self._folder.workers() if not lives]
        if not dead:
            return
        with self._folder.holding("funeral") as held:
            if not held:
                return
            names, retired = self._read_retired()
            contents = [] if retired is None else [retired]
            for worker in dead:
                if worker not in names:
                    with suppress(FileNotFoundError):
                        contents.append(self._folder.snapshot(worker).read_bytes())
            header = json.dumps([*names, *dead][-_MOST_NAMES:]).encode()
            path = self._folder.path / _RETIRED
            self._folder.write(path, header + b"\n" + self._source.retire(contents))
            for worker in dead:
                self._folder.forget(worker)

    def _read_retired(self) -> tuple[list[str], bytes | None]:
        try:
            header, _, content = (self._folder.path / _RETIRED).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return [], None
        return json.loads(header), content

    def _report(self, silent: frozenset[str]) -> None:
        for worker in silent - self._silent:
            _logger.warning(
                "otel-coach: worker %s does not answer; /metrics shows its last figures",
                worker.partition("-")[0],
            )
        self._silent = silent
