"""What `opentelemetry-instrument` finds: a distro, a configurator, our instrumentors.

It takes the first distro and the first configurator that it finds, in no promised order. So
whichever of these is called first installs everything, and `after_all` puts right what another
distro loaded without our arguments. A vendor's distro and configurator keep their place, in
whatever order they are found: ours stand aside for them.

Nothing of the package is imported here before it is known that otel-coach is not disabled.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro

from otel_coach.environment_variables import (
    CONFIGURATOR,
    DISTRO,
    in_our_place,
    is_enabled,
    let_workers_be_instrumented,
    vendors_in_place,
)
from otel_coach.instrumentors import ASGI, DEPENDENCIES, FASTAPI, LANGCHAIN, PSYCOPG

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from otel_coach.installation import Installation

_logger = logging.getLogger("otel_coach")

_CAME_WITH_US = frozenset({ASGI, DEPENDENCIES, FASTAPI, LANGCHAIN, PSYCOPG})


class OtelCoachDistro(BaseDistro):
    """Hands the stock instrumentations their arguments as they are loaded."""

    chosen = False
    """Whether `opentelemetry-instrument` loads the instrumentations through this class."""

    def _configure(self, **_kwargs: Any) -> None:
        OtelCoachDistro.chosen = True

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentor, or leave it out because it gives way."""
        installation = _install()
        if installation is None:
            # Disabled: what came with us stays out of the way, what the user added does not.
            if entry_point.name not in _CAME_WITH_US:
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
        _install()


def distro() -> BaseDistro:
    """Entry point of `opentelemetry_distro`: ours, or the one that has its place."""
    theirs = in_our_place(DISTRO)
    return OtelCoachDistro() if theirs is None else theirs.load()()


def configurator() -> Any:
    """Entry point of `opentelemetry_configurator`: ours, or the one that has its place."""
    theirs = in_our_place(CONFIGURATOR)
    return OtelCoachConfigurator() if theirs is None else theirs.load()()


class _Entry:
    """One of our instrumentors as `opentelemetry-instrument` loads it, under any distro."""

    def __init__(self, name: str) -> None:
        self._name = name

    def instrument(self, **_kwargs: Any) -> None:
        """Start it with its arguments."""
        installation = _install()
        if installation is not None:
            installation.instrument(self._name)

    def uninstrument(self, **_kwargs: Any) -> None:
        """Undo it."""
        if not is_enabled():
            return
        from otel_coach.installation import INSTRUMENTORS  # noqa: PLC0415 - as in `_install`

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
    installation = _install()
    if installation is None:
        return
    let_workers_be_instrumented()
    if OtelCoachDistro.chosen:
        return
    if theirs := vendors_in_place():
        _logger.warning(
            "otel-coach: a vendor's distro keeps its place (%s): its exporters get otel-coach's "
            "spans, and the server spans stay as it has them. OTEL_PYTHON_DISTRO=otel_coach and "
            "OTEL_PYTHON_CONFIGURATOR=otel_coach choose otel-coach's own",
            ", ".join(theirs),
        )
        return
    from otel_coach.instrumentors.stock import (  # noqa: PLC0415 - as in `_install`
        module_of,
        stock_instrumentor,
    )

    for name in (FASTAPI, PSYCOPG):
        if (
            module_of(name) in sys.modules
            and (instrumentor := stock_instrumentor(name)) is not None
        ):
            installation.stock.correct(name, instrumentor)


def _install() -> Installation | None:
    if not is_enabled():
        return None
    from otel_coach.installation import install  # noqa: PLC0415 - disabled, it costs nothing

    return install()


__all__ = [
    "OtelCoachConfigurator",
    "OtelCoachDistro",
    "after_all",
    "asgi",
    "configurator",
    "dependencies",
    "distro",
    "langchain",
]
