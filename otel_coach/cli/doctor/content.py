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
    name = examined.settings.content_redactor
    if name is not None:
        with as_the_command_does():
            why = why_not(name)
        yield from about_redactor(examined, why)
    elif _captures(examined):
        yield Fact("content: prompts and answers are captured as they are, without a redactor")


def about_redactor(examined: Examined, why: str) -> Iterator[Finding | Fact]:
    """Yields whether content is redacted; `why` is the result of `why_not`."""
    if (name := examined.settings.content_redactor) is None or not _captures(examined):
        return
    if why:
        yield REDACTOR.found(redactor=name, reason=why)
    else:
        yield Fact(f"content: prompts and answers are captured, redacted by {name}")


def why_not(redactor: str) -> str:
    """Returns why the `redactor` (module:function) cannot be used, "" if it can; imports it."""
    try:
        found = pkgutil.resolve_name(redactor)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module may raise anything
        return type(error).__name__
    return "" if callable(found) else "it cannot be called"


def _captures(examined: Examined) -> bool:
    return examined.settings.captures_on_spans or examined.settings.captures_on_events
