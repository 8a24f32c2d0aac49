"""Configuration files for other programs, which come with the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import otel_coach

if TYPE_CHECKING:
    import argparse

_PACKAGE: Final = Path(otel_coach.__file__).parent
PLACES: Final = {
    "collector.yaml": "collector-config.yaml",
    "dashboard.json": "deploy/grafana/dashboards/otel-coach.json",
    "rules.yml": "deploy/prometheus/rules.yml",
}
"""Where each file is in the repository. pyproject.toml puts it into `monitoring/` of the wheel."""


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Adds nothing: such a command has no arguments."""


def content_of(name: str) -> str:
    """Returns the content of the file `name` of `PLACES`."""
    shipped = _PACKAGE / "monitoring" / name
    path = shipped if shipped.is_file() else _PACKAGE.parent / PLACES[name]
    return path.read_text("utf-8")


def write(name: str) -> int:
    """Writes the file `name` to the standard output; returns the exit code."""
    sys.stdout.write(content_of(name))
    return 0
