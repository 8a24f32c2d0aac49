"""Sends an empty export by HTTP, and says what the answer means."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import closing, suppress
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from otel_coach.cli.doctor.fetch import NO_TLS
from otel_coach.cli.doctor.otlp_outcome import ExportFailure, Outcome
from otel_coach.cli.doctor.otlp_targets import JSON
from otel_coach.cli.terminal import reason_of
from otel_coach.configuration.process import process_environment
from otel_coach.core.urls import basic_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from otel_coach.cli.doctor.otlp_targets import Target

_TIMEOUT: Final = 3.0
"""Seconds that connecting and each read may take."""
_MAX_BODY: Final = 4096
_EMPTY: Final = "application/x-protobuf", b""
_EMPTY_JSON: Final = "application/json", b"{}"
_HTTP_2: Final = "\x00\x00"
"""An HTTP/2 server sends a SETTINGS frame first; of its length, the first two bytes are 0."""
_OTLP_TYPES: Final = ("application/x-protobuf", "application/json", "application/grpc")


def send(target: Target) -> Outcome:
    """Sends an empty request of the signal of `target`, which is a valid message.

    As the exporter does, it uses the proxies of the environment. It follows no redirect.
    """
    try:
        with closing(_connection(target)) as connection:
            kind, body = _EMPTY_JSON if target.protocol == JSON else _EMPTY
            headers = {**dict(target.headers), "content-type": kind}
            if login := basic_credentials(target.parts):
                headers["authorization"] = login  # in place of a configured header, as by requests
            if not target.uses_tls:  # else the tunnel has them
                headers |= _proxy_headers(_proxy(target))
            connection.request("POST", _path(target), body=body, headers=headers)
            response = connection.getresponse()
            text = response.read(_MAX_BODY).decode(errors="replace")
            return _meaning(response.status, response.getheader("content-type") or "", text)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _failed(target, error)


def _failed(target: Target, error: Exception) -> Outcome:
    """Returns the outcome of an export to which no readable answer came."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Outcome(ExportFailure.CERTIFICATE, error.verify_message)
    # http.client's RemoteDisconnected is a ConnectionResetError.
    if isinstance(error, (ssl.SSLError, ConnectionResetError)):
        return _broken(target, error)
    if isinstance(error, http.client.BadStatusLine) and str(error.args[0]).startswith(_HTTP_2):
        return Outcome(ExportFailure.PROTOCOL, "it answers in HTTP/2, as gRPC does")
    if isinstance(error, http.client.HTTPException):
        return Outcome(
            ExportFailure.PROTOCOL, f"it does not answer by HTTP ({type(error).__name__})"
        )
    return _not_connected(target, error)


def _not_connected(target: Target, error: Exception) -> Outcome:
    if isinstance(error, ValueError):  # there is no such address
        return Outcome(ExportFailure.UNREACHABLE, reason_of(error))
    if (proxy := _proxy(target)) is not None:
        reason = f"{_without_login(proxy)}: {_why_unreachable(error, proxy)}"
        return Outcome(ExportFailure.PROXY, reason)
    return Outcome(ExportFailure.UNREACHABLE, _why_unreachable(error, target.parts))


def _without_login(url: SplitResult) -> str:
    """Returns the host and the port of `url`, as they stand in it."""
    return url.netloc.rpartition("@")[2]


def _why_unreachable(error: Exception, url: SplitResult) -> str:
    """Returns the reason why there was no connection to `url`, in words."""
    if isinstance(error, socket.gaierror):
        return f"the host {url.hostname} is not known (DNS: {error.strerror})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; nothing listens there"
    return reason_of(error)


def tls_context(files: Mapping[str, str]) -> ssl.SSLContext:
    """Returns the context for the files of a `Target`.

    Raises:
        OSError: one of them cannot be read, or has no certificate or key in it (ssl.SSLError).
    """
    given = files.get("CERTIFICATE") or _bundle_of_requests()
    is_folder = given is not None and Path(given).is_dir()
    context = ssl.create_default_context(
        cafile=None if is_folder else given, capath=given if is_folder else None
    )
    if certificate := files.get("CLIENT_CERTIFICATE"):
        context.load_cert_chain(certificate, files.get("CLIENT_KEY"))
    return context


