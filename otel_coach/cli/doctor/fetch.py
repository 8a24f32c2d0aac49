"""Reads the page of a running service. Its content is untrusted."""

from __future__ import annotations

import http.client
import re
import shlex
import ssl
import time
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from errno import ETIMEDOUT
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from otel_coach.cli.doctor.traps import page as traps
from otel_coach.cli.terminal import reason_of
from otel_coach.core.urls import basic_credentials
from otel_coach.metrics.catalogue import ERRORS

if TYPE_CHECKING:
    from collections.abc import Generator
    from urllib.parse import SplitResult

    from otel_coach.core.traps import Finding

PROMETHEUS_OPTION: Final = "--prometheus"
"""The option whose address is that of a Prometheus, not of a page."""
_PATH: Final = "/metrics"
"""The page's path, unless OTEL_COACH_METRICS_PATH changes it."""
MAX_SECONDS: Final = 10.0
"""Seconds in which the page must have been read completely."""
MAX_BYTES: Final = 96 << 20
"""The largest page that is read."""
_MAX_TEXT: Final = 200
"""Characters of a server's text that are printed."""
_TIMEOUT: Final = 5.0
"""Seconds that connecting may take."""
NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
"""OpenSSL's reasons where a server answers without TLS."""
_OURS: Final = re.compile(rf"^{ERRORS.prometheus_name}[ {{]", re.MULTILINE)
_SHOWN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#@]*@)?([^/?#@]*)([^?#@]*)(?:[?#][^@]*)?", re.IGNORECASE
)
"""A URL in which a password cannot be mistaken for another part."""


class PageError(Exception):
    """The page cannot be read; `finding` says why, and what to do."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Fetched(NamedTuple):
    """A page, and by how much its server's clock differs."""

    text: str
    content_type: str
    skew: float | None
    """Seconds by which the server's clock is ahead of this one's; None if it sends no date."""


def shown(url: str) -> str:
    """Returns `url` without the parts that may be secret: user, password, query and fragment."""
    match = _SHOWN.fullmatch(url)
    return "".join(match.groups()) if match is not None else "that address"


def is_ours(text: str) -> bool:
    """Whether a page has otel-coach's families."""
    return _OURS.search(text) is not None


def excerpt(text: str, token: str | None) -> str:
    """Returns the beginning of a server's text, without the token, which the server may repeat."""
    text = text.replace(token, "TOKEN") if token else text
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def fetched(url: str, token: str | None, option: str = "--url") -> Fetched:
    """Returns the page at `url`; sends `token` there, and nowhere else.

    Uses no proxy and follows no redirect: both would get the token.

    Raises:
        PageError: there is no page; the finding says why, and names the `option` with the address.
        Exception: what reading an untrusted answer raises.
    """
    before, until = time.time(), time.monotonic() + MAX_SECONDS
    with answered(url, token, option, MAX_SECONDS) as answer:
        skew = _skew(answer.getheader("date"), before, time.time())
        if answer.status != HTTPStatus.OK:
            raise PageError(_refused(url, answer, token, option))
        content = b"".join(_body_of(answer, until))
        content_type = answer.getheader("content-type") or ""
    if len(content) > MAX_BYTES:
        kind = f"more than {MAX_BYTES >> 20} MB"
        raise PageError(traps.NOT_METRICS.found(url=shown(url), kind=kind))
    return Fetched(content.decode(errors="replace"), content_type, skew)


@contextmanager
def answered(
    url: str, token: str | None, option: str, seconds: float
) -> Generator[http.client.HTTPResponse]:
    """Yields the answer to a GET of `url`, whose body is not read yet.

    It may take `seconds` to begin, and so may each further part.

    Raises:
        PageError: `url` is no address of http or https.
    """
    connection, target, headers = _connection(url, token, option)
    try:
        _connect(connection)
        connection.sock.settimeout(seconds)
        connection.request("GET", target, headers=headers)
        yield connection.getresponse()
    finally:
        connection.close()


def unreadable(url: str, error: Exception) -> Finding:
    """Returns the finding for an answer that could not be read."""
    return traps.UNREACHABLE.found(url=shown(url), reason=why_unreadable(error, MAX_SECONDS))


