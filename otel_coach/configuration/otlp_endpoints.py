"""Where OpenTelemetry's OTLP exporters send to, by their variables, as the exporters read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_coach.core.urls import host_in_url

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
GRPC: Final = "grpc"
GRPC_PORT: Final = 4317
HTTP_PORT: Final = 4318
"""The ports that the OTLP specification assigns."""


def variable_of(signal: str, part: str, environment: Mapping[str, str]) -> str:
    """Returns the variable of `part` (ENDPOINT ...): that of `signal` if it is set, else of all."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}"
    return own if environment.get(own, "").strip() else f"OTEL_EXPORTER_OTLP_{part}"


def endpoint_of(signal: str, protocol: str, environment: Mapping[str, str]) -> str:
    """Returns the endpoint of `signal` as it is set, or the exporter's default."""
    name = variable_of(signal, "ENDPOINT", environment)
    default = GRPC_PORT if protocol == GRPC else HTTP_PORT
    return environment.get(name, "").strip() or f"http://localhost:{default}"


def host_of(endpoint: str) -> str:
    """Returns scheme, host and port of `endpoint`, without a password, path or query."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that cannot be read"
    if not host:
        return "an address that cannot be read"
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{host_in_url(host)}{f':{port}' if port is not None else ''}"