def _bundle_of_requests() -> str | None:
    """Returns the certificates that the exporter's HTTP client, requests, trusts by default."""
    variables = process_environment()
    if bundle := variables.get("REQUESTS_CA_BUNDLE") or variables.get("CURL_CA_BUNDLE"):
        return bundle
    try:
        certifi: Any = import_module("certifi")  # comes with requests
    except ImportError:
        return None
    return certifi.where()


def _connection(target: Target) -> http.client.HTTPConnection:
    url = target.parts
    host, port = url.hostname or "", url.port
    proxy = _proxy(target)
    to = (proxy.hostname or "", proxy.port) if proxy is not None else (host, port)
    if not target.uses_tls:
        return http.client.HTTPConnection(*to, timeout=_TIMEOUT)
    context = tls_context(target.files)
    connection = http.client.HTTPSConnection(*to, timeout=_TIMEOUT, context=context)
    if proxy is not None:
        connection.set_tunnel(host, port or 443, _proxy_headers(proxy))
    return connection


def _proxy_headers(proxy: SplitResult | None) -> dict[str, str]:
    """Returns the credentials of the proxy's address, as the exporter sends them."""
    login = "" if proxy is None else basic_credentials(proxy)
    return {"Proxy-Authorization": login} if login else {}


def _proxy(target: Target) -> SplitResult | None:
    """Returns the proxy that the exporter's HTTP client, requests, takes for this target."""
    url = target.parts.geturl()
    try:
        requests: Any = import_module("requests.utils")
    except ImportError:  # nor is the exporter installed
        return None
    address = requests.select_proxy(url, requests.get_environ_proxies(url, no_proxy=None))
    return urlsplit(address if "://" in address else f"http://{address}") if address else None


def _path(target: Target) -> str:
    url = target.parts
    path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    if _proxy(target) is not None and not target.uses_tls:
        return f"http://{_without_login(url)}{path}"
    return path


def _broken(target: Target, error: Exception) -> Outcome:
    """Returns the outcome of a connection that ended without an answer."""
    reason = getattr(error, "reason", None) or type(error).__name__
    if target.uses_tls:
        if reason in NO_TLS or _answers_plainly(target):
            return Outcome(ExportFailure.NO_TLS, "it does not answer a TLS handshake")
        return Outcome(ExportFailure.UNREACHABLE, f"the TLS handshake fails ({reason})")
    return Outcome(ExportFailure.PROTOCOL, "it closes the connection without an answer")


def _answers_plainly(target: Target) -> bool:
    """Whether the server speaks HTTP without TLS on this port, and does not ask for HTTPS there.

    No header is sent to it, because of secrets.
    """
    url = target.parts
    with (
        suppress(OSError, http.client.HTTPException, ValueError),
        closing(
            http.client.HTTPConnection(
                url.hostname or "", url.port or http.client.HTTPS_PORT, timeout=_TIMEOUT
            )
        ) as plain,
    ):
        plain.request("OPTIONS", "/")
        response = plain.getresponse()
        return not _asks_for_https(response.status, response.read(_MAX_BODY).decode("latin-1"))
    return False


def _asks_for_https(status: int, body: str) -> bool:
    """Whether a server that speaks TLS only answers a request without it, as Go's and nginx do."""
    return status == HTTPStatus.BAD_REQUEST and "https" in body.lower()


def _meaning(status: int, content_type: str, body: str) -> Outcome:
    kind = content_type.partition(";")[0].strip().lower()
    is_taken = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES  # as the exporter has it
    if is_taken and (not kind or kind in _OTLP_TYPES or not body.strip()):
        return Outcome(None, "")
    reason = f"HTTP status {status}" + (f", {kind}" if is_taken else "")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Outcome(ExportFailure.CREDENTIALS, reason)
    if _asks_for_https(status, body):
        return Outcome(ExportFailure.TLS, f"{reason}: it expects HTTPS")
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        reason += ", which asks the exporter to try again later"
    return Outcome(ExportFailure.REFUSED, reason)
