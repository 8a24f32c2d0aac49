"""Print a configuration for the OpenTelemetry Collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import shipped_files
from otel_coach.cli.shipped_files import add_arguments

if TYPE_CHECKING:
    import argparse

EXAMPLES: Final = """\
  otel-coach collector > collector-config.yaml
  otelcol --config collector-config.yaml       each address is a variable with a default"""


def run(_arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0."""
    return shipped_files.write("collector.yaml")


__all__ = ["EXAMPLES", "add_arguments", "run"]
