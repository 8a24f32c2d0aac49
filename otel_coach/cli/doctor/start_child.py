"""Starts otel-coach in a process of its own, as the service does, and notes what is logged.

`start.py` starts this process with the service's environment. Exporters are made, but nothing is
exported: the process ends before any of them sends, and without its exit handlers. No port is
opened, no dependency is probed, and no figures are shared.
"""

from __future__ import annotations

import importlib
import json
import sys
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

        otel_coach.instrument(settings=replace(Settings.from_env(), **APART))
    Path(sys.argv[1]).write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    end_after(main)
