"""Send junk values to a real server, and check that neither its page nor its memory grows."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from rich.console import Console
from rich.table import Table

from verification.cardinality_attack.attack import ALL_KINDS, Attack, run, target

_MEGABYTE: Final = 1e6


def main() -> int:
    """Returns the exit code: 0, or 1 if series or memory grew."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.cardinality_attack", description=__doc__
    )
    parser.add_argument("--n", type=int, default=1_000_000, help="values of each kind")
    parser.add_argument("--only", choices=ALL_KINDS, help="only this kind")
    arguments = parser.parse_args()
    n, kinds = arguments.n, [arguments.only] if arguments.only else ALL_KINDS
    console = Console()
    with console.status("") as status, target() as attacked:
        attacks = run(attacked, n, kinds=kinds, say=status.update)
    table = Table(title=f"{n:,} new values of each kind, after 20,000 others")
    for heading in ("what is new each time", "series", "page", "memory", "cost of junk"):
        table.add_column(heading, justify="left" if heading.startswith("what") else "right")
    for attack in attacks:
        table.add_row(*_cells(attack), style="red" if attack.grew else "")
    console.print(table)
    return int(any(attack.grew for attack in attacks))


def _cells(attack: Attack) -> tuple[str, ...]:
    before, after = attack.before, attack.after
    return (
        attack.kind,
        f"{before.series:,} -> {after.series:,}",
        f"{before.page / 1e3:,.0f} -> {after.page / 1e3:,.0f} kB",
        f"{before.memory / _MEGABYTE:.1f} -> {after.memory / _MEGABYTE:.1f} MB",
        f"{attack.cost:.2f} x good",
    )


if __name__ == "__main__":
    sys.exit(main())
