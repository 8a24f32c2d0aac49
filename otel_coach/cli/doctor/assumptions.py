"""Private parts of other libraries: whether each is as otel-coach expects."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_coach.cli.doctor.finding import Fact, found
from otel_coach.cli.doctor.traps.environment import ASSUMPTION
from otel_coach.core.compatibility import PARTS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from otel_coach.cli.doctor.finding import Examined, Finding


def look(_examined: Examined) -> Iterator[Finding | Fact]:
    """Yields a fact or a finding for each row of the table whose library is installed."""
    for part in PARTS:
        if not part.is_there:
            continue
        with _silent():  # a library that has changed may log warnings
            holds = part.holds()
        if holds:
            yield Fact(f"relied on: {part.name}: yes")
        else:
            yield found(ASSUMPTION, name=part.name, lost=part.lost)


@contextmanager
def _silent() -> Generator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
