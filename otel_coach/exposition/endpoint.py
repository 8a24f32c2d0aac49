"""The page as an ASGI answer."""

from __future__ import annotations

import gzip
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from prometheus_client.exposition import gzip_accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from otel_coach.exposition.page import Page

    Scope = MutableMapping[str, Any]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class MetricsEndpoint:
    """Answers GET and HEAD on `path` with `page`.

    Content-negotiated: Prometheus text 0.0.4 or OpenMetrics 1.0, gzip if accepted. Collecting
    and rendering happen in a thread, so the event loop goes on serving. With a `token`, only who
    bears it (RFC 6750) is answered.
    """

    def __init__(self, page: Page, path: str, token: str | None = None) -> None:
        self._page = page
        self._path = path
        self._token = token
        self._threads: CapacityLimiter | None = None

    def answers(self, scope: Scope, root_path: str) -> bool:
        """Whether the request, to an application below `root_path`, is for this page."""
        path: str = scope["path"]
        below = path.removeprefix(root_path)
        return scope["method"] in {"GET", "HEAD"} and self._path in {path, below}

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Send the page."""
        if not is_allowed(self._token, _header(scope["headers"], b"authorization")):
            await _send(send, 401, [(b"www-authenticate", b"Bearer")], b"")
            return
        # Threads of our own: the application's may all be busy, which one wants to see then.
        self._threads = self._threads or CapacityLimiter(2)
        accept = _header(scope["headers"], b"accept")
        render = self._page.render
        body, content_type = await to_thread.run_sync(render, accept, limiter=self._threads)
        headers = [
            (b"content-type", content_type.encode()),
            (b"vary", b"accept, accept-encoding"),
        ]
        if gzip_accepted(_header(scope["headers"], b"accept-encoding")):
            headers.append((b"content-encoding", b"gzip"))
            body = await to_thread.run_sync(gzip.compress, body, 1, limiter=self._threads)
        await _send(send, 200, headers, body)


def is_allowed(token: str | None, authorization: str) -> bool:
    """Whether the header `authorization` bears `token`; always where there is none to bear."""
    if token is None:
        return True
    scheme, _, given = authorization.partition(" ")
    # Compared as a whole, in the same time whatever is wrong with it.
    same = compare_digest(given.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    # The server leaves the body of an answer to HEAD out.
    await send({"type": "http.response.body", "body": body})


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)
