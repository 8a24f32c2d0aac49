"""The entry points that `opentelemetry-instrument` loads: distro, configurator and instrumentors.

`opentelemetry-instrument` uses the first distro and the first configurator that it finds, in no
guaranteed order. So whichever entry point of this module is called first installs everything, and
`after_all` corrects what another distro has loaded without otel-coach's arguments. If a vendor's
distro or configurator is installed, it is used instead of otel-coach's, whatever the order is.

The rest of the package is imported only once it is known that otel-coach is not disabled.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro

from otel_coach.configuration.environment_variables import (
    CONFIGURATOR,
    DISTRO,
    in_our_place,
    is_enabled,
)
from otel_coach.instrumentors import (
    ANTHROPIC,
    ASGI,
    DEPENDENCIES,
    FASTAPI,
    LANGCHAIN,
    LOADED_HERE,
    OPENAI,
    OWN,
    PSYCOPG,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from otel_coach.setup.installation import Installation

_logger = logging.getLogger("otel_coach")

_INSTALLED_WITH_OTEL_COACH = OWN | LOADED_HERE


class OtelCoachDistro(BaseDistro):
    """A distro that gives contrib instrumentations their arguments when it loads them."""

    chosen = False
    """Whether `opentelemetry-instrument` loads the instrumentations through this class."""

    def _configure(self, **_kwargs: Any) -> None:
        OtelCoachDistro.chosen = True

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Loads one instrumentor, unless otel-coach replaces it or loads it later."""
        installation = _install()
        if installation is None:
            # Disabled: load only the instrumentations that otel-coach does not depend on.
            if entry_point.name not in _INSTALLED_WITH_OTEL_COACH:
                super().load_instrumentor(entry_point, **kwargs)
            return
        if entry_point.name == PSYCOPG:
            # Loaded once the host imports psycopg; the instrumentor would import it now.
            installation.contrib.load_psycopg()
            return
        arguments = installation.contrib.arguments(entry_point.name)
        if arguments is not None and entry_point.name == FASTAPI:
            installation.contrib.load_fastapi(None)  # `uninstrument` undoes it
        elif arguments is not None:
            super().load_instrumentor(entry_point, **kwargs, **arguments)


class OtelCoachConfigurator:
    """A configurator that builds otel-coach's providers."""

    def configure(self, **_kwargs: Any) -> None:
        """Installs otel-coach, unless it is disabled; `opentelemetry-instrument` calls it once."""
        _install()


def distro() -> BaseDistro:
    """Entry point in `opentelemetry_distro`: returns otel-coach's distro, or a vendor's."""
    preferred = in_our_place(DISTRO)
    return OtelCoachDistro() if preferred is None else preferred.load()()


def configurator() -> Any:
    """Entry point in `opentelemetry_configurator`: like `distro`, but returns a configurator."""
    preferred = in_our_place(CONFIGURATOR)
    return OtelCoachConfigurator() if preferred is None else preferred.load()()


class _Entry:
    """One of otel-coach's instrumentors, as `opentelemetry-instrument` loads it with any distro."""

    def __init__(self, name: str) -> None:
        self._name = name

    def instrument(self, **_kwargs: Any) -> None:
        """Starts the instrumentor with its arguments."""
        installation = _install()
        if installation is not None:
            installation.instrument(self._name)

    def uninstrument(self, **_kwargs: Any) -> None:
        """Stops the instrumentor."""
        if not is_enabled():
            return
        from otel_coach.setup.installation import INSTRUMENTORS  # noqa: PLC0415 - as in `_install`

        instrumentor = INSTRUMENTORS[self._name]()
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def asgi() -> _Entry:
    """The entry point `otel_coach_asgi`."""
    return _Entry(ASGI)


def langchain() -> _Entry:
    """The entry point `otel_coach_langchain`."""
    return _Entry(LANGCHAIN)


def dependencies() -> _Entry:
    """The entry point `otel_coach_dependencies`."""
    return _Entry(DEPENDENCIES)


def openai() -> _Entry:
    """The entry point `otel_coach_openai`."""
    return _Entry(OPENAI)


def anthropic() -> _Entry:
    """The entry point `otel_coach_anthropic`."""
    return _Entry(ANTHROPIC)


def after_all() -> None:
    """Entry point in `opentelemetry_post_instrument`: corrects what another distro has loaded."""
    installation = _install()
    if installation is None:
        return
    from otel_coach.configuration.python_path import let_workers_be_instrumented  # noqa: PLC0415 - as in `_install`

    let_workers_be_instrumented()
    if OtelCoachDistro.chosen:
        return
    if installation.vendors:
        return
    from otel_coach.instrumentors.contrib import contrib_instrumentor, module_of  # noqa: PLC0415 - as in `_install`

    for name in (FASTAPI, PSYCOPG):
        if (
            module_of(name) in sys.modules
            and (instrumentor := contrib_instrumentor(name)) is not None
        ):
            installation.contrib.correct(name, instrumentor)


def _install() -> Installation | None:
    if not is_enabled():
        return None
    from otel_coach.setup.installation import install  # noqa: PLC0415 - not imported if disabled

    return install()


__all__ = [
    "OtelCoachConfigurator",
    "OtelCoachDistro",
    "after_all",
    "anthropic",
    "asgi",
    "configurator",
    "dependencies",
    "distro",
    "langchain",
    "openai",
]
