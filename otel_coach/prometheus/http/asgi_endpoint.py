"""Serves the page inside the application, by ASGI."""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from otel_coach.core.guard import guarded_async, swallowed
from otel_coach.core.traps import OWN_PAGE
from otel_coach.prometheus.application_page import (
    ApplicationPage,
    NotPrometheusError,
    may_be_prometheus,
)
from otel_coach.prometheus.http.bandwidth import PIECE
from otel_coach.prometheus.http.browser_page import for_browser
from otel_coach.prometheus.http.http_response import BUSY, FAILED, UNAUTHORIZED, Answer, is_allowed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from otel_coach.core.announcement import AnnounceOnce
    from otel_coach.core.asgi_types import Message, Receive, Scope, Send
    from otel_coach.metrics.recorder import Recorder
    from otel_coach.prometheus.http.shared_renders import Renders

    Ask = Callable[[Scope, Receive, Send], Awaitable[None]]

_logger = logging.getLogger("otel_coach")

_MAX_BODY: Final = 1 << 26
"""Bytes of the application's own page; a longer answer is passed through unchanged."""
_OWN_PAGE: Final = (
    "the application has a page of its own at {path}: it is asked first, and otel-coach's families "
    "are added to its answer"
)
_BODY_HEADERS: Final = frozenset({b"content-length", b"content-type", b"etag"})
"""Headers of the application's answer that do not apply to the combined page."""