def why_unreadable(error: Exception, seconds: float) -> str:
    """Returns why an answer could not be read, for which there were so many `seconds`."""
    if isinstance(error, TimeoutError) and not error.strerror:
        return f"it was not read completely within {seconds:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        if error.reason in NO_TLS:
            return "it speaks no TLS; is it http:// instead of https://?"
        return f"the TLS handshake fails ({error.reason or type(error).__name__})"
    return reason_of(error)


def _body_of(answer: http.client.HTTPResponse, until: float) -> Generator[bytes]:
    """Yields the body of `answer`, at most a little more than MAX_BYTES.

    Raises:
        TimeoutError: it is incomplete at `until`, by `time.monotonic`; a server may drip.
    """
    size = 0
    while size <= MAX_BYTES and (part := answer.read1(1 << 16)):
        if time.monotonic() > until:
            raise TimeoutError
        size += len(part)
        yield part


def _connection(
    url: str, token: str | None, option: str
) -> tuple[http.client.HTTPConnection, str, dict[str, str | bytes]]:
    parts, port = _parts(url, option)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers: dict[str, str | bytes] = {
        "User-Agent": "otel-coach",
        "Connection": "close",
        "Accept": "text/plain",
    }
    if token:
        headers["Authorization"] = b"Bearer " + token.encode(errors="surrogateescape")
    elif login := basic_credentials(parts):
        headers["Authorization"] = login
    target = parts.path or "/"
    target = f"{target}?{parts.query}" if parts.query else target
    return kind(parts.hostname or "", port, timeout=_TIMEOUT), target, headers


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except TimeoutError as error:
        if error.strerror:  # the system's own limit
            raise
        raise TimeoutError(ETIMEDOUT, f"no connection within {_TIMEOUT:g} s") from None


def _parts(url: str, option: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        problem = f"{shown(url)} cannot be read; check its host and port"
        raise PageError(_no_address(option, problem)) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        path = "" if option == PROMETHEUS_OPTION else _PATH
        problem = f"takes http://host:port{path} or https://..., and nothing else"
        raise PageError(_no_address(option, problem))
    return parts, port


def _no_address(option: str, problem: str) -> Finding:
    example = f"http://localhost:8000{_PATH}"
    if option == PROMETHEUS_OPTION:
        example = "http://localhost:9090"
    return traps.ADDRESS.found(option=option, problem=problem, example=example)


def _cure_of_missing(where: str, option: str) -> str:
    port = "with OTEL_EXPORTER_PROMETHEUS_PORT, the page is on that port"
    if urlsplit(where).path.rstrip("/").endswith(_PATH):
        return (
            "opentelemetry-instrument uvicorn app:app # or name the page's path, if "
            f"OTEL_COACH_METRICS_PATH is set; {port}"
        )
    there = shlex.quote(f"{where.rstrip('/')}{_PATH}")
    return f"{option} {there} # or the path of OTEL_COACH_METRICS_PATH; {port}"


def _refused(url: str, answer: http.client.HTTPResponse, token: str | None, option: str) -> Finding:
    status, where = answer.status, shown(url)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        to = excerpt(shown(urljoin(url, answer.headers.get("location", ""))), token)
        return traps.REDIRECTED.found(url=where, where=to, option=option)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        trap = traps.TOKEN_WRONG if token else traps.TOKEN_MISSING
        return trap.found(url=where, status=status)
    if status == HTTPStatus.NOT_FOUND:
        return traps.MISSING.found(url=where, cure=_cure_of_missing(where, option))
    if status == HTTPStatus.MISDIRECTED_REQUEST:
        return traps.LOCAL_ONLY.found(url=where, status=status)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:  # its body is otel-coach's text with the cure
        body = excerpt(answer.read(_MAX_TEXT).decode(errors="replace").strip(), token)
        reason = body or "no reason is given"
        return traps.UNAVAILABLE.found(url=where, status=status, reason=reason)
    return traps.STATUS.found(url=where, status=status)


def _skew(date: str | None, before: float, after: float) -> float | None:
    """Returns by how many seconds the server's clock is ahead, at least; 0 within the tolerance.

    The header has whole seconds, and was written at some moment between `before` and `after`.
    """
    if date is None:
        return None
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    if theirs > after:
        return theirs - after
    return min(0.0, theirs + 1 - before)
