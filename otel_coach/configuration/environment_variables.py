"""otel-coach's variables, which `opentelemetry-instrument` also offers as command-line options.

The command imports this module before it starts the service. Only at that moment can otel-coach
choose which distro and configurator are used: its own, if only opentelemetry-distro is installed
besides, unless an option or a variable says otherwise. The configurator of opentelemetry-distro
would stop the service if an exporter that nobody asked for is not installed. A vendor's distro is
left in place (see `otel_coach.setup.distro`).

This module imports nothing that the command has not imported already, except
`core/entry_points.py`, which takes one module of OpenTelemetry's API that the command has imported
already. So a service in which otel-coach is disabled pays next to nothing for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from otel_coach.core.entry_points import entry_points

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

OTEL_COACH_ADMIT_LABELS = "OTEL_COACH_ADMIT_LABELS"
OTEL_COACH_CONTENT_LIMIT = "OTEL_COACH_CONTENT_LIMIT"
OTEL_COACH_CONTENT_REDACTOR = "OTEL_COACH_CONTENT_REDACTOR"
OTEL_COACH_CREDENTIAL_HEADERS = "OTEL_COACH_CREDENTIAL_HEADERS"
OTEL_COACH_DEPENDENCIES = "OTEL_COACH_DEPENDENCIES"
OTEL_COACH_DEPENDENCY_INTERVAL = "OTEL_COACH_DEPENDENCY_INTERVAL"
OTEL_COACH_DEPENDENCY_TIMEOUT = "OTEL_COACH_DEPENDENCY_TIMEOUT"
OTEL_COACH_DISABLED = "OTEL_COACH_DISABLED"
OTEL_COACH_GATEWAYS = "OTEL_COACH_GATEWAYS"
OTEL_COACH_METRICS_PATH = "OTEL_COACH_METRICS_PATH"
OTEL_COACH_METRICS_TOKEN = "OTEL_COACH_METRICS_TOKEN"  # nosec B105 # noqa: S105 - its name
OTEL_COACH_PRICES = "OTEL_COACH_PRICES"
OTEL_COACH_PROPAGATE_TO_PROVIDERS = "OTEL_COACH_PROPAGATE_TO_PROVIDERS"
OTEL_COACH_QUIET = "OTEL_COACH_QUIET"
OTEL_COACH_SERVER_SPANS = "OTEL_COACH_SERVER_SPANS"
OTEL_COACH_SHARED_DIR = "OTEL_COACH_SHARED_DIR"
OTEL_COACH_SPAN_ATTRIBUTES = "OTEL_COACH_SPAN_ATTRIBUTES"
OTEL_COACH_STOP_ABANDONED = "OTEL_COACH_STOP_ABANDONED"
OTEL_COACH_STOP_AFTER = "OTEL_COACH_STOP_AFTER"
OTEL_COACH_STOP_TOOLS = "OTEL_COACH_STOP_TOOLS"
OTEL_COACH_TARGET_INFO = "OTEL_COACH_TARGET_INFO"
OTEL_COACH_TRUST_INCOMING = "OTEL_COACH_TRUST_INCOMING"

OWN_VARIABLES: Final = frozenset(
    (
        *(OTEL_COACH_ADMIT_LABELS, OTEL_COACH_CONTENT_LIMIT, OTEL_COACH_CONTENT_REDACTOR),
        *(OTEL_COACH_CREDENTIAL_HEADERS, OTEL_COACH_DEPENDENCIES, OTEL_COACH_DEPENDENCY_INTERVAL),
        *(OTEL_COACH_DEPENDENCY_TIMEOUT, OTEL_COACH_DISABLED, OTEL_COACH_GATEWAYS),
        *(OTEL_COACH_METRICS_PATH, OTEL_COACH_METRICS_TOKEN, OTEL_COACH_PRICES),
        *(OTEL_COACH_PROPAGATE_TO_PROVIDERS, OTEL_COACH_QUIET, OTEL_COACH_SERVER_SPANS),
        *(OTEL_COACH_SHARED_DIR, OTEL_COACH_SPAN_ATTRIBUTES, OTEL_COACH_STOP_ABANDONED),
        *(OTEL_COACH_STOP_AFTER, OTEL_COACH_STOP_TOOLS, OTEL_COACH_TARGET_INFO),
        OTEL_COACH_TRUST_INCOMING,
    )
)
"""The variables above. Each label has two more: for its budget, and for its pinned values."""

DISTRO: Final = "opentelemetry_distro"
CONFIGURATOR: Final = "opentelemetry_configurator"
CHOICE: Final = {DISTRO: "OTEL_PYTHON_DISTRO", CONFIGURATOR: "OTEL_PYTHON_CONFIGURATOR"}
"""The variables that choose a distro and a configurator."""
_CONTRIB: Final = {DISTRO: "distro", CONFIGURATOR: "configurator"}
"""The names of opentelemetry-distro's entry points."""
OURS: Final = "otel_coach"
"""The name of otel-coach's entry points."""
SWITCHES: Final = (OTEL_COACH_DISABLED, "OTEL_SDK_DISABLED")
"""Each of these variables, if true, disables all of otel-coach."""

