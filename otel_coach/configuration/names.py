"""Names of variables: those of otel-coach, and what a name that nothing reads may be meant for."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from otel_coach.configuration.environment_variables import OWN_VARIABLES
from otel_coach.configuration.otel_variables import WITHOUT_EFFECT
from otel_coach.core.entry_points import entry_points
from otel_coach.metrics.labels import DEFAULT_BUDGETS, DEFAULT_SIZES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_PREFIX: Final = "OTEL_COACH_"
_VARIABLE: Final = re.compile(r"OTEL_[A-Z0-9_]*[A-Z0-9]")
_ALIKE: Final = re.compile(r"o(?:tel|tle|tlp|ltp|etl|te_|pen_?tel)", re.IGNORECASE)
"""The beginning of a name that may be meant for one of OpenTelemetry's."""
_OF_MANY_PACKAGES: Final = re.compile(r"OTEL_(?:PYTHON|INSTRUMENTATION)_")
"""Each instrumentation has variables of its own there, whose names are like those of others."""
_USUAL: Final = 0.6
"""How much alike two names must be, from 0 to 1; the default of difflib."""
_LIKENESS_OF_OWN: Final = 0.85
_LIKENESS: Final = 0.86
_LIKENESS_OF_MANY: Final = 0.97
_EXCLUDED_URLS: Final = re.compile(r"OTEL_PYTHON_\w+_EXCLUDED_URLS")
_ALIASES: Final = {
    **dict.fromkeys(
        ("OTEL_ENDPOINT", "OTEL_EXPORTER_ENDPOINT", "OTEL_OTLP_ENDPOINT", "OTLP_ENDPOINT"),
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    **dict.fromkeys(
        ("OTEL_COLLECTOR_ENDPOINT", "OTEL_EXPORTER_OTLP_URL", "OTEL_EXPORTER_OTLP_HOST"),
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
    **dict.fromkeys(("OTEL_HEADERS", "OTLP_HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS"),
    **dict.fromkeys(("OTEL_PROTOCOL", "OTLP_PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL"),
    **dict.fromkeys(("OTEL_SERVICE", "OTEL_APP_NAME", "OTEL_NAME"), "OTEL_SERVICE_NAME"),
    **dict.fromkeys(("OTEL_DISABLED", "OTEL_DISABLE"), "OTEL_SDK_DISABLED"),
    **dict.fromkeys(("OTEL_SAMPLER", "OTEL_SAMPLING"), "OTEL_TRACES_SAMPLER"),
    **dict.fromkeys(("OTEL_SAMPLING_RATE", "OTEL_SAMPLER_RATIO"), "OTEL_TRACES_SAMPLER_ARG"),
    **dict.fromkeys(("OTEL_EXPORTER", "OTEL_TRACE_EXPORT"), "OTEL_TRACES_EXPORTER"),
    **dict.fromkeys(("OTEL_RESOURCE", "OTEL_ATTRIBUTES"), "OTEL_RESOURCE_ATTRIBUTES"),
}
"""Wrong names that are not like the right one, with the right one."""
_OWN_ALIASES: Final = {
    **dict.fromkeys(("PORT", "METRICS_PORT"), "OTEL_EXPORTER_PROMETHEUS_PORT"),
    **dict.fromkeys(("HOST", "METRICS_HOST"), "OTEL_EXPORTER_PROMETHEUS_HOST"),
    **dict.fromkeys(("ENDPOINT", "OTLP_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "SERVICE_NAME": "OTEL_SERVICE_NAME",
    **dict.fromkeys(("TOKEN", "BEARER_TOKEN"), "OTEL_COACH_METRICS_TOKEN"),
    "PRICES_FILE": "OTEL_COACH_PRICES",
    "SHARED_FOLDER": "OTEL_COACH_SHARED_DIR",
    "STOP_ABANDONED_AFTER": "OTEL_COACH_STOP_AFTER",
}
"""The same for names that begin like otel-coach's own, without that beginning."""


def budget_variable(label: str) -> str:
    """Returns the name of the variable that sets the budget of a label or limit."""
    return f"OTEL_COACH_BUDGET_{label.upper()}"


def pinned_variable(label: str) -> str:
    """Returns the name of the variable that lists values of `label` which always have a slot."""
    return f"OTEL_COACH_ALLOWED_{label.upper()}{'ES' if label.endswith('s') else 'S'}"


OWN_NAMES: Final = frozenset(
    {
        *OWN_VARIABLES,
        *map(budget_variable, DEFAULT_SIZES),
        *map(pinned_variable, DEFAULT_BUDGETS),
    }
)
"""All variables of otel-coach."""


def unknown_own(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yields the names that begin like otel-coach's, but are none, each with the nearest one."""
    # The prefix is left out: by it alone, any two of otel-coach's names would be alike.
    known = {name.removeprefix(_PREFIX): name for name in OWN_NAMES}
    for name in sorted(names):
        if name.startswith(_PREFIX) and name not in OWN_NAMES:
            rest = name.removeprefix(_PREFIX)
            alike = nearest(rest, known, _LIKENESS_OF_OWN)
            yield name, _OWN_ALIASES.get(rest) or (known[alike] if alike else None)


def nearest(name: str, known: Iterable[str], likeness: float = _USUAL) -> str | None:
    """Returns the one of `known` that is most like `name`, None if none is like it."""
    return next(iter(difflib.get_close_matches(name, [*known], 1, likeness)), None)


def hint(meant: str | None) -> str:
    """Returns what to add to a message about a name that is not known."""
    return f"; perhaps {meant} is meant" if meant else ""


def unknown_endpoints(
    listed: Iterable[str], templates: Collection[str]
) -> Iterator[dict[str, str]]:
    """Yields each endpoint of a list that is no route's template, with what may be meant.

    `corrected` is the whole list, in which each wrong entry is replaced by the one that is meant,
    or left out if none is like it.
    """
    listed = sorted(set(listed))
    meant = {one: nearest(one, templates) for one in listed if one not in templates}
    right = dict.fromkeys(meant.get(one, one) for one in listed)
    corrected = ",".join(filter(None, right))
    for endpoint, likely in meant.items():
        yield {"endpoint": endpoint, "hint": hint(likely), "corrected": corrected}


def unknown_line(name: str, meant: str | None) -> str:
    """Returns the line for the log about a variable that nothing reads."""
    whose = "otel-coach" if name.startswith(_PREFIX) else "otel-coach or OpenTelemetry"
    return f"{name} is ignored, as it is not a variable of {whose}{hint(meant)}"


def misspelt(names: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields each name that is probably misspelt, with the name that is meant.

    Unknown names that are like no other are not among them: any package may have variables of its
    own. `known` are further known names, besides those that installed packages document.
    """
    right = {*known, *OWN_NAMES, *WITHOUT_EFFECT, *documented()}
    for name in sorted(names):
        if name in right or name.startswith(_PREFIX) or not _ALIKE.match(name):
            continue
        upper = name.upper()
        if (meant := _meant(upper, right)) is not None:
            yield name, meant


def _meant(name: str, right: Collection[str]) -> str | None:
    if name in right:
        return name
    if (alias := _ALIASES.get(name)) is not None:
        return alias
    if _EXCLUDED_URLS.fullmatch(name):
        return None
    likeness = _LIKENESS_OF_MANY if _OF_MANY_PACKAGES.match(name) else _LIKENESS
    return nearest(name, right, likeness)


def documented() -> Iterator[str]:
    """Yields the variables that the installed packages of OpenTelemetry document."""
    for entry_point in entry_points(group="opentelemetry_environment_variables"):
        for value in vars(entry_point.load()).values():
            if isinstance(value, str) and _VARIABLE.fullmatch(value):
                yield value
