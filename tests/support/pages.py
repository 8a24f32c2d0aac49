"""Writes the output of a command into a page, between two marks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from argparse import ArgumentParser

_END: Final = "<!-- end of the output -->"


def write(page: Path, target: str, text: str) -> None:
    """Replaces the output of `make TARGET` in `page` by `text`.

    Raises:
        ValueError: The page has no mark for that target.
    """
    begin = f"<!-- output of `make {target}` -->"
    before, mark, rest = page.read_text("utf-8").partition(begin)
    if not mark:
        message = f"{page} has no line {begin}"
        raise ValueError(message)
    after = rest.partition(_END)[2]
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{_END}{after}", "utf-8")


def add_write(parser: ArgumentParser) -> None:
    """Adds the option `--write PAGE`."""
    parser.add_argument("--write", type=Path, help="a page with two marks, to write between them")


def show(target: str, text: str, page: Path | None) -> None:
    """Prints `text`, and writes it into `page` if there is one, as the output of `make TARGET`."""
    sys.stdout.write(f"{text}\n")
    if page is not None:
        write(page, target, text)
