"""Replaces methods of modules that may not be imported yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otel_coach.core import compatibility
from otel_coach.core.guard import guarded
from otel_coach.core.import_hooks import when_imported
from otel_coach.core.patching import replace_method, undo_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_coach.core.compatibility import PrivatePart
    from otel_coach.core.guard import CountsFaults


class Methods(NamedTuple):
    """A method of some classes of a module, and what replaces it."""

    name: str
    classes: tuple[str, ...]
    """Those that are not there, or inherit the method, are left alone."""
    make: Callable[[Any], Any]
    """Returns the replacement of the original."""


class LatePatches:
    """Replaces methods as soon as their modules are imported.

    Args:
        recorder: counts faults.
        methods: by the name of the module.
        part: the private part of another library that this relies on; if it has changed, a log line
            says what is lost.
    """

    def __init__(
        self,
        recorder: CountsFaults,
        methods: Mapping[str, Methods],
        part: PrivatePart | None = None,
    ) -> None:
        self.recorder = recorder
        self._methods = methods
        self._part = part
        self._undo: list[Callable[[], None]] | None = []
        for module in methods:
            when_imported(module, self._patch)

    def undo(self) -> None:
        """Restores the methods."""
        undo_all(self._undo or ())
        self._undo = None

    @guarded  # an exception here would break the host's own import
    def _patch(self, module: Any) -> None:
        if self._undo is None:  # an import hook cannot be unregistered
            return
        if self._part is not None:
            compatibility.holds(self._part)  # only logs what is lost
        method, names, make = self._methods[module.__name__]
        for name in names:
            cls = getattr(module, name, None)
            if cls is not None and method in vars(cls):
                self._undo.append(replace_method(cls, method, make))
