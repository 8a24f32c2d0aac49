"""How libraries that call models run their work in tasks.

The instrumentor of a library registers this here. So the ASGI instrumentor, which has to know whose
work a task does, need not know any library.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    _Task = asyncio.Task[Any]


class LibraryTasks(NamedTuple):
    """What the ASGI instrumentor has to know of a library."""

    packages: tuple[str, ...]
    """Prefixes of the names of the library's modules."""
    feeds_events: Callable[[_Task], bool] | None = None
    """Returns whether a task feeds a stream of events: it runs the library's work, while other code
    reads the events from a generator that keeps the task in a local variable."""


_libraries: Final[list[LibraryTasks]] = []


def register(library: LibraryTasks) -> Callable[[], None]:
    """Adds a library; returns the undo function."""
    _libraries.append(library)
    return partial(_libraries.remove, library)


def feeds_events(task: _Task) -> bool:
    """Returns whether `task` feeds a stream of events, which other code reads."""
    return any(one.feeds_events is not None and one.feeds_events(task) for one in _libraries)


def packages() -> tuple[str, ...]:
    """Returns the prefixes of the names of all libraries' modules."""
    return tuple(name for one in _libraries for name in one.packages)
