"""The page as an ASGI answer."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from prometheus_client.exposition import choose_encoder, gzip_accepted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from prometheus_client import CollectorRegistry

    Scope = MutableMapping[str, Any]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class MetricsEndpoint:
    """Answers GET and HEAD on `path` with the families of `registry`.

    Content-negotiated: Prometheus text 0.0.4 or OpenMetrics 1.0, gzip if accepted. Collecting
    and rendering happen in a thread, so the event loop goes on serving.
    """

    def __init__(self, registry: CollectorRegistry, path: str) -> None:
        self._registry = registry
        self._path = path
        self._threads: CapacityLimiter | None = None

    def answers(self, scope: Scope, root_path: str) -> bool:
        """Whether the request, to an application below `root_path`, is for this page."""
        path: str = scope["path"]
        below = path.removeprefix(root_path)
        return scope["method"] in {"GET", "HEAD"} and self._path in {path, below}

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Send the page."""
        accept = _header(scope["headers"], b"accept")
        encode, content_type = choose_encoder(accept)
        headers = [
            (b"content-type", content_type.encode()),
            (b"vary", b"accept, accept-encoding"),
        ]
        # Threads of our own: the application's may all be busy, which one wants to see then.
        self._threads = self._threads or CapacityLimiter(2)
        body = await to_thread.run_sync(encode, self._registry, limiter=self._threads)
        if gzip_accepted(_header(scope["headers"], b"accept-encoding")):
            headers.append((b"content-encoding", b"gzip"))
            body = await to_thread.run_sync(gzip.compress, body, 1, limiter=self._threads)
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # The server leaves the body of an answer to HEAD out.
        await send({"type": "http.response.body", "body": body})


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)
