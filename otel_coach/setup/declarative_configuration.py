"""Support for OTEL_CONFIG_FILE, OpenTelemetry's declarative configuration.

The package opentelemetry-configuration builds the providers that the file describes and makes them
the global ones. otel-coach then works beside them, as beside a vendor's distro: its metrics,
from a meter provider of its own with its own Views, are on its page, and the file's processors
export its spans.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from otel_coach.core.guard import belongs_to_host
from otel_coach.core.traps import CONFIG_DISABLES, CONFIG_FILE, CONFIG_PACKAGE, CONFIG_PROVIDERS

if TYPE_CHECKING:
    from otel_coach.settings import Settings

_logger = logging.getLogger("otel_coach")


def configured(settings: Settings, *, is_done: bool) -> Settings:
    """Builds the providers of `settings.config_file`; returns settings for what is left to build.

    If `is_done`, the global providers are set already, and none are built. If the file cannot be
    used, one line is logged, and the other variables take effect as if there were no file: then
    the returned settings have no `config_file`.
    """
    path = settings.config_file
    if path is None:
        return settings
    try:
        from opentelemetry.configuration import configure_sdk, load_config_file  # noqa: PLC0415 - it is optional
    except ImportError:
        line = CONFIG_PACKAGE.found(path=path)
        _logger.error("otel-coach: %s", line)  # noqa: TRY400 - one line with the cure
        return replace(settings, config_file=None)
    try:
        config = load_config_file(path)
        if config.disabled:
            _logger.warning("otel-coach: %s", CONFIG_DISABLES.found(path=path))
            return replace(settings, enabled=False)
        if not is_done:
            configure_sdk(config)
    except Exception as error:  # anything may be wrong with the file or its exporters
        if belongs_to_host(error):
            raise
        # The exception's message is not logged: it may contain a header's value.
        package = getattr(error, "package", None)  # of an exporter that is not installed
        reason = f"{package} is not installed" if package else type(error).__name__
        line = CONFIG_FILE.found(path=path, reason=reason)
        _logger.error("otel-coach: %s", line)  # noqa: TRY400 - as above
        return replace(settings, config_file=None)
    _logger.warning("otel-coach: %s", CONFIG_PROVIDERS.found(path=path))
    return replace(
        settings,
        trace_exporters=(),
        metric_exporters=("prometheus",) if settings.metric_exporters else (),
        log_exporters=(),
        exports_logs=False,
        handles_logging=False,
    )
