"""The page inside the application, by ASGI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_coach.exposition.answer import UNAUTHORIZED, Answer, answer, is_allowed, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from anyio import CapacityLimiter

    from otel_coach.exposition.page import Page

    Scope = MutableMapping[str, Any]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class MetricsEndpoint:
    """Answers GET and HEAD on `path` with `page`; where there is a `token`, who bears it.

    Collecting and rendering happen in a thread, so the event loop goes on serving.
    """

    def __init__(self, page: Page, path: str, token: str | None = None) -> None:
        self._page = page
        self.path = path
        self._token = token
        self._threads: CapacityLimiter | None = None

    def answers(self, scope: Scope, root_path: str) -> bool:
        """Whether the request, to an application with this `root_path`, is for this page."""
        path: str = scope["path"]
        below = path.removeprefix(root_path or scope.get("root_path", ""))
        return scope["method"] in {"GET", "HEAD"} and self.path in {path, below}

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Send the page."""
        accept, accept_encoding, authorization = (
            _header(scope["headers"], name)
            for name in (b"accept", b"accept-encoding", b"authorization")
        )
        if not is_allowed(self._token, authorization):
            await _send(send, UNAUTHORIZED)
            return
        try:
            found = await self._answer(accept, accept_encoding)
        except OSError as error:  # no descriptor is left to import what runs threads
            found = unavailable(self._page, error)
        await _send(send, found)

    async def _answer(self, accept: str, accept_encoding: str) -> Answer:
        from anyio import CapacityLimiter, to_thread  # noqa: PLC0415 - Starlette brings it

        # Threads of our own: the application's may all be busy, which one wants to see then.
        self._threads = self._threads or CapacityLimiter(2)
        return await to_thread.run_sync(
            answer, self._page, accept, accept_encoding, limiter=self._threads
        )


async def _send(send: Send, found: Answer) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in found.headers]
    headers.append((b"content-length", str(len(found.body)).encode()))
    await send({"type": "http.response.start", "status": found.status.value, "headers": headers})
    # The server leaves the body of an answer to HEAD out.
    await send({"type": "http.response.body", "body": found.body})


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)
