"""The back end of each signal that is exported by OTLP, with what its variables say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from otel_coach.configuration.environment_variables import is_true
from otel_coach.configuration.otlp_endpoints import (
    ENDPOINT,
    GRPC,
    GRPC_PORT,
    endpoint_of,
    variable_of,
)
from otel_coach.core.plugins import exporter_component, has_exporter
from otel_coach.core.urls import host_in_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_coach.cli.doctor.examined import Examined
    from otel_coach.settings import EffectiveSettings

_HEADER: Final = re.compile(
    r"[\t ]*[\w!#$%&'*+.^`|~-]+[\t ]*=[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"
)
"""`key=value` as OpenTelemetry's parser accepts it, spaces in values included."""

JSON: Final = "http/json"
_PROTOCOLS: Final = {
    "otlp_proto_grpc": GRPC,
    "otlp_proto_http": "http/protobuf",
    "otlp_json_http": JSON,
}
"""The protocols of the exporters that have one in their name."""


@dataclass(frozen=True, slots=True)
class Target:
    """The back end of one signal."""

    signal: str
    protocol: str
    variable: str
    """The variable that has the endpoint, or the one that would."""
    endpoint: str
    """As it is set."""
    is_base: bool
    """Whether the exporter appends the signal's path (by HTTP)."""
    headers_variable: str
    headers: tuple[tuple[str, str], ...]
    bad_headers: tuple[int, ...]
    """The positions of entries that are left out, from 1."""
    files: dict[str, str]
    """CERTIFICATE, CLIENT_CERTIFICATE and CLIENT_KEY, as far as they are set."""
    insecure: str
    """The value of OTEL_EXPORTER_OTLP_INSECURE."""

    @property
    def url(self) -> str:
        """The address to which the HTTP exporter sends."""
        return (
            f"{self.endpoint.removesuffix('/')}/v1/{self.signal}" if self.is_base else self.endpoint
        )

    @property
    def has_scheme(self) -> bool:
        """Whether the endpoint begins with http:// or https://."""
        return re.match(r"https?://", self.endpoint, re.IGNORECASE) is not None

    @property
    def parts(self) -> SplitResult:
        """The parts of `url`; those of an endpoint without a scheme are found too.

        Raises:
            ValueError: the address cannot be read.
        """
        return urlsplit(self.url if "://" in self.endpoint else f"//{self.url}")

    @property
    def host(self) -> str:
        """The endpoint's host; "" if none is given, or none that can be read."""
        try:
            return self.parts.hostname or ""
        except ValueError:
            return ""

    @property
    def port(self) -> int | None:
        """The endpoint's port; None if none is given, or none that can be read."""
        try:
            return self.parts.port
        except ValueError:
            return None

    @property
    def uses_tls(self) -> bool:
        """Whether the exporter speaks TLS."""
        scheme = self.endpoint.partition("://")[0].lower() if "://" in self.endpoint else ""
        if self.protocol != GRPC or scheme == "https":
            return scheme == "https"
        return not is_true(self.insecure) if self.insecure else scheme != "http"

    def with_port(self, port: int) -> str:
        """Returns the endpoint with another port, OTLP's for HTTP or gRPC."""
        host = host_in_url(self.parts.hostname or "COLLECTOR")
        scheme = "https" if self.uses_tls and self.has_scheme else "http"
        return f"{scheme}://{host}:{port}{self.path_for(is_grpc=port == GRPC_PORT)}"

    def path_for(self, *, is_grpc: bool) -> str:
        """Returns the path that the variable's value needs.

        Only a variable for a single signal (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) needs one, by HTTP.
        """
        return "" if is_grpc or self.variable == ENDPOINT else f"/v1/{self.signal}"


def exporters_by_signal(settings: EffectiveSettings) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yields each signal, with the names of its exporters and its protocol of OTLP."""
    yield "traces", settings.trace_exporters, settings.otlp_traces_protocol
    yield "metrics", settings.metric_exporters, settings.otlp_metrics_protocol
    yield "logs", settings.log_exporters, settings.otlp_logs_protocol


def targets(examined: Examined) -> Iterator[Target]:
    """Yields the target of each signal that is exported by OTLP, if its exporter is installed."""
    for signal, names, chosen in exporters_by_signal(examined.settings):
        for name in names:
            protocol = chosen if name == "otlp" else _PROTOCOLS.get(name)
            if protocol is not None and has_exporter(signal, exporter_component(name, protocol)):
                yield _target(examined, signal, protocol)


def _target(examined: Examined, signal: str, protocol: str) -> Target:
    def variable(part: str) -> str:
        return variable_of(signal, part, examined.variables)

    endpoint_variable, headers_variable = variable("ENDPOINT"), variable("HEADERS")
    headers, bad = _headers(examined.text(headers_variable))
    files = {
        part: examined.text(variable(part))
        for part in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")
    }
    return Target(
        signal,
        protocol,
        endpoint_variable,
        endpoint_of(signal, protocol, examined.variables),
        is_base=endpoint_variable == ENDPOINT and protocol != GRPC,
        headers_variable=headers_variable,
        headers=headers,
        bad_headers=bad,
        files={part: path for part, path in files.items() if path},
        insecure=examined.text(variable("INSECURE")),
    )


def _headers(text: str) -> tuple[tuple[tuple[str, str], ...], tuple[int, ...]]:
    """Returns the headers, and the positions of the entries that are none."""
    headers: list[tuple[str, str]] = []
    bad: list[int] = []
    for position, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        if _HEADER.fullmatch(entry) is None:
            bad.append(position)
            continue
        key, _, value = entry.partition("=")
        headers.append((unquote(key).strip().lower(), unquote(value).strip()))
    return tuple(headers), tuple(bad)
