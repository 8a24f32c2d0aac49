"""The command `otel-coach`: shows what is measured, and whether that works here."""

from __future__ import annotations

import argparse
import os
import sys
from signal import SIGINT
from typing import Final

import otel_coach
from otel_coach.cli import (
    collector,
    dashboard,
    doctor,
    metrics,
    prices,
    reconcile,
    rules,
    run,
    settings,
    top,
    traps,
)

COMMANDS: Final = {
    command.__name__.rpartition(".")[2]: command
    for command in (
        *(run, doctor, top, reconcile, prices),
        *(dashboard, rules, collector),
        *(metrics, settings, traps),
    )
}
EXAMPLES: Final = """\
  otel-coach run uvicorn app:app                    starts a service with otel-coach in it
  otel-coach doctor -- uvicorn app:app              what stands in the way of measuring this service
  otel-coach top http://localhost:8000/metrics      its live figures
  otel-coach reconcile --help                       more examples, for one command"""


_SIGPIPE: Final = 13
"""Its number on POSIX systems. Python's module has no such signal on Windows."""


def main() -> int:
    """Runs the command line; returns the exit code."""
    whole, commands = parsers()
    arguments, rest = whole.parse_known_args()
    if rest:
        message = f"unrecognized arguments: {' '.join(rest)}"
        if getattr(arguments, "served", None):
            message = f"{message}; a command comes after --: otel-coach doctor -- COMMAND ..."
        commands[arguments.command].error(message)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + SIGINT  # as a shell reports it
    except BrokenPipeError:  # who reads the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it again
        return 128 + _SIGPIPE
    return code


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Returns the parser of the command line, and those of its commands by name."""
    whole = argparse.ArgumentParser(
        prog="otel-coach",
        description=__doc__,
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument(
        "--version", action="version", version=f"otel-coach {otel_coach.__version__}"
    )
    sub_parsers = whole.add_subparsers(dest="command", required=True)
    commands: dict[str, argparse.ArgumentParser] = {}
    for name, command in COMMANDS.items():
        description = command.__doc__ or ""
        sub_parser = commands[name] = sub_parsers.add_parser(
            name,
            help=description.partition("\n")[0],
            description=description,
            epilog=f"examples:\n{command.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub_parser)
        sub_parser.set_defaults(run=command.run)
    return whole, commands
