"""Our variables, which `opentelemetry-instrument` offers as options of its command line too.

The command imports this module before it starts the service, which is the one moment to say who
comes first: where only opentelemetry-distro is installed beside us, we do, unless the user or a
variable says otherwise. Its configurator would stop everything where an exporter is missing that
nobody asked for. A vendor's distro keeps its place (`distro`).

It imports nothing that the command has not imported: a service in which otel-coach is disabled
pays for no more.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OTEL_COACH_ADMIT_LABELS = "OTEL_COACH_ADMIT_LABELS"
OTEL_COACH_CONTENT_LIMIT = "OTEL_COACH_CONTENT_LIMIT"
OTEL_COACH_CONTENT_REDACTOR = "OTEL_COACH_CONTENT_REDACTOR"
OTEL_COACH_CREDENTIAL_HEADERS = "OTEL_COACH_CREDENTIAL_HEADERS"
OTEL_COACH_DEPENDENCIES = "OTEL_COACH_DEPENDENCIES"
OTEL_COACH_DEPENDENCY_INTERVAL = "OTEL_COACH_DEPENDENCY_INTERVAL"
OTEL_COACH_DEPENDENCY_TIMEOUT = "OTEL_COACH_DEPENDENCY_TIMEOUT"
OTEL_COACH_DISABLED = "OTEL_COACH_DISABLED"
OTEL_COACH_METRICS_PATH = "OTEL_COACH_METRICS_PATH"
OTEL_COACH_METRICS_TOKEN = "OTEL_COACH_METRICS_TOKEN"  # nosec B105 # noqa: S105 - its name
OTEL_COACH_PRICES = "OTEL_COACH_PRICES"
OTEL_COACH_PROPAGATE_TO_PROVIDERS = "OTEL_COACH_PROPAGATE_TO_PROVIDERS"
OTEL_COACH_SERVER_SPANS = "OTEL_COACH_SERVER_SPANS"
OTEL_COACH_SHARED_DIR = "OTEL_COACH_SHARED_DIR"
OTEL_COACH_SPAN_ATTRIBUTES = "OTEL_COACH_SPAN_ATTRIBUTES"
OTEL_COACH_TARGET_INFO = "OTEL_COACH_TARGET_INFO"
OTEL_COACH_TRUST_INCOMING = "OTEL_COACH_TRUST_INCOMING"

DISTRO: Final = "opentelemetry_distro"
CONFIGURATOR: Final = "opentelemetry_configurator"
_CHOICE: Final = {DISTRO: "OTEL_PYTHON_DISTRO", CONFIGURATOR: "OTEL_PYTHON_CONFIGURATOR"}
_STOCK: Final = {DISTRO: "distro", CONFIGURATOR: "configurator"}
"""What opentelemetry-distro calls its own."""
_OURS: Final = "otel_coach"
SWITCHES: Final = (OTEL_COACH_DISABLED, "OTEL_SDK_DISABLED")
"""Each of them switches all of otel-coach off."""


def is_true(text: str) -> bool:
    """Whether `text` says yes, as OpenTelemetry's variables do."""
    return text.strip().lower() in {"true", "1"}


def is_enabled() -> bool:
    """Whether nothing says that otel-coach, or OpenTelemetry as such, is to do nothing."""
    return not any(is_true(os.environ.get(name, "")) for name in SWITCHES)


def in_our_place(group: str) -> EntryPoint | None:
    """Whose distro or configurator (`group`) it is to be, where it is not ours.

    A vendor's keeps its place, and OpenTelemetry's own has it beside a vendor that brings only the
    other one of the two, and where otel-coach is disabled. What the user chose is not touched.
    """
    if os.environ.get(_CHOICE[group]) == _OURS:
        return None
    found = {one.name: one for one in entry_points(group=group) if one.name != _OURS}
    stock = found.pop(_STOCK[group], None)
    if found:
        return next(iter(found.values()))
    return stock if has_vendor() or not is_enabled() else None


def vendors_in_place() -> list[str]:
    """The names of the distro and the configurator that a vendor's are in use with."""
    if not has_vendor():
        return []
    chosen = (
        os.environ.get(variable) or getattr(in_our_place(group), "name", _OURS)
        for group, variable in _CHOICE.items()
    )
    return [name for name in dict.fromkeys(chosen) if name != _OURS]


def has_vendor() -> bool:
    """Whether a vendor's distro or configurator is installed."""
    return any(
        one.name not in {_OURS, _STOCK[group]}
        for group in _CHOICE
        for one in entry_points(group=group)
    )


def let_workers_be_instrumented() -> None:
    """Let processes that this one starts be instrumented, too, as a server's workers have to be.

    The command takes its folder off PYTHONPATH while it initialises. Its later versions put it
    back; those before opentelemetry-instrumentation 0.65 do not.
    """
    folder = os.path.dirname(getattr(sys.modules.get("sitecustomize"), "__file__", None) or "")  # noqa: PTH120 - pathlib is one import more
    if os.path.basename(folder) != "auto_instrumentation":  # noqa: PTH119 - as above
        return  # started in another way
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if folder not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *paths])


def come_first() -> None:
    """Choose our distro and configurator where only the stock ones stand beside them."""
    for group, variable in _CHOICE.items():
        if any(one.name == _STOCK[group] for one in entry_points(group=group)):
            os.environ.setdefault(variable, _OURS)


if is_enabled() and not has_vendor():
    come_first()
