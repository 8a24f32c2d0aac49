"""OTEL_CONFIG_FILE: the providers that OpenTelemetry's declarative configuration describes.

The package opentelemetry-configuration builds them and makes them the global ones. otel-coach then
stands beside them, as beside a vendor's distro: its figures and Views are on its page, its spans
leave by the file's processors.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_coach.settings import Settings

_logger = logging.getLogger("otel_coach")


def configured(settings: Settings, *, is_done: bool) -> Settings:
    """Build the providers of `settings.config_file`; what is left to build is returned.

    `is_done` says that somebody has set the global providers before: then nothing is built. A file
    that cannot be used is one line, and the other variables count as if there were none.
    """
    path = settings.config_file
    if path is None:
        return settings
    try:
        from opentelemetry.configuration import (  # noqa: PLC0415 - it is optional
            configure_sdk,
            load_config_file,
        )

        config = load_config_file(path)
        if config.disabled:
            _logger.warning("otel-coach: disabled by OTEL_CONFIG_FILE=%r", path)
            return replace(settings, enabled=False)
        if not is_done:
            configure_sdk(config)
    except ImportError:
        _logger.error(  # noqa: TRY400 - one line with the cure
            "otel-coach: OTEL_CONFIG_FILE=%r is not read: opentelemetry-configuration is not "
            "installed; the other OTEL_* variables count. Cure: pip install "
            "'opentelemetry-sdk[file-configuration]'",
            path,
        )
        return settings
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file or its exporters
        # Without its message, which may repeat a header's value.
        _logger.error(  # noqa: TRY400 - as above
            "otel-coach: OTEL_CONFIG_FILE=%r cannot be used (%s; opentelemetry.configuration may "
            "have logged why); what of it was not built yet is left to the other OTEL_* variables",
            path,
            type(error).__name__,
        )
        return settings
    _logger.warning(
        "otel-coach: OTEL_CONFIG_FILE=%r has the global providers: otel-coach's figures are on its "
        "page only, its spans leave by the file's processors, which otel-coach does not redact "
        "for other instrumentations; the variables that choose exporters are not read",
        path,
    )
    return replace(
        settings,
        trace_exporters=(),
        metric_exporters=tuple(one for one in settings.metric_exporters if one == "prometheus"),
        log_exporters=(),
        exports_logs=False,
        handles_logging=False,
    )
