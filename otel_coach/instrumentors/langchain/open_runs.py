"""The runs that are open, with LangChain's own ids and parents."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from otel_coach.core.copies import items_of
from otel_coach.core.guard import guarded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from uuid import UUID

    from otel_coach.instrumentors.genai.runs import Run
    from otel_coach.metrics.recorder import Recorder

_MAX_OPEN_RUNS: Final = 50_000


class OpenRuns:
    """Open runs by id. When nothing can report the end of a run any more, `lost` is called.

    A cancelled `ainvoke` of a model or a tool fires no callback. A run is lost in two cases:

    - Its id object is freed, perhaps by the garbage collector. LangChain's run manager holds the
      very id object that the start callback was given, and any code that could still report the
      run holds the manager. Where managers return a new object each time, this does not work
      (`ids_are_freed` is false).
    - Its task is done, if a coroutine of that task both starts and ends the run (not a generator,
      nor the task that feeds an event stream). The id alone is not enough: an event stream's
      tracer keeps the ids of its runs, and may itself be kept by the context in which a pooled
      connection was opened.
    """

    def __init__(
        self, recorder: Recorder, lost: Callable[[Run], None], *, ids_are_freed: bool = True
    ) -> None:
        self.recorder = recorder
        self._lost = lost
        self._ids_are_freed = ids_are_freed
        self.by_key: dict[int | str, Run] = {}
        """The runs, by the `_key` of their id."""
        self._by_task: WeakKeyDictionary[asyncio.Task[Any], set[int | str]] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self.by_key)

    def add(self, run_id: UUID | str, run: Run, task: asyncio.Task[Any] | None = None) -> None:
        """Adds `run`, which ends no later than `task`.

        An open run with the same id is lost; so is the oldest run if too many are open.
        """
        key = _key(run_id)
        if key in self.by_key:
            self._lose(key)
        # A caller may choose the id itself, even as a str, which has no weak references.
        if self._ids_are_freed and not isinstance(run_id, str):
            run.id_ref = weakref.ref(run_id, lambda _: self._lose(key))
        self.by_key[key] = run
        if task is not None:
            run.task = task
            self._runs_of(task).add(key)
        if len(self.by_key) > _MAX_OPEN_RUNS:
            self._lose(next(iter(self.by_key)))

    def get(self, run_id: UUID | str | None) -> Run | None:
        """Returns the open run with that id, None if there is none."""
        return None if run_id is None else self.by_key.get(_key(run_id))

    def called_by(self, task: asyncio.Task[Any]) -> Run | None:
        """Returns the open call of a model that `task` makes itself now, None if there is none."""
        runs = map(self.by_key.get, list(self._by_task.get(task, ())))
        return next(
            (run for run in runs if run and run.calls_provider and run.executes_current_code), None
        )

    def pop(self, run_id: UUID | str) -> Run | None:
        """Removes and returns the run with that id; None if it has ended already."""
        return self._pop(_key(run_id))

    def lose(self, which: Callable[[Run], bool]) -> None:
        """Loses the runs for which `which` is true: nothing can report their end any more."""
        for key, run in items_of(self.by_key):
            if which(run):
                self._lose(key)

    def _pop(self, key: int | str) -> Run | None:
        run = self.by_key.pop(key, None)
        if run is None:
            return None
        run.id_ref = None
        if run.task is not None:
            if (keys := self._by_task.get(run.task)) is not None:
                keys.discard(key)
            run.task = None
        return run

    @guarded
    def _lose(self, key: int | str) -> None:
        if (run := self._pop(key)) is not None:
            self._lost(run)

    def _runs_of(self, task: asyncio.Task[Any]) -> set[int | str]:
        keys = self._by_task.get(task)
        if keys is None:
            keys = self._by_task[task] = set()
            task.add_done_callback(self._task_done)
        return keys

    @guarded
    def _task_done(self, task: asyncio.Task[Any]) -> None:
        for key in list(self._by_task.pop(task, ())):
            self._lose(key)


def _key(run_id: UUID | str) -> int | str:
    return run_id if isinstance(run_id, str) else run_id.int
