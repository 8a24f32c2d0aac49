"""OpenTelemetry metrics and traces for FastAPI services that talk to an LLM.

Most services need no import of this package: `opentelemetry-instrument uvicorn app:app`.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from otel_coach.core.stopping import StoppedError, stop_abandoned
    from otel_coach.instrumentors.dependencies.watch import watch_dependency
    from otel_coach.metrics.mode_label import labels
    from otel_coach.settings import Settings

    __version__: str

__all__ = [
    "Settings",
    "StoppedError",
    "__version__",
    "instrument",
    "labels",
    "stop_abandoned",
    "uninstrument",
    "watch_dependency",
]


def instrument(app: Starlette | None = None, *, settings: Settings | None = None) -> None:
    """Starts otel-coach from the application's own code.

    It starts all of otel-coach's instrumentations, and OpenTelemetry's of psycopg and FastAPI.

    The `opentelemetry-instrument` command also loads the instrumentations of other packages that
    are installed. This function can be called at any time, also while the application is serving.

    Args:
        app: The Starlette or FastAPI application to instrument; to instrument several, call this
            once for each. None instruments every application of the process.
        settings: By default `Settings.from_env()`. Only the first call's settings take effect.

    Raises:
        TypeError: `app` is not a Starlette or FastAPI application, or `settings` no `Settings`.
    """
    if app is not None and not hasattr(type(app), "build_middleware_stack"):
        message = (
            f"instrument() takes a FastAPI or Starlette application, not {type(app).__name__}; "
            "pass the application itself, before it is wrapped"
        )
        raise TypeError(message)
    if settings is not None:
        from otel_coach.settings import Settings  # noqa: PLC0415 - not imported if disabled

        if not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance] - not every caller is type-checked
            message = (
                "instrument(settings=...) takes otel_coach.Settings(...) or Settings.from_env(), "
                f"not {type(settings).__name__}"
            )
            raise TypeError(message)
    from otel_coach.configuration.environment_variables import is_enabled  # noqa: PLC0415 - light

    if not is_enabled():  # the operator's switch, also where the settings are made in code
        return
    try:
        from otel_coach.setup.installation import INSTRUMENTORS, install  # noqa: PLC0415 - imports the SDK
    except ValueError as error:  # the SDK reads the limits of spans when it is imported
        import logging  # noqa: PLC0415 - not imported if all is well

        logging.getLogger("otel_coach").error("otel-coach: it cannot start: %s", error)  # noqa: TRY400 - one line, which names the variable
        return
    if (installation := install(settings)) is not None:
        for name in INSTRUMENTORS:
            installation.instrument(name, app)
        installation.contrib.load_psycopg()
        installation.contrib.load_fastapi(app)


def uninstrument() -> None:
    """Undoes `instrument`: nothing of otel-coach remains on the application's request path.

    The global OpenTelemetry providers are shut down, but stay: the API does not allow another set.
    """
    if (module := sys.modules.get("otel_coach.setup.installation")) is not None:
        module.uninstall()


@cache  # it is read from a file
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("otel-coach")
    except PackageNotFoundError:  # run from source, not installed
        return "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "labels":
        from otel_coach.metrics.mode_label import labels  # noqa: PLC0415 - not imported if disabled

        return labels
    if name in {"stop_abandoned", "StoppedError"}:
        from otel_coach.core import stopping  # noqa: PLC0415

        return getattr(stopping, name)
    if name == "watch_dependency":
        from otel_coach.instrumentors.dependencies.watch import watch_dependency  # noqa: PLC0415

        return watch_dependency
    if name == "__version__":
        return _version()
    if name == "Settings":
        from otel_coach.settings import Settings  # noqa: PLC0415

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")  # noqa: EM102, TRY003
