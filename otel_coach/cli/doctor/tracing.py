"""Where spans go, which of them are kept, and under which name of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.traps.environment import NO_SERVICE_NAME, SAMPLED_OUT
from otel_coach.core.entry_points import entry_points
from otel_coach.core.plugins import (
    DEFAULTS,
    RATIOS,
    SAMPLER,
    SAMPLER_ARGUMENT,
    SAMPLERS,
    missing,
    ratio,
)
from otel_coach.core.traps import COMPONENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding

_NEVER: Final = frozenset({"always_off", "parentbased_always_off"})
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_UNKNOWN: Final = "unknown_service"


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Yields what is wrong with sampler and name, and where traces go."""
    settings = examined.settings
    yield Fact(f"traces: {_destination(examined)}")
    if examined.configures_by_file:
        return
    yield from _sampler(examined)
    exports = {*settings.trace_exporters, *settings.metric_exporters, *settings.log_exporters}
    if exports - {"prometheus"}:
        name = _service_name(examined)
        if name is None:
            yield NO_SERVICE_NAME.found(name=_UNKNOWN)
        else:
            yield Fact(f"service.name: {name}")


def _destination(examined: Examined) -> str:
    settings = examined.settings
    if examined.configures_by_file:
        return "as OTEL_CONFIG_FILE says"
    if settings.trace_exporters:
        return ", ".join(settings.trace_exporters)
    is_chosen = examined.text(_EXPORTER)
    return f"nowhere ({_EXPORTER} says so)" if is_chosen else "nowhere (no OTLP endpoint is set)"


def _sampler(examined: Examined) -> Iterator[Finding | Fact]:
    named = examined.settings.components
    if (name := named.get(SAMPLER)) is None:
        return
    if not any(entry_points(group=SAMPLERS, name=one) for one in (name, name.lower())):
        reason, default = missing(SAMPLERS), DEFAULTS[SAMPLER]
        yield COMPONENT.found(variable=SAMPLER, value=name, reason=reason, default=default)
        return
    share = 0.0 if name.lower() in _NEVER else 1.0
    argument = named.get(SAMPLER_ARGUMENT)
    if name.lower() in RATIOS:
        try:
            share = ratio(argument)
        except LookupError as error:
            yield COMPONENT.found(
                variable=SAMPLER_ARGUMENT,
                value=argument,
                reason=error,
                default=DEFAULTS[SAMPLER_ARGUMENT],
            )
            return
    if share == 0:
        shown = f" {SAMPLER_ARGUMENT}={argument}" if argument else ""
        asks_parent = name.lower().startswith("parentbased_")
        exception = ", except for callers that sample the trace themselves" if asks_parent else ""
        yield SAMPLED_OUT.found(sampler=name, argument=shown, exception=exception)
    else:
        yield Fact(f"sampler: {name}{f' {argument}' if argument else ''}")


def _service_name(examined: Examined) -> str | None:
    if name := examined.text("OTEL_SERVICE_NAME"):
        return name
    for pair in examined.text("OTEL_RESOURCE_ATTRIBUTES").split(","):
        key, _, value = pair.partition("=")
        if key.strip() == "service.name" and value.strip():
            return value.strip()
    return None
