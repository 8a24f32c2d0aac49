"""Whether otel-coach is active, under which distro, and which of its parts are switched off."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import otel_coach
from otel_coach.cli.doctor.examined import Fact
from otel_coach.cli.doctor.traps.environment import (
    DISABLED,
    DISTRO,
    INSTRUMENTOR_DISABLED,
    SEVERAL_DISTROS,
)
from otel_coach.configuration.environment_variables import (
    CHOICE,
    SWITCHES,
    is_true,
    vendors,
    vendors_in_place,
)
from otel_coach.core.entry_points import entry_points
from otel_coach.core.traps import CONFIG_PACKAGE, VENDOR
from otel_coach.instrumentors import ANTHROPIC, ASGI, DEPENDENCIES, LANGCHAIN, OPENAI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.core.traps import Finding

_FRAMEWORKS: Final = (
    *("fastapi", "starlette", "langchain-core", "langgraph", "openai", "anthropic"),
    *("psycopg", "slowapi"),
)
_OURS: Final = "otel_coach_"
_LOST: Final = {
    ASGI: "requests, streams, auth failures and the page in the application are missing",
    LANGCHAIN: "LLM calls, tools and agents are not measured",
    OPENAI: "direct calls by the openai package are not measured",
    ANTHROPIC: "direct calls by the anthropic package are not measured",
    DEPENDENCIES: "no dependency is probed",
}
"""What is lost without each of otel-coach's instrumentors, by entry point."""


def look(examined: Examined) -> Iterator[Finding | Fact]:
    """Yields the versions in use, and what is switched off."""
    yield Fact(f"otel-coach {otel_coach.__version__}")
    for name in _FRAMEWORKS:
        yield Fact(f"{name} {_version(name) or 'is not installed: nothing of it is measured'}")
    if not examined.settings.enabled:
        names = " ".join(name for name in SWITCHES if is_true(examined.text(name)))
        yield DISABLED.found(variables=names)
    yield from _distros(examined)
    yield from _instrumentors(examined)
    path = examined.settings.config_file
    if path is not None and not examined.configures_by_file:
        yield CONFIG_PACKAGE.found(path=path)


def _distros(examined: Examined) -> Iterator[Finding]:
    for group, variable in CHOICE.items():
        value = examined.text(variable)
        if value and not any(entry_points(group=group, name=value)):
            yield DISTRO.found(variable=variable, value=value, group=group)
    if in_place := vendors_in_place(examined.variables):
        yield VENDOR.found(names=", ".join(in_place))
    for names in vendors().values():
        if len(names) > 1:
            yield SEVERAL_DISTROS.found(count=len(names), names=", ".join(names), first=names[0])
            return


def _instrumentors(examined: Examined) -> Iterator[Finding]:
    disabled = examined.settings.disabled_instrumentations
    entries = {entry.name for entry in entry_points(group="opentelemetry_instrumentor")}
    ours = {entry for entry in entries if entry.startswith(_OURS)}
    for name in sorted(ours):
        if examined.settings.disables(name):
            lost = _LOST.get(name, "what it would measure is missing")
            rest = ",".join(sorted(disabled - ours - {"*"}))
            variable = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
            cure = f"export {variable}={rest}" if rest else f"unset {variable}"
            yield INSTRUMENTOR_DISABLED.found(name=name, lost=lost, cure=cure)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
