"""Components of the OpenTelemetry SDK that installed packages provide, by their entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_coach.core.entry_points import entry_points

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLER: Final = "OTEL_TRACES_SAMPLER"
SAMPLER_ARGUMENT: Final = "OTEL_TRACES_SAMPLER_ARG"
ID_GENERATOR: Final = "OTEL_PYTHON_ID_GENERATOR"
DEFAULTS: Final[Mapping[str, str]] = {
    SAMPLER: "parentbased_always_on",
    SAMPLER_ARGUMENT: "1.0",
    ID_GENERATOR: "random",
}
"""The values of these variables that stand for OpenTelemetry's defaults."""
SAMPLERS: Final = "opentelemetry_traces_sampler"
"""The group of the samplers' entry points."""
RATIOS: Final = frozenset({"traceidratio", "parentbased_traceidratio"})
"""Samplers whose argument is a number."""

_OTLP_COMPONENTS: Final = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_PACKAGES: Final = {
    "otlp_proto_grpc": "'otel-coach[otlp-grpc]'",
    "otlp_proto_http": "'otel-coach[otlp]'",
}


def exporter_component(name: str, protocol: str) -> str:
    """Returns the entry point of the exporter `name`, by the protocol if it is `otlp`."""
    return _OTLP_COMPONENTS.get(protocol, protocol) if name == "otlp" else name


def has_exporter(signal: str, component: str) -> bool:
    """Whether an exporter of `signal` (traces, metrics, logs) has that entry point."""
    return bool(entry_points(group=f"opentelemetry_{signal}_exporter", name=component))


def package_of(component: str) -> str:
    """Returns what to install for an exporter."""
    return _PACKAGES.get(component, f"opentelemetry-exporter-{component.replace('_', '-')}")


def missing(group: str) -> str:
    """Returns why a component that no package provides in `group` cannot be used."""
    return f"no installed package has that in its entry points {group}"


def ratio(argument: str | None) -> float:
    """Returns the share of traces that a sampler by ratio keeps; all if there is no argument.

    Raises:
        LookupError: `argument` is no number from 0 to 1; the message completes a sentence.
    """
    try:
        share = 1.0 if argument is None else float(argument)
    except ValueError:
        message = "it is not a number"
        raise LookupError(message) from None
    if not 0 <= share <= 1:
        message = "it is not between 0 and 1"
        raise LookupError(message)
    return share
