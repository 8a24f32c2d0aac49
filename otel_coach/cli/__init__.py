"""The command `otel-coach`: shows what is measured, and whether that works here."""

from __future__ import annotations

import argparse

import otel_coach
from otel_coach.cli import doctor, metrics, settings


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="otel-coach", description=__doc__)
    parser.add_argument(
        "--version", action="version", version=f"otel-coach {otel_coach.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (doctor, metrics, settings):
        sub_parser = commands.add_parser(
            command.__name__.rpartition(".")[2], help=command.__doc__, description=command.__doc__
        )
        command.add_arguments(sub_parser)
        sub_parser.set_defaults(run=command.run)
    arguments = parser.parse_args()
    code: int = arguments.run(arguments)
    return code