class MetricsEndpoint:
    """Answers GET and HEAD on `path` with the page; requires the bearer `token` if there is one.

    Collecting and rendering happen in a thread, so that the event loop is not blocked.
    """

    def __init__(
        self,
        renders: Renders,
        path: str,
        recorder: Recorder,
        token: str | None = None,
        announce: AnnounceOnce | None = None,
    ) -> None:
        self._renders = renders
        self.path = path
        self.recorder = recorder
        self.suffixes = path, f"{path}/"
        """Every path at which the page is requested ends with one of these."""
        self._token = token
        self._announce = announce
        self._is_logged = False

    def answers(self, scope: Scope, root_path: str) -> bool:
        """Whether the request is for this page; `root_path` is that of the application."""
        path: str = scope["path"]
        below = path.removeprefix(root_path)
        return scope["method"] in {"GET", "HEAD"} and (
            path in self.suffixes or below in self.suffixes
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the page, for an application that has no page of its own."""
        is_allowed = self._allows(scope)
        accept = _header(scope["headers"], b"accept")
        query = scope.get("query_string", b"").decode("latin-1")
        page = for_browser(accept, query, is_allowed=is_allowed)
        if page is not None:
            await _send(send, page)
            return
        if not is_allowed:
            await _send(send, UNAUTHORIZED)
            return
        try:
            found = await self._answer(scope, receive)
        except BaseException as raised:
            if not swallowed(self, raised, "MetricsEndpoint"):
                raise
            found = FAILED
        if found is not None:
            await self.send(receive, send, found)

    async def send(
        self,
        receive: Receive,
        send: Send,
        found: Answer,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Sends a page in pieces, within the shared bandwidth, until the client disconnects."""
        # A short text is sent without `waiting`: to import it takes a file descriptor, and the text
        # may say that none is left.
        if found.status != HTTPStatus.OK:
            await _send(send, found, more)
            return
        from otel_coach.prometheus.http import waiting  # noqa: PLC0415 - imported by `_answer` before

        body, bandwidth = found.body, self._renders.bandwidth

        async def pieces() -> None:
            for begin in range(0, len(body) or 1, PIECE):
                end = begin + PIECE
                await bandwidth.until_free(min(end, len(body)) - begin, waiting.sleep)
                message = {"type": "http.response.body", "body": body[begin:end]}
                await send({**message, "more_body": end < len(body)})

        await _start(send, found, more)
        await waiting.unless_the_client_leaves(receive, pieces)

    async def beside(self, ask: Ask, scope: Scope, receive: Receive, send: Send) -> None:
        """Asks the application for its own page, and sends that page combined with otel-coach's.

        The application's answer is passed through unchanged if it is an error, an answer to HEAD,
        or not a Prometheus page.
        """
        headers = [row for row in scope["headers"] if row[0].lower() != b"accept-encoding"]
        answer = _CombinedAnswer(self, scope, receive, send)
        try:
            await ask({**scope, "headers": headers}, receive, answer.send)
        finally:
            await answer.pass_on()  # what is kept back, if the answer was never completed

    @guarded_async  # after a fault, the application's own page is sent alone
    async def combined(
        self, scope: Scope, receive: Receive, content_type: str, body: bytes
    ) -> Answer | None:
        """Returns the combined page; None if the application's answer is to be left unchanged."""
        if not self._allows(scope):
            return None
        try:
            found = await self._answer(scope, receive, partial(ApplicationPage, content_type, body))
        except NotPrometheusError as error:
            self.log_left_unchanged(str(error))
            return None
        if self._announce is not None:
            self._announce("own page", partial(_OWN_PAGE.format, path=self.path))
        return found

    def log_left_unchanged(self, why: str) -> None:
        """Logs once that the application's page is left unchanged, and the remedy."""
        if not self._is_logged:
            self._is_logged = True
            _logger.warning("otel-coach: %s", OWN_PAGE.found(path=self.path, reason=why))

    def _allows(self, scope: Scope) -> bool:
        return is_allowed(self._token, _header(scope["headers"], b"authorization"))

    async def _answer(
        self, scope: Scope, receive: Receive, own: Callable[[], ApplicationPage] | None = None
    ) -> Answer | None:
        """Returns the page; None if the client has disconnected.

        `own` is called in the rendering thread, because a large page takes time to parse.
        """
        accept, accept_encoding = (
            _header(scope["headers"], name) for name in (b"accept", b"accept-encoding")
        )
        try:
            from otel_coach.prometheus.http import waiting  # noqa: PLC0415 - needs Starlette's anyio
        except OSError as error:  # no descriptor is left for the import
            return self._renders.unavailable(error)
        is_done, wake = waiting.event()
        ticket = self._renders.ask(accept, accept_encoding, wake, own)
        if ticket is None:
            return BUSY
        try:
            if not await waiting.unless_the_client_leaves(receive, is_done.wait):
                return None
        finally:
            ticket.is_gone = True
        return ticket.found()


class _CombinedAnswer:
    """Passes on the application's answer; adds otel-coach's page if the answer is a page, too."""

    def __init__(
        self, endpoint: MetricsEndpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._endpoint = endpoint
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held: list[Message] = []
        """Messages that are kept back until the body is complete."""
        self._bytes = 0
        self._content_type = ""

    async def send(self, message: Message) -> None:
        kind = message["type"]
        may_hold = self._may_be_page(message) if kind == "http.response.start" else bool(self._held)
        if not may_hold or self._bytes > _MAX_BODY:
            await self.pass_on()
            await self._send(message)
            return
        self._held.append(message)
        self._bytes += len(message.get("body", b""))
        if kind == "http.response.body" and not message.get("more_body", False):
            await self._finish()

    async def pass_on(self) -> None:
        """Sends the messages that were kept back, as the application sent them."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def _may_be_page(self, start: Message) -> bool:
        start["headers"] = headers = [*start.get("headers", ())]
        if start["status"] != HTTPStatus.OK or self._scope["method"] == "HEAD":
            return False
        self._content_type = _header(headers, b"content-type")
        encoding = _header(headers, b"content-encoding")
        if not may_be_prometheus(self._content_type):
            self._endpoint.log_left_unchanged(self._content_type or "it has no content type")
        elif encoding:
            why = f"its content-encoding is {encoding}, although none was asked for"
            self._endpoint.log_left_unchanged(why)
        else:
            return True
        return False

    async def _finish(self) -> None:
        body = b"".join(message.get("body", b"") for message in self._held)
        found = await self._endpoint.combined(self._scope, self._receive, self._content_type, body)
        if found is None:
            await self.pass_on()
            return
        start, self._held = self._held[0], []
        kept = [row for row in start["headers"] if row[0].lower() not in _BODY_HEADERS]
        await self._endpoint.send(self._receive, self._send, found, kept)


async def _send(send: Send, found: Answer, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await _start(send, found, more)
    await send({"type": "http.response.body", "body": found.body})


async def _start(send: Send, found: Answer, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in found.headers]
    headers.append((b"content-length", str(len(found.body)).encode()))
    headers.extend(more)
    # The server omits the body of an answer to HEAD.
    await send({"type": "http.response.start", "status": found.status.value, "headers": headers})


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)
