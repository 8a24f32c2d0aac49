"""Which log records are exported, and whether a handler takes them from Python's `logging`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

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
    """The fields of Settings that are about logs.

    Args:
        text: the value of a variable of the environment, "" where it is not set.
        stated: what OTEL_LOGS_EXPORTER names; None where nobody set it.
        has_endpoint: whether there is an OTLP endpoint for logs.
        disabled: the instrumentations that are not to be loaded.
        for_events: whether events of captured content need an exporter.
    """
    handles = text("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED").lower() == "true"
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
    """Whether nobody asked for `otlp`.

    opentelemetry-distro, where it is installed too and comes first, writes it into the
    environment by itself.
    """
    return text == "otlp" and "opentelemetry.distro" in sys.modules


def _is_instrumented(switch: str, disabled: Collection[str]) -> bool:
    """Whether opentelemetry-distro would export what the instrumentation of `logging` emits."""
    return (
        switch.lower() in {"", "true"}
        and "logging" not in disabled
        and "*" not in disabled
        and all(map(_is_installed, ("distro", "instrumentation.logging")))
    )


def _is_installed(part: str) -> bool:
    """Whether there is such a part of OpenTelemetry, which is not imported for that."""
    try:
        return find_spec(f"opentelemetry.{part}") is not None
    except ImportError:
        return False
