"""What OpenTelemetry and otel-coach log in a process of the doctor's, and what that means."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.cli.doctor.traps.environment import LOGGED_AT_START
from otel_coach.core.traps import LOGGED, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_coach.cli.doctor.examined import Examined, Fact

_LOGGERS: Final = ("otel_coach", "opentelemetry")
_TRAPS: Final = {trap.name: trap for trap in LOGGED}
_WITH_CURE: Final = "otel-coach: %s. Cure: %s"
"""The format of otel-coach's lines with a cure that are not made of a `Trap`."""


class LogLine(NamedTuple):
    """A warning or an error, of JSON types: one process logs it, another one reports it."""

    logger: str
    what: str
    cure: str = ""
    trap: str = ""
    """The name of the `Trap` that it is made of, if it is."""


class LogLines(logging.Handler):
    """Keeps the warnings and errors that are logged from now on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[LogLine] = []
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps what `record` says, but not its exception, which may have a secret."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        finding = next((one for one in arguments if isinstance(one, Finding)), None)
        if finding is not None:
            line = LogLine(record.name, finding.what, finding.cure, finding.trap.name)
        elif record.msg == _WITH_CURE:
            line = LogLine(record.name, *map(str, arguments))
        else:
            line = LogLine(record.name, record.getMessage().removeprefix("otel-coach: "))
        self.found.append(line)


def findings(
    lines: Iterable[Sequence[str]], examined: Examined, known: Iterable[Finding | Fact]
) -> Iterator[Finding]:
    """Yields a finding for each of the `lines` that says something that no `known` one says.

    The lines are those of `LogLines.found`, as JSON has them.
    """
    said = {result.what for result in known if isinstance(result, Finding)}
    for line in map(LogLine._make, lines):
        if line.what in said:
            continue
        if (trap := _TRAPS.get(line.trap)) is not None:
            yield Finding(trap, line.what, line.cure)
        else:
            cure = line.cure or _cure(line, examined.variables)
            yield LOGGED_AT_START.found(line=line.what, cure=cure)


def _names(variable: str, text: str) -> bool:
    """Returns whether `variable` is a word of `text`.

    It is not looked for if it has no underscore: PATH or HOME may be an ordinary word there.
    """
    has_parts = variable.strip("_") and "_" in variable.strip("_")
    return bool(has_parts) and re.search(rf"(?<!\w){re.escape(variable)}(?!\w)", text) is not None


def _cure(line: LogLine, variables: Mapping[str, str]) -> str:
    """Returns what to do about a line that has no cure.

    Most are OpenTelemetry's, and only their text tells which variable they are about, by its name
    or by its value.
    """
    named = [
        name
        for name, value in variables.items()
        if _names(name, line.what) or (name.startswith("OTEL_") and repr(value) in line.what)
    ]
    if named:
        return f"unset {max(named, key=len)} # or correct it"
    return f"look into the documentation of {line.logger.partition('.')[0]}"
