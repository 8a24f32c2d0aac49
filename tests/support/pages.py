"""Writes the output of a command into a page, between two marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

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
