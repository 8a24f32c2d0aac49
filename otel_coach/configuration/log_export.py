"""Decides which log records are exported, and whether a handler takes them from `logging`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from otel_coach.configuration.environment_variables import is_true
from otel_coach.core.installed import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def log_settings(
    text: Callable[[str], str],
    stated: tuple[str, ...] | None,
    *,
    has_endpoint: bool,
    disabled: Collection[str],
    for_events: bool,
) -> dict[str, Any]:
    """Returns the fields of `Settings` and `EffectiveSettings` that concern logs.

    Args:
        text: Returns the value of an environment variable, "" if it is not set.
        stated: The exporters that OTEL_LOGS_EXPORTER names; None if the user has not set it.
        has_endpoint: Whether there is an OTLP endpoint for logs.
        disabled: The instrumentations that are not loaded.
        for_events: Whether events with captured content need an exporter.
    """
    handles = is_true(text("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"))
    asked = (
        handles
        or stated is not None
        or _is_instrumented(text("OTEL_PYTHON_LOG_AUTO_INSTRUMENTATION"), disabled)
    )
    by_endpoint = ("otlp",) if has_endpoint and (asked or for_events) else ()
    exporters = by_endpoint if stated is None else stated
    return {
        "log_exporters": exporters,
        "exports_logs": handles or (asked and bool(exporters)),
        "handles_logging": handles,
    }


def is_by_distro(text: str) -> bool:
    """Whether `text`, a variable's exporters, was set by opentelemetry-distro and not by the user.

    If opentelemetry-distro runs first, it sets the variables of all exporters to `otlp`.
    """
    return text == "otlp" and "opentelemetry.distro" in sys.modules


def _is_instrumented(switch: str, disabled: Collection[str]) -> bool:
    """Whether opentelemetry-distro would instrument `logging` and export its records."""
    return (
        switch.lower() in {"", "true"}
        and "logging" not in disabled
        and "*" not in disabled
        and is_installed("opentelemetry.distro")
        and is_installed("opentelemetry.instrumentation.logging")
    )
