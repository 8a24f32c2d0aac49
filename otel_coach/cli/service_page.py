"""Reads the metrics page of a running service. Its content is untrusted."""

from __future__ import annotations

import http.client
import re
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urljoin, urlsplit

from prometheus_client.parser import text_string_to_metric_families

from otel_coach.metrics.catalogue import ERRORS, LABEL_OVERFLOW, LLM_UNMEASURED, LOST

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

LONGEST: Final = 10.0
"""Seconds in which the page must have been read completely."""
_MAX_BYTES: Final = 32 << 20
"""More than the page of a service with the maximum number of series."""
_MAX_FINDINGS: Final = 100
_MAX_TEXT: Final = 200
"""Characters of a server's text that are printed."""
_TIMEOUT: Final = 5.0
"""Seconds that connecting and each read may take."""

_CURES: Final = {
    LABEL_OVERFLOW.prometheus_name: "raise OTEL_COACH_BUDGET_..., or find what makes up new values",
    ERRORS.prometheus_name: "a fault of otel-coach itself; the log has its place, please report it",
    LOST.prometheus_name: "spans_queue_full: spans are made faster than the back end accepts them, "
    "sample fewer (OTEL_TRACES_SAMPLER); otherwise the back end rejects them, is unreachable or "
    "too slow: see its log and OTEL_EXPORTER_OTLP_...",
    LLM_UNMEASURED.prometheus_name: "no_usage: let the model report usage (stream_usage=True); "
    "no_price: add the model to OTEL_COACH_PRICES",
}
_OURS: Final = re.compile(rf"(?:# (?:TYPE|HELP) )?(?:{'|'.join(_CURES)})[ {{]", re.ASCII)

_SHOWN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#@]*@)?([^/?#@]*)([^?#@]*)(?:[?#][^@]*)?", re.IGNORECASE
)
"""A URL in which a password cannot be mistaken for another part."""


class PageError(Exception):
    """The page cannot be read; the message says why, and what to do."""


def shown(url: str) -> str:
    """Returns `url` without the parts that may be secret: user, password, query and fragment."""
    found = _SHOWN.fullmatch(url)
    return "".join(found.groups()) if found is not None else "that address"


def findings(url: str, token: str | None) -> Iterator[str]:
    """Yields the problems that the page at `url` reports; sends `token` there, and nowhere else.

    Raises:
        PageError: The page cannot be read, or is not otel-coach's.
    """
    lines = [line for line in _fetched(url, token).split("\n") if _OURS.match(line)]
    if not any(line.startswith(ERRORS.prometheus_name) for line in lines):
        message = (
            f"{shown(url)} answers, but not with otel-coach's page; is this its address, and "
            "does the service run under otel-coach?"
        )
        raise PageError(message)
    count = 0
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            if sample.name not in _CURES or not sample.value:
                continue
            count += 1
            if count <= _MAX_FINDINGS:
                labels = " ".join(f"{key}={value}" for key, value in sample.labels.items())
                finding = f"{sample.name} {_quoted(labels, token)}: {sample.value:g}"
                yield f"{finding} ({_CURES[sample.name]})"
    if count > _MAX_FINDINGS:
        yield f"{shown(url)} has {count - _MAX_FINDINGS} more like these"


def _fetched(url: str, token: str | None) -> str:
    """Returns the page's text. Uses no proxy and follows no redirect: both would get the token."""
    connection, target, headers = _connection(url, token)
    try:
        connection.request("GET", target, headers=headers)
        answer = connection.getresponse()
        if answer.status != HTTPStatus.OK:
            raise PageError(_refused(url, answer, token))
        content = answer.read(_MAX_BYTES + 1)
    finally:
        connection.close()
    if len(content) > _MAX_BYTES:
        message = f"{shown(url)} answers with more than {_MAX_BYTES >> 20} MB; is this its page?"
        raise PageError(message)
    return content.decode(errors="replace")


def _connection(
    url: str, token: str | None
) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    parts, port = _parts(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"User-Agent": "otel-coach", "Connection": "close", "Accept": "text/plain"}
    credentials, at, _ = parts.netloc.rpartition("@")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif at:
        headers["Authorization"] = f"Basic {b64encode(unquote(credentials).encode()).decode()}"
    target = parts.path or "/"
    target = f"{target}?{parts.query}" if parts.query else target
    return kind(parts.hostname or "", port, timeout=_TIMEOUT), target, headers


def _parts(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        message = f"--url {shown(url)} cannot be read; check its host and port"
        raise PageError(message) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = "--url takes http://host:port/metrics or https://..., and nothing else"
        raise PageError(message)
    return parts, port


def _refused(url: str, answer: http.client.HTTPResponse, token: str | None) -> str:
    status = answer.status
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        where = _quoted(shown(urljoin(url, answer.headers.get("location", ""))), token)
        return (
            f"{shown(url)} redirects to {where}, which is not followed; give that address to --url "
            "if you trust it"
        )
    cure = "is the service running under otel-coach, and is this its page?"
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        cure = "it requires a token: set OTEL_COACH_METRICS_TOKEN here as for the service"
        if token:
            cure = "the service has another OTEL_COACH_METRICS_TOKEN"
    elif status == HTTPStatus.MISDIRECTED_REQUEST:
        cure = "use localhost, or let the service listen on another address"
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:  # its body is otel-coach's text with the cure
        body = answer.read(_MAX_TEXT).decode(errors="replace").strip()
        cure = _quoted(body, token) or cure
    return f"{shown(url)} answers with {status}; {cure}"


def _quoted(text: str, token: str | None) -> str:
    """Returns a server's text without the token, which the server knows and may repeat."""
    text = text.replace(token, "TOKEN") if token else text
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