_CAME_FIRST: Final = "_OTEL_COACH_CAME_FIRST"
"""Tells the service's process that `come_first`, not the user, has made a choice of `CHOICE`."""
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_GEVENT: Final = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH"

TRUE: Final = frozenset({"true", "1", "yes", "on"})
FALSE: Final = frozenset({"false", "0", "no", "off"})
"""The words for true and false, in lower case; OpenTelemetry itself knows `true` and `false`."""


def is_true(text: str) -> bool:
    """Whether `text` is one of the words for true, in upper or lower case."""
    return text.strip().lower() in TRUE


def is_enabled() -> bool:
    """Whether neither otel-coach nor the OpenTelemetry SDK is disabled."""
    return not any(is_true(os.environ.get(name, "")) for name in SWITCHES)


def in_our_place(group: str) -> EntryPoint | None:
    """Returns the distro or configurator (`group`) to use instead of otel-coach's, or None.

    A vendor's is used if one is installed. opentelemetry-distro's is used if otel-coach is
    disabled, or if a vendor is installed that has none of this `group` (only the other one). If the
    user has chosen otel-coach's by variable, the result is None.
    """
    # `opentelemetry-instrument --coach_disabled true` disables it after `come_first` has chosen it.
    choice_counts = is_enabled() or _CAME_FIRST not in os.environ
    if os.environ.get(CHOICE[group]) == OURS and choice_counts:
        return None
    found = {entry.name: entry for entry in entry_points(group=group) if entry.name != OURS}
    contrib = found.pop(_CONTRIB[group], None)
    if found:
        return next(iter(found.values()))
    return contrib if has_vendor() or not is_enabled() else None


def vendors_in_place(variables: Mapping[str, str] = os.environ) -> list[str]:
    """Returns the names of the distro and configurator that `variables` use in otel-coach's place.

    The list is empty if no vendor's distro or configurator is installed.
    """
    if not has_vendor():
        return []
    chosen = (
        variables.get(variable) or getattr(in_our_place(group), "name", OURS)
        for group, variable in CHOICE.items()
    )
    return [name for name in dict.fromkeys(chosen) if name != OURS]


def has_vendor() -> bool:
    """Whether a vendor's distro or configurator is installed."""
    return any(vendors().values())


def vendors() -> dict[str, list[str]]:
    """Returns the names of the installed vendors' distros and configurators, by group."""
    return {
        group: [
            entry.name
            for entry in entry_points(group=group)
            if entry.name not in {OURS, _CONTRIB[group]}
        ]
        for group in CHOICE
    }


def has_other_choice() -> bool:
    """Whether a vendor's distro is installed, or a variable asks for what only OpenTelemetry loads.

    That is another distro or configurator than otel-coach's, or gevent's patches.
    """
    chosen = (os.environ.get(variable, OURS) for variable in CHOICE.values())
    return has_vendor() or _GEVENT in os.environ or any(name != OURS for name in chosen)


def disabled_instrumentations() -> set[str]:
    """Returns the entry points of the instrumentations that are not to be loaded."""
    return {name.strip() for name in os.environ.get(_DISABLED, "").split(",")}


def come_first() -> None:
    """Chooses otel-coach's distro and configurator where opentelemetry-distro's are installed."""
    for group, variable in CHOICE.items():
        is_beside = any(entry.name == _CONTRIB[group] for entry in entry_points(group=group))
        if is_beside and variable not in os.environ:
            os.environ.update({variable: OURS, _CAME_FIRST: "true"})


if is_enabled() and not has_vendor():
    come_first()
