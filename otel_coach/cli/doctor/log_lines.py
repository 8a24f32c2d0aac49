"""What OpenTelemetry and otel-coach log in a process of the doctor's, and what that means."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli.doctor.finding import found
from otel_coach.cli.doctor.traps.environment import LOGGED_AT_START
from otel_coach.core.traps import LOGGED, Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_coach.cli.doctor.finding import Examined, Fact, Finding

_LOGGERS: Final = ("otel_coach", "opentelemetry")
_TRAPS: Final = {trap.name: trap for trap in LOGGED}


class LogLines(logging.Handler):
    """Keeps the warnings and errors that are logged from now on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[dict[str, Any]] = []
        """The lines as JSON types, each with the row and the values that it is made of, if any."""
        for name in _LOGGERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the message of `record`; the exception that comes with it may have a secret."""
        line: dict[str, Any] = {"text": record.getMessage(), "logger": record.name}
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, Line):
                values = {name: str(value) for name, value in argument.values.items()}
                line |= {"trap": argument.trap.name, "values": values}
        self.found.append(line)


def findings(
    lines: Iterable[dict[str, Any]], examined: Examined, known: Iterable[Finding | Fact]
) -> Iterator[Finding]:
    """Yields a finding for each line that says something that is not among the `known` results."""
    said = [str(result) for result in known]
    for line in lines:
        trap, text = _TRAPS.get(line.get("trap", "")), line["text"].removeprefix("otel-coach: ")
        what, _, cure = text.partition(". Cure: ")
        if any(what in result for result in said):
            continue
        if trap is not None:
            yield found(trap, **line["values"])
            continue
        named = [
            name
            for name, value in examined.variables.items()
            if name in text or (name.startswith("OTEL_") and repr(value) in text)
        ]
        mend = f"unset {max(named, key=len)} # or correct it" if named else ""
        default = f"look into the documentation of {line['logger'].partition('.')[0]}"
        yield found(LOGGED_AT_START, line=what, cure=cure or mend or default)
