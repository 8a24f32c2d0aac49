"""The command `otel-coach`: shows what is measured, and whether that works here."""

from __future__ import annotations

import argparse

import otel_coach
from otel_coach.cli import doctor, metrics, prices, reconcile, settings, traps


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="otel-coach", description=__doc__)
    parser.add_argument(
        "--version", action="version", version=f"otel-coach {otel_coach.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (doctor, metrics, prices, reconcile, settings, traps):
        description = command.__doc__ or ""
        sub_parser = commands.add_parser(
            command.__name__.rpartition(".")[2],
            help=description.partition("\n")[0],
            description=description,
        )
        command.add_arguments(sub_parser)
        sub_parser.set_defaults(run=command.run)
    arguments = parser.parse_args()
    code: int = arguments.run(arguments)
    return code
