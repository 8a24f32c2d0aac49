"""Start a service with otel-coach in it, faster than `opentelemetry-instrument` does.

The result is the same. Where other instrumentations are installed, or a vendor's distro, they are
loaded as `opentelemetry-instrument` loads them. Settings are read from the environment only.
"""

from __future__ import annotations

import argparse
from typing import Final

from otel_coach.setup.launch import launch

EXAMPLES: Final = """\
  otel-coach run uvicorn app:app --workers 4
  otel-coach run python -m hypercorn app:app"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command to start."""
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command")
    parser.set_defaults(refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Replaces this process by the command; returns the exit code if that is not possible."""
    words: list[str] = arguments.words
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        arguments.refuse("give the command that starts the service, such as uvicorn app:app")
    return launch(command)
