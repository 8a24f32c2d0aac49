"""The page as an HTTP answer, whatever server gives it."""

from __future__ import annotations

import gzip
from hmac import compare_digest
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.exposition import gzip_accepted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_coach.exposition.page import Page


class Answer(NamedTuple):
    """What a server has to send."""

    status: HTTPStatus
    headers: Sequence[tuple[str, str]]
    body: bytes


UNAUTHORIZED = Answer(HTTPStatus.UNAUTHORIZED, [("www-authenticate", "Bearer")], b"")


def answer(page: Page, accept: str, accept_encoding: str) -> Answer:
    """Content-negotiated: Prometheus text 0.0.4 or OpenMetrics 1.0, gzip if accepted."""
    body, content_type = page.render(accept)
    headers = [("content-type", content_type), ("vary", "accept, accept-encoding")]
    if gzip_accepted(accept_encoding):
        headers.append(("content-encoding", "gzip"))
        body = gzip.compress(body, 1)
    return Answer(HTTPStatus.OK, headers, body)


def is_allowed(token: str | None, authorization: str) -> bool:
    """Whether the header `authorization` bears `token` (RFC 6750); always where there is none."""
    if token is None:
        return True
    scheme, _, given = authorization.partition(" ")
    # Compared as a whole, in the same time whatever is wrong with it.
    same = compare_digest(given.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"
