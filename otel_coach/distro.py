"""What `opentelemetry-instrument` finds: a distro, a configurator, our instrumentors.

It takes the first distro and the first configurator that it finds, in no promised order. So
whichever of these is called first installs everything, and `after_all` puts right what another
distro loaded without our arguments.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro

from otel_coach.installation import (
    ASGI,
    DEPENDENCIES,
    INSTRUMENTORS,
    LANGCHAIN,
    install,
)
from otel_coach.instrumentors.stock import FASTAPI, PSYCOPG, module_of, stock_instrumentor

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class OtelCoachDistro(BaseDistro):
    """Hands the stock instrumentations their arguments as they are loaded."""

    chosen = False
    """Whether `opentelemetry-instrument` loads the instrumentations through this class."""

    def _configure(self, **_kwargs: Any) -> None:
        OtelCoachDistro.chosen = True

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentor, or leave it out because it gives way."""
        installation = install()
        if installation is None:
            # Disabled: what came with us stays out of the way, what the user added does not.
            if entry_point.name not in {FASTAPI, PSYCOPG, *INSTRUMENTORS}:
                super().load_instrumentor(entry_point, **kwargs)
            return
        if entry_point.name == PSYCOPG:
            installation.instrument_psycopg()  # it would import what the host may never use
            return
        arguments = installation.stock.arguments(entry_point.name)
        if arguments is not None:
            super().load_instrumentor(entry_point, **kwargs, **arguments)


class OtelCoachConfigurator:
    """Builds the providers; `opentelemetry-instrument` calls `configure` once."""

    def configure(self, **_kwargs: Any) -> None:
        """Install, unless disabled."""
        install()


class _Entry:
    """One of our instrumentors as `opentelemetry-instrument` loads it, under any distro."""

    def __init__(self, name: str) -> None:
        self._name = name

    def instrument(self, **_kwargs: Any) -> None:
        """Start it with its arguments."""
        installation = install()
        if installation is not None:
            installation.instrument(self._name)

    def uninstrument(self, **_kwargs: Any) -> None:
        """Undo it."""
        instrumentor = INSTRUMENTORS[self._name]()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def asgi() -> _Entry:
    """Entry point `otel_coach_asgi`."""
    return _Entry(ASGI)


def langchain() -> _Entry:
    """Entry point `otel_coach_langchain`."""
    return _Entry(LANGCHAIN)


def dependencies() -> _Entry:
    """Entry point `otel_coach_dependencies`."""
    return _Entry(DEPENDENCIES)


def after_all() -> None:
    """Entry point of `opentelemetry_post_instrument`: what another distro loaded gets right."""
    installation = install()
    if installation is None or OtelCoachDistro.chosen:
        return
    for name in (FASTAPI, PSYCOPG):
        if (
            module_of(name) in sys.modules
            and (instrumentor := stock_instrumentor(name)) is not None
        ):
            installation.stock.correct(name, instrumentor)


__all__ = [
    "OtelCoachConfigurator",
    "OtelCoachDistro",
    "after_all",
    "asgi",
    "dependencies",
    "langchain",
]
