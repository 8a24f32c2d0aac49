"""Decides where telemetry is exported to, and whether the application's log records are, too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from otel_coach.configuration.environment_variables import is_true
from otel_coach.configuration.kinds import Exporters, words
from otel_coach.configuration.readers import captures_on_events
from otel_coach.core.installed import is_installed

if TYPE_CHECKING:
    from otel_coach.configuration.environment import Environment

TRACES: Final = Exporters("traces")
METRICS: Final = Exporters("metrics", frozenset({"prometheus"}))
LOGS: Final = Exporters("logs")


def trace_exporters(environment: Environment) -> tuple[str, ...]:
    """Returns the exporters that the user names, else `otlp` where there is an endpoint."""
    stated = _stated(environment, "OTEL_TRACES_EXPORTER", TRACES)
    if stated is None:
        return ("otlp",) if _has_endpoint(environment, "TRACES") else ()
    return stated


def metric_exporters(environment: Environment) -> tuple[str, ...] | None:
    """Returns the exporters that the user names; None if the default takes effect.

    If opentelemetry-distro has set `otlp`, and there is an endpoint, metrics are pushed as well as
    shown on the page.
    """
    variable = "OTEL_METRICS_EXPORTER"
    if _is_by_distro(environment, variable):
        return ("prometheus", "otlp") if _has_endpoint(environment, "METRICS") else None
    return environment.value(variable, METRICS)


def log_exporters(environment: Environment) -> tuple[str, ...]:
    """Returns the exporters that the user names, else `otlp` if needed and with an endpoint."""
    stated = _stated_for_logs(environment)
    if stated is None:
        is_needed = _exports_logs(environment) or captures_on_events(environment)
        return ("otlp",) if is_needed and _has_endpoint(environment, "LOGS") else ()
    return stated


def log_records(
    environment: Environment, exporters: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """Returns the fields of `EffectiveSettings` that concern the application's own log records.

    `exporters` are those of settings made in code; None if the environment says which there are.
    """
    handles = _handles_logging(environment)
    if exporters is None:
        exporters = log_exporters(environment) if _exports_logs(environment) else ()
    return {"exports_logs": handles or bool(exporters), "handles_logging": handles}


def _exports_logs(environment: Environment) -> bool:
    """Whether the application's own log records are to be exported."""
    return (
        _handles_logging(environment)
        or _stated_for_logs(environment) is not None
        or _is_logging_instrumented(environment)
    )


def _handles_logging(environment: Environment) -> bool:
    return is_true(environment.text("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"))


def _is_logging_instrumented(environment: Environment) -> bool:
    """Whether opentelemetry-distro would instrument `logging` and export its records."""
    switch = environment.text("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION")
    disabled = words(environment.text("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"))
    return (
        switch.lower() in {"", "true"}
        and "logging" not in disabled
        and "*" not in disabled
        and is_installed("opentelemetry.distro")
        and is_installed("opentelemetry.instrumentation.logging")
    )


def _stated_for_logs(environment: Environment) -> tuple[str, ...] | None:
    return _stated(environment, "OTEL_LOGS_EXPORTER", LOGS)


def _stated(environment: Environment, variable: str, kind: Exporters) -> tuple[str, ...] | None:
    """Returns the exporters that the user names; None if the user has not set the variable."""
    return None if _is_by_distro(environment, variable) else environment.value(variable, kind)


def _is_by_distro(environment: Environment, variable: str) -> bool:
    """Whether the variable was set by opentelemetry-distro and not by the user.

    If opentelemetry-distro runs first, it sets the variables of all exporters to `otlp`.
    """
    return environment.text(variable) == "otlp" and "opentelemetry.distro" in sys.modules


def _has_endpoint(environment: Environment, signal: str) -> bool:
    return bool(
        environment.text("OTEL_EXPORTER_OTLP_ENDPOINT")
        or environment.text(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    )
