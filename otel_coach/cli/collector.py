"""Print a configuration for the OpenTelemetry Collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import shipped_files

if TYPE_CHECKING:
    import argparse

EXAMPLES: Final = """\
  otel-coach collector > collector-config.yaml
  otelcol --config collector-config.yaml       it says at its top what it needs"""


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Adds nothing."""


def run(_arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0."""
    return shipped_files.write("collector.yaml")
