"""Sends an empty export by gRPC, and says what the answer means."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_coach.cli.doctor.otlp_outcome import ExportFailure, Outcome
from otel_coach.cli.terminal import reason_of

if TYPE_CHECKING:
    from otel_coach.cli.doctor.otlp_targets import Target

_TIMEOUT: Final = 4.0
"""Seconds for the whole call."""
_SERVICES: Final = {
    "traces": "trace.v1.Trace",
    "metrics": "metrics.v1.Metrics",
    "logs": "logs.v1.Logs",
}
_OF_CODES: Final = {
    "UNAUTHENTICATED": ExportFailure.CREDENTIALS,
    "PERMISSION_DENIED": ExportFailure.CREDENTIALS,
}
_OF_DETAILS: Final = (
    (("dns", "name resolution"), ExportFailure.UNREACHABLE, "its host is not known (DNS)"),
    (("refused",), ExportFailure.UNREACHABLE, "connection refused; nothing listens there"),
    (
        ("verify_failed", "unable to get local issuer"),
        ExportFailure.CERTIFICATE,
        "no authority that is known here has signed it",
    ),
    (
        ("ssl_error_ssl", "wrong_version_number", "handshake", "tls"),
        ExportFailure.NO_TLS,
        "it does not answer a TLS handshake",
    ),
    (
        ("http1.x", "settings frame", "protocol error", "socket closed", "reset", "end of file"),
        ExportFailure.PROTOCOL,
        "it does not speak HTTP/2",
    ),
)
"""Words of grpcio's details, in lower case, and what they mean.

Whatever prevents a connection, the status is UNAVAILABLE; only the details tell more.
"""


def send(target: Target) -> Outcome:
    """Sends an empty request of the signal of `target`, through the package grpcio."""
    grpc: Any = import_module("grpc")
    try:
        # Names of gRPC's own have no host after the slashes: unix:///run/otlp.sock.
        place = target.parts.netloc.rpartition("@")[2] or target.endpoint
        channel = (
            grpc.secure_channel(place, _credentials(grpc, target))
            if target.uses_tls
            else grpc.insecure_channel(place)
        )
    except (OSError, ValueError) as error:
        return Outcome(ExportFailure.UNREACHABLE, reason_of(error))
    service = f"/opentelemetry.proto.collector.{_SERVICES[target.signal]}Service/Export"
    with channel:
        export = channel.unary_unary(service)  # bytes to bytes: no bytes are an empty message
        try:
            export(b"", timeout=_TIMEOUT, metadata=target.headers)
        except grpc.RpcError as error:
            return _meaning(error.code().name, str(error.details() or ""), target)
        except (TypeError, ValueError) as error:
            return Outcome(
                ExportFailure.CREDENTIALS, f"its headers cannot be sent ({type(error).__name__})"
            )
    return Outcome(None, "")


def _credentials(grpc: Any, target: Target) -> Any:
    content = {part: Path(path).read_bytes() for part, path in target.files.items()}
    return grpc.ssl_channel_credentials(
        content.get("CERTIFICATE"), content.get("CLIENT_KEY"), content.get("CLIENT_CERTIFICATE")
    )


def _meaning(code: str, details: str, target: Target) -> Outcome:
    if (failure := _OF_CODES.get(code)) is not None:
        return Outcome(failure, code)
    if code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        return Outcome(ExportFailure.REFUSED, code)
    for words, failure, reason in _OF_DETAILS:
        applies = failure is not ExportFailure.NO_TLS or target.uses_tls
        if applies and any(word in details.lower() for word in words):
            return Outcome(failure, reason)
    is_late = code == "DEADLINE_EXCEEDED"
    return Outcome(ExportFailure.UNREACHABLE, "no answer in time" if is_late else code)
