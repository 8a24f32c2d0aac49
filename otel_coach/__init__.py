"""OpenTelemetry metrics and traces for FastAPI services that talk to an LLM.

Most services need no import of this package: `opentelemetry-instrument uvicorn app:app`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_coach.instrumentors.dependencies import watch_dependency
    from otel_coach.request import labels
    from otel_coach.settings import Settings

    __version__: str

__all__ = [
    "Settings",
    "__version__",
    "instrument",
    "labels",
    "uninstrument",
    "watch_dependency",
]


def instrument(app: object = None, *, settings: Settings | None = None) -> None:
    """Do what the `opentelemetry-instrument` command does, from the application's own code.

    Call it once, at any time, also when the application serves already.

    Args:
        app: the Starlette or FastAPI application to watch; may be called again for another.
            None watches every application of the process.
        settings: default `Settings.from_env()`.

    Raises:
        TypeError: `app` is of another kind.
    """
    from otel_coach.installation import INSTRUMENTORS, install  # noqa: PLC0415 - imports the SDK

    if app is not None and not hasattr(type(app), "build_middleware_stack"):
        message = (
            f"instrument() takes a FastAPI or Starlette application, not {type(app).__name__}; "
            "hand over the application itself, before it is wrapped"
        )
        raise TypeError(message)
    if (installation := install(settings)) is not None:
        for name in INSTRUMENTORS:
            installation.instrument(name, app)
        installation.instrument_psycopg()


def uninstrument() -> None:
    """Undo `instrument`: nothing of otel-coach stays on the application's path.

    Providers that became the global ones stay so, shut down: OpenTelemetry takes none back.
    """
    from otel_coach.installation import uninstall  # noqa: PLC0415

    uninstall()


def __getattr__(name: str) -> Any:
    if name == "labels":
        from otel_coach.request import labels  # noqa: PLC0415 - disabled, nothing is imported

        return labels
    if name == "watch_dependency":
        from otel_coach.instrumentors.dependencies import watch_dependency  # noqa: PLC0415

        return watch_dependency
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

        try:
            return version("otel-coach")
        except PackageNotFoundError:  # run from its sources
            return "0+unknown"
    if name == "Settings":
        from otel_coach.settings import Settings  # noqa: PLC0415

        return Settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")  # noqa: EM102, TRY003
