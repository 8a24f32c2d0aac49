"""Starts otel-coach as the service does, in a process of its own, and reads what is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor.child_process import ChildError, result_of
from otel_coach.cli.doctor.log_lines import findings
from otel_coach.cli.doctor.traps.environment import LOGGED_AT_START, PROPAGATORS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from otel_coach.cli.doctor.examined import Examined, Fact
    from otel_coach.core.traps import Finding

_CHILD: Final = "otel_coach.cli.doctor.start_child"
_MAX_SECONDS: Final = 60.0
"""Seconds; a start takes less than one."""


def look(examined: Examined, known: Collection[Finding | Fact]) -> Iterator[Finding]:
    """Yields what a start logs beyond the `known` results."""
    try:
        told = result_of(_CHILD, environment=examined.variables, seconds=_MAX_SECONDS)
    except ChildError as error:
        cure = "python -c 'import otel_coach; otel_coach.instrument()' # shows it in full"
        yield LOGGED_AT_START.found(line=f"otel-coach cannot be started: {error}", cure=cure)
        return
    if "propagators" in told:
        value = examined.text("OTEL_PROPAGATORS")
        yield PROPAGATORS.found(value=value, reason=told["propagators"])
    yield from findings(told["lines"], examined, known)
