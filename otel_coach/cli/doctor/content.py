"""Whether content is captured, and whether its redactor can be imported."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.imports import as_the_command_does
from otel_coach.core.traps import REDACTOR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Yields whether prompts and answers are captured, and what is wrong with the redactor."""
    settings = examined.settings
    if not (settings.captures_on_spans or settings.captures_on_events):
        return
    name = settings.content_redactor
    if name is None:
        yield Fact("content: prompts and answers are captured as they are, without a redactor")
        return
    try:
        with as_the_command_does():
            redactor = pkgutil.resolve_name(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module may raise anything
        yield REDACTOR.found(redactor=name, reason=type(error).__name__)
        return
    if callable(redactor):
        yield Fact(f"content: prompts and answers are captured, redacted by {name}")
    else:
        yield REDACTOR.found(redactor=name, reason="it cannot be called")
