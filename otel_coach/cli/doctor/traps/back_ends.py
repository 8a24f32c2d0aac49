"""Mistakes on the way to an OTLP back end. A real, empty export is sent, and its answer is read."""

from __future__ import annotations

from typing import Final

from otel_coach.core.traps import Trap

_LOST: Final = "What is exported there is lost; otel_coach_lost_total counts it."

PROTOCOL: Final = Trap(
    "otlp-protocol",
    "{line}",
    "The protocol decides how, and to which port, telemetry is sent.",
    "export {variable}=http/protobuf # port 4318; or {variable}=grpc, port 4317",
    example="OTEL_EXPORTER_OTLP_PROTOCOL='http' is none of http/protobuf, grpc; the default is "
    "used",
)
HEADERS: Final = Trap(
    "otlp-headers",
    "{variable}: entry {position} is not of the form key=value, so that header is not sent",
    "Without it, a back end may refuse everything. Special characters are written as in a URL.",
    "export {variable}='authorization=Bearer%20TOKEN,x-tenant=acme'",
)
SCHEME: Final = Trap(
    "otlp-scheme",
    "{variable}={endpoint} does not begin with http:// or https://",
    "The exporter over HTTP takes what precedes the colon for the scheme; the one over gRPC "
    "speaks TLS.",
    "export {variable}={correct!q}",
)
PATH_TWICE: Final = Trap(
    "otlp-path-twice",
    "{variable}={endpoint}: the exporter appends /v1/{signal}, and sends to {url}",
    "OTEL_EXPORTER_OTLP_ENDPOINT is the base of all signals; the endpoint of one signal "
    "(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is used as it is.",
    "export {variable}={correct!q}",
)
PATH_MISSING: Final = Trap(
    "otlp-path-missing",
    "{variable}={endpoint} has no path, and is used as it is: {reason}",
    "The endpoint of one signal needs its path; only OTEL_EXPORTER_OTLP_ENDPOINT gets one.",
    "export {variable}={correct!q}",
)
GRPC_PORT: Final = Trap(
    "otlp-grpc-port",
    "{variable}={endpoint}: 4317 is the port of gRPC, but {signals} are sent by {protocol}: "
    "{reason}",
    _LOST,
    "export {variable}={correct!q} # or: export OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
)
HTTP_PORT: Final = Trap(
    "otlp-http-port",
    "{variable}={endpoint}: 4318 is the port of HTTP, but {signals} are sent by gRPC: {reason}",
    _LOST,
    "export {variable}={correct!q} # or: export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
)
WRONG_PROTOCOL: Final = Trap(
    "otlp-other-protocol",
    "{variable}={endpoint} is there, but does not speak {protocol}: {reason}",
    _LOST,
    "export OTEL_EXPORTER_OTLP_PROTOCOL={other} # or the port for {protocol} in {variable}",
)
UNREACHABLE: Final = Trap(
    "otlp-unreachable",
    "{variable}={endpoint} cannot be reached for {signals}: {reason}",
    _LOST,
    "export {variable}={correct!q} # or start the Collector there",
)
PROXY: Final = Trap(
    "otlp-proxy",
    "{variable}={endpoint} cannot be reached for {signals} through the proxy {reason}",
    _LOST,
    "export no_proxy={host!q} # beside what it has; or correct http_proxy, https_proxy or "
    "all_proxy (also in capitals)",
)
TLS_TO_PLAIN: Final = Trap(
    "otlp-https-to-http",
    "{variable}={endpoint} speaks no TLS: {reason}",
    _LOST,
    "export {variable}={correct!q}",
)
PLAIN_TO_TLS: Final = Trap(
    "otlp-http-to-https",
    "{variable}={endpoint} speaks TLS only: {reason}",
    _LOST,
    "export {variable}={correct!q}",
)
CERTIFICATE: Final = Trap(
    "otlp-certificate",
    "the certificate of {variable}={endpoint} is not accepted: {reason}",
    _LOST,
    "export OTEL_EXPORTER_OTLP_CERTIFICATE=/path/of/its/ca.pem",
)
CERTIFICATE_FILE: Final = Trap(
    "otlp-certificate-file",
    "{variable}={path} cannot be used: {reason}",
    _LOST,
    "export {variable}=/path/of/a/file.pem # that this user may read",
)
CREDENTIALS: Final = Trap(
    "otlp-credentials",
    "{variable}={endpoint} refuses {signals}: {reason}",
    _LOST,
    "export OTEL_EXPORTER_OTLP_HEADERS='authorization=Bearer%20TOKEN' # as its vendor documents",
)
REFUSED: Final = Trap(
    "otlp-refused",
    "{variable}={endpoint} does not accept {signals} at {url}: {reason}",
    _LOST,
    "curl -i -H 'Content-Type: application/json' -d '{{}}' {url!q} # an OTLP receiver answers with "
    "200; its log may say why this one does not",
)

ROWS: Final = (
    *(PROTOCOL, HEADERS, SCHEME, PATH_TWICE, PATH_MISSING, GRPC_PORT, HTTP_PORT, WRONG_PROTOCOL),
    *(UNREACHABLE, PROXY, TLS_TO_PLAIN, PLAIN_TO_TLS),
    *(CERTIFICATE, CERTIFICATE_FILE, CREDENTIALS, REFUSED),
)
