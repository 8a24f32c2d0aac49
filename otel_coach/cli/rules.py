"""Print recording rules and alerts for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli import shipped_files
from otel_coach.cli.shipped_files import add_arguments

if TYPE_CHECKING:
    import argparse

EXAMPLES: Final = """\
  otel-coach rules > otel-coach-rules.yml      prometheus.yml names it in rule_files"""


def run(_arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0."""
    return shipped_files.write("rules.yml")


__all__ = ["EXAMPLES", "add_arguments", "run"]
