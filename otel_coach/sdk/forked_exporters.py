"""Gives a forked child exporters of its own.

A child inherits the connection of its parent's exporter. Two processes that send on one connection
read each other's answers, and break its encryption.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import wrapt

from otel_coach.core.forks import in_each_child

if TYPE_CHECKING:
    from collections.abc import Callable

_WITH_CONNECTIONS: Final = "opentelemetry.exporter.otlp."


class OwnExporter(wrapt.ObjectProxy):  # type: ignore[type-arg] - generic in its stubs only
    """The exporter that `create` returns, created again in a child when it first exports."""

    def __init__(self, exporter: Any, create: Callable[[], Any]) -> None:
        super().__init__(exporter)
        self._self_create = create
        self._self_inherited: list[Any] = []
        """Never closed here: the parent still uses their connections."""
        self._self_is_inherited = False
        in_each_child(self._self_forked)

    def _self_forked(self) -> None:
        self._self_is_inherited = True

    def export(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the exporter's result; raises what `create` raises, at each export anew."""
        if self._self_is_inherited:
            exporter = self._self_create()
            self._self_inherited.append(self.__wrapped__)
            self.__wrapped__ = exporter
            self._self_is_inherited = False
        return self.__wrapped__.export(batch, *args, **kwargs)

    def shutdown(self, *args: Any, **kwargs: Any) -> Any:
        """Shuts the exporter down, unless it is the parent's, which still uses its connection."""
        return None if self._self_is_inherited else self.__wrapped__.shutdown(*args, **kwargs)

    def force_flush(self, *args: Any, **kwargs: Any) -> Any:
        """Flushes the exporter, unless it is the parent's."""
        return True if self._self_is_inherited else self.__wrapped__.force_flush(*args, **kwargs)


def own_exporter(create: Callable[[], Any]) -> Any:
    """Returns what `create` returns; an OTLP exporter will be each process's own.

    Another exporter may do more than connect when it is created, such as empty a file.
    """
    exporter = create()
    if not type(exporter).__module__.startswith(_WITH_CONNECTIONS):
        return exporter
    return OwnExporter(exporter, create)
