"""The page as an HTTP answer, whatever server gives it."""

from __future__ import annotations

import logging
from gzip import compress
from hmac import compare_digest
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.workers.outage import RESTART, cure, reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_coach.exposition.application_page import ApplicationPage
    from otel_coach.exposition.page import Page

_logger = logging.getLogger("otel_coach")


class Answer(NamedTuple):
    """What a server has to send."""

    status: HTTPStatus
    headers: Sequence[tuple[str, str]]
    body: bytes


_NOT_KEPT: Final = ("cache-control", "no-store")
"""No cache between may show the page later, or to those who have no token."""
_TEXT: Final = [("content-type", "text/plain; charset=utf-8"), _NOT_KEPT]

UNAUTHORIZED: Final = Answer(
    HTTPStatus.UNAUTHORIZED, [("www-authenticate", "Bearer"), _NOT_KEPT], b""
)


def plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    """One line instead of the page."""
    return Answer(status, [*_TEXT, *headers], f"otel-coach: {text}\n".encode())


BUSY: Final = plain(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too many wait for this page. Ask again in a second, and less often.",
    ("retry-after", "1"),
)


def answer(
    page: Page, accept: str, *, gzip: bool = False, own: ApplicationPage | None = None
) -> Answer:
    """Content-negotiated: Prometheus text or OpenMetrics 1.0, compressed by `gzip` if wanted.

    The application's `own` page comes after ours, in the format that it has.
    """
    try:
        body, content_type = page.render(accept, own)
    except OSError as error:
        return unavailable(page, error)
    if page.outage.ends():
        _logger.warning("otel-coach: the page for Prometheus is there again")
    headers = [("content-type", content_type), ("vary", "accept, accept-encoding"), _NOT_KEPT]
    if gzip:
        headers.append(("content-encoding", "gzip"))
        body = compress(body, 1)
    return Answer(HTTPStatus.OK, headers, body)


def unavailable(page: Page, error: OSError) -> Answer:
    """No page: one on which counters fell would be worse, and none is noticed."""
    why, what_helps = reason(error), cure(error, RESTART)
    if page.outage.begins():
        _logger.error(
            "otel-coach: there is no page for Prometheus, since not all figures can be read "
            "(%s). %s",
            error,
            what_helps,
        )
    text = f"not all figures can be read ({why}). {what_helps}"
    return plain(HTTPStatus.SERVICE_UNAVAILABLE, text)


def is_allowed(token: str | None, authorization: str) -> bool:
    """Whether the header `authorization` bears `token` (RFC 6750).

    Always where there is none; never where it is empty, which is somebody's mistake.
    """
    if token is None:
        return True
    if not token.strip():
        return False
    scheme, _, given = authorization.partition(" ")
    # Compared as a whole, in the same time whatever is wrong with it.
    same = compare_digest(
        # Servers hand headers over as Latin-1, the system its environment as UTF-8.
        given.strip(" \t").encode("latin-1", "replace"),
        token.encode(errors="surrogateescape"),
    )
    return same and scheme.lower() == "bearer"
