"""Writes docs/cli.md: what `otel-coach COMMAND --help` prints for each command."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from otel_coach import cli
from otel_coach.cli import generated_page

if TYPE_CHECKING:
    from collections.abc import Iterator


def markdown() -> Iterator[str]:
    """Yields the lines of docs/cli.md."""
    yield "# Commands"
    yield ""
    yield "Generated from `otel_coach/cli/` by `make docs`; do not edit."
    yield ""
    whole, commands = cli.parsers()
    yield from _block(whole)
    for name, parser in commands.items():
        yield ""
        yield f"## otel-coach {name}"
        yield ""
        yield from _block(parser)


def _block(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield "```text"
    yield parser.format_help().rstrip()
    yield "```"


def main() -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    os.environ["COLUMNS"] = "100"  # argparse breaks lines for the terminal that it finds
    parser = argparse.ArgumentParser(description=__doc__)
    generated_page.add_arguments(parser)
    return generated_page.run(parser.parse_args(), markdown())


if __name__ == "__main__":
    raise SystemExit(main())
