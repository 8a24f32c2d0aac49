"""Values that are unlikely as the value of a label."""

from __future__ import annotations

from typing import Final

_LONG: Final = "x" * 1_000_000


def unlikely(number: int) -> object:
    """Returns a value of one of ten kinds, another one for each `number`; at times 1 MB long."""
    makers = (
        f"name-{number}",
        f"line\nend {number}",
        f'quote" and \\backslash {number}',
        f"nul \x00 {number}",
        f"lone surrogate \ud800 {number}",
        f"\x7f control \x1b[31m {number}",
        f'{{a="b"}} {number} # {{trace_id="0"}}',
        number,
        [number, "a list"],
        None,
    )
    return f"{_LONG}{number}" if number % 100 == 0 else makers[number % len(makers)]
