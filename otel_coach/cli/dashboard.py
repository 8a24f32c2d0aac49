"""Print the Grafana dashboard, to be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import shipped_files

if TYPE_CHECKING:
    import argparse

EXAMPLES: Final = """\
  otel-coach dashboard > otel-coach.json       import it in Grafana: Dashboards, New, Import"""


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Adds nothing."""


def run(_arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0."""
    return shipped_files.write("dashboard.json")
