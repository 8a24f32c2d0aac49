"""Prints a generated Markdown page, writes it to a file, or checks a file against it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--write FILE` and `--check FILE`."""
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to FILE")
    parser.add_argument("--check", type=Path, metavar="FILE", help="exit 1 if FILE differs from it")


def run(arguments: argparse.Namespace, lines: Iterable[str]) -> int:
    """Returns the exit code: 0, or 1 if the checked file is out of date."""
    page = "\n".join(lines) + "\n"
    if arguments.check is not None:
        try:
            if arguments.check.read_text("utf-8") == page:
                return 0
        except (OSError, ValueError) as error:  # ValueError: it is not UTF-8
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            print(f"{arguments.check} cannot be read ({reason})", file=sys.stderr)
            return 1
        cure = f"write it again with --write {arguments.check} (in the repository: make docs)"
        print(f"{arguments.check} is out of date; {cure}", file=sys.stderr)
        return 1
    if arguments.write is not None:
        try:
            arguments.write.write_text(page, "utf-8")
        except OSError as error:
            print(f"{arguments.write} cannot be written ({error.strerror})", file=sys.stderr)
            return 1
    else:
        print(page, end="")
    return 0
