"""Starts otel-coach in a process of its own, as the service does, and notes what is logged.

`start.py` starts this process with the service's environment. Exporters are made, but nothing is
exported: the process ends before any of them sends, and without its exit handlers. No port is
opened, also not that of OTEL_CONFIG_FILE; no dependency is probed, and no figures are shared.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from otel_coach.cli.doctor.child_process import end_after
from otel_coach.cli.doctor.log_lines import LogLines
from otel_coach.settings import Settings

APART: Final[dict[str, Any]] = {
    **dict.fromkeys(("log_exporters", "problems", "without_effect"), ()),
    "metric_exporters": ("prometheus",),
    "dependencies": {},
    "metrics_port": None,
    **dict.fromkeys(("exports_logs", "handles_logging", "shares_figures"), False),
}
"""The settings that this process has instead of the service's."""


def main() -> None:
    """Writes what is logged to the file that the argument names."""
    lines = LogLines()
    told: dict[str, Any] = {"lines": lines.found}
    try:
        importlib.import_module("opentelemetry.propagate")  # it raises if OTEL_PROPAGATORS is wrong
    except ValueError as error:
        told["propagators"] = str(error).partition(".")[0]  # which names the propagator
    else:
        import otel_coach  # noqa: PLC0415 - imports the SDK

        settings = Settings.from_env()
        if settings.config_file is not None:
            _open_no_port()
        otel_coach.instrument(settings=replace(settings, **APART))
    Path(sys.argv[1]).write_text(json.dumps(told), "utf-8")


def _open_no_port() -> None:
    """Keeps the Prometheus reader that OTEL_CONFIG_FILE may describe from opening a port."""
    with suppress(ImportError):
        exporter: Any = importlib.import_module("opentelemetry.exporter.prometheus")
        exporter.start_http_server = _start_no_server


def _start_no_server(*_: object, **__: object) -> None:
    """Stands for `prometheus_client.start_http_server`."""


if __name__ == "__main__":
    end_after(main)
