"""Print the Grafana dashboard, to be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import shipped_files
from otel_coach.cli.shipped_files import add_arguments

if TYPE_CHECKING:
    import argparse

EXAMPLES: Final = """\
  otel-coach dashboard > otel-coach.json       import it in Grafana: Dashboards, New, Import"""


def run(_arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0."""
    return shipped_files.write("dashboard.json")


__all__ = ["EXAMPLES", "add_arguments", "run"]
