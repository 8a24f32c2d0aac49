"""Private parts of other libraries: whether each is as otel-coach expects."""

from __future__ import annotations

import importlib
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.traps.environment import ASSUMPTION
from otel_coach.core.compatibility import PARTS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding


def look(_examined: Examined) -> Iterator[Finding | Fact]:
    """Yields how many rows of `PARTS` hold, and a finding for each that does not.

    Rows of libraries that are not installed are left out.
    """
    if not _can_propagate():
        yield Fact("libraries: not looked at, because of OTEL_PROPAGATORS")
        return
    there = [part for part in PARTS if part.is_there]
    with _silent():  # a library that has changed may log warnings
        changed = [part for part in there if not part.holds()]
    right = len(there) - len(changed)
    yield Fact(f"libraries: {right} of {len(there)} private parts are as otel-coach expects")
    for part in changed:
        yield ASSUMPTION.found(name=part.name, lost=part.lost)


def _can_propagate() -> bool:
    """Whether OpenTelemetry's API, which all rows need, can be imported."""
    try:
        importlib.import_module("opentelemetry.propagate")
    except ValueError:  # OTEL_PROPAGATORS is wrong; `start.py` has the finding
        return False
    return True


@contextmanager
def _silent() -> Generator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
