"""Our variables, which `opentelemetry-instrument` offers as options of its command line too.

The command imports this module before it starts the service, which is the one moment to say who
comes first: where only opentelemetry-distro is installed beside us, we do, unless the user or a
variable says otherwise. Its configurator would stop everything where an exporter is missing that
nobody asked for. A vendor's distro keeps its place.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points

from otel_coach.settings import Settings

OTEL_COACH_ADMIT_LABELS = "OTEL_COACH_ADMIT_LABELS"
OTEL_COACH_CONTENT_LIMIT = "OTEL_COACH_CONTENT_LIMIT"
OTEL_COACH_CONTENT_REDACTOR = "OTEL_COACH_CONTENT_REDACTOR"
OTEL_COACH_CREDENTIAL_HEADERS = "OTEL_COACH_CREDENTIAL_HEADERS"
OTEL_COACH_DEPENDENCIES = "OTEL_COACH_DEPENDENCIES"
OTEL_COACH_DEPENDENCY_INTERVAL = "OTEL_COACH_DEPENDENCY_INTERVAL"
OTEL_COACH_DEPENDENCY_TIMEOUT = "OTEL_COACH_DEPENDENCY_TIMEOUT"
OTEL_COACH_DISABLED = "OTEL_COACH_DISABLED"
OTEL_COACH_METRICS_PATH = "OTEL_COACH_METRICS_PATH"
OTEL_COACH_METRICS_TOKEN = "OTEL_COACH_METRICS_TOKEN"  # noqa: S105 - its name
OTEL_COACH_PRICES = "OTEL_COACH_PRICES"
OTEL_COACH_PROPAGATE_TO_PROVIDERS = "OTEL_COACH_PROPAGATE_TO_PROVIDERS"
OTEL_COACH_SERVER_SPANS = "OTEL_COACH_SERVER_SPANS"
OTEL_COACH_SHARED_DIR = "OTEL_COACH_SHARED_DIR"
OTEL_COACH_SPAN_ATTRIBUTES = "OTEL_COACH_SPAN_ATTRIBUTES"
OTEL_COACH_TARGET_INFO = "OTEL_COACH_TARGET_INFO"

_STOCK = {"opentelemetry_distro": "distro", "opentelemetry_configurator": "configurator"}
_CHOICE = {
    "opentelemetry_distro": "OTEL_PYTHON_DISTRO",
    "opentelemetry_configurator": "OTEL_PYTHON_CONFIGURATOR",
}


def come_first() -> None:
    """Choose our distro and configurator where only the stock ones stand beside them."""
    for group, variable in _CHOICE.items():
        others = {entry_point.name for entry_point in entry_points(group=group)} - {"otel_coach"}
        if others == {_STOCK[group]}:
            os.environ.setdefault(variable, "otel_coach")


if Settings.from_env().enabled:
    come_first()
