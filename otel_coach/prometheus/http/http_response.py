"""The page as an HTTP response, independent of the server."""

from __future__ import annotations

import logging
from gzip import compress
from hmac import compare_digest
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.workers.log_once import RESTART, cure, reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_coach.prometheus.application_page import ApplicationPage
    from otel_coach.prometheus.page_renderer import PageRenderer

_logger = logging.getLogger("otel_coach")


class Answer(NamedTuple):
    """An HTTP response to send."""

    status: HTTPStatus
    headers: Sequence[tuple[str, str]]
    body: bytes


_NO_STORE: Final = ("cache-control", "no-store")
"""No cache may show the page later, or to a client without the token."""
_TEXT: Final = [("content-type", "text/plain; charset=utf-8"), _NO_STORE]


def text_answer(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    """Returns a response with one line of text instead of the page."""
    return Answer(status, [*_TEXT, *headers], f"otel-coach: {text}\n".encode())


UNAUTHORIZED: Final = text_answer(
    HTTPStatus.UNAUTHORIZED,
    "this page needs the header `Authorization: Bearer TOKEN`, with the OTEL_COACH_METRICS_TOKEN "
    "of the service",
    ("www-authenticate", "Bearer"),
)
_MORE_THREADS: Final = (
    "Raise the limit of threads and processes: ulimit -u of the service's user, or the container's "
    "pids limit"
)
FAILED: Final = text_answer(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "the page failed; the service's log, or otel_coach_errors_total, has more",
)
BUSY: Final = text_answer(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too many wait for this page. Ask again in a second, and less often.",
    ("retry-after", "1"),
)


def answer(
    page: PageRenderer, accept: str, *, gzip: bool = False, own: ApplicationPage | None = None
) -> Answer:
    """Returns the page as Prometheus text or OpenMetrics 1.0, compressed if `gzip`.

    The format is negotiated by the `accept` header. Families that only the application's `own` page
    has come after otel-coach's; if there are any, the format is that of the application's page.
    """
    try:
        body, content_type = page.render(accept, own)
    except OSError as error:
        return unavailable(page, error)
    if page.cannot_read.ends():
        _logger.warning("otel-coach: the page for Prometheus is there again")
    headers = [("content-type", content_type), ("vary", "accept, accept-encoding"), _NO_STORE]
    if gzip:
        headers.append(("content-encoding", "gzip"))
        body = compress(body, 1)
    return Answer(HTTPStatus.OK, headers, body)


def unavailable(page: PageRenderer, error: OSError) -> Answer:
    """Returns the response instead of a page; logs the cause once.

    A page on which counters drop would be worse than none: a failed scrape is noticed.
    """
    return _no_page(page, "not all figures can be read", error, reason(error), cure(error, RESTART))


def without_thread(page: PageRenderer, error: RuntimeError) -> Answer:
    """Returns the response if no thread can be started to render the page; logs it once."""
    return _no_page(page, "no thread can be started", error, str(error), _MORE_THREADS)


def _no_page(page: PageRenderer, why: str, error: Exception, shown: str, what_helps: str) -> Answer:
    """Returns the response, with the error as `shown`; the log has the whole `error`."""
    if page.cannot_read.begins():
        _logger.error(
            "otel-coach: there is no page for Prometheus, since %s (%s). %s",
            why,
            error,
            what_helps,
        )
    return text_answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{why} ({shown}). {what_helps}")


def is_allowed(token: str | None, authorization: str) -> bool:
    """Whether the header `authorization` contains the bearer `token` (RFC 6750).

    Always True if `token` is None. Never True if it is blank, which is a mistake in the settings.
    """
    if token is None:
        return True
    if not token.strip():
        return False
    scheme, _, given = authorization.partition(" ")
    # Compared in constant time, which does not reveal where the difference is.
    same = compare_digest(
        # Servers decode headers as Latin-1; the system decodes the environment as UTF-8.
        given.strip(" \t").encode("latin-1", "replace"),
        token.encode(errors="surrogateescape"),
    )
    return same and scheme.lower() == "bearer"
