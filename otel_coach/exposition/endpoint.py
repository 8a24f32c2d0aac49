"""The page inside the application, by ASGI."""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from otel_coach.exposition.answer import BUSY, UNAUTHORIZED, Answer, is_allowed
from otel_coach.exposition.application_page import (
    ApplicationPage,
    NotPrometheusError,
    may_be_prometheus,
)
from otel_coach.exposition.bandwidth import PIECE
from otel_coach.guards import guarded_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from otel_coach.exposition.renders import Renders
    from otel_coach.recorder import Recorder

    Message = MutableMapping[str, Any]
    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Ask = Callable[[Scope, Receive, Send], Awaitable[None]]

_logger = logging.getLogger("otel_coach")

_MAX_BODY: Final = 1 << 26
"""Bytes of an application's own page; a longer answer is passed on as it comes."""
_OF_ITS_BODY: Final = frozenset({b"content-length", b"content-type", b"etag"})
"""Headers of the application's own body, which is another one with ours."""


class MetricsEndpoint:
    """Answers GET and HEAD on `path` with the page; where there is a `token`, who bears it.

    Collecting and rendering happen in a thread, so the event loop goes on serving.
    """

    def __init__(
        self, renders: Renders, path: str, recorder: Recorder, token: str | None = None
    ) -> None:
        self._renders = renders
        self.path = path
        self.recorder = recorder
        self.suffixes = path, f"{path}/"
        """One of which every path has that the page is asked for under."""
        self._token = token
        self._is_said = False

    def answers(self, scope: Scope, root_path: str) -> bool:
        """Whether the request, to an application with this `root_path`, is for this page."""
        path: str = scope["path"]
        below = path.removeprefix(root_path)
        return scope["method"] in {"GET", "HEAD"} and (
            path in self.suffixes or below in self.suffixes
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the page of an application that has none of its own."""
        if not self._allows(scope):
            await _send(send, UNAUTHORIZED)
            return
        found = await self._answer(scope, receive)
        if found is not None:
            await self.send(receive, send, found)

    async def send(
        self,
        receive: Receive,
        send: Send,
        found: Answer,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Send a page in pieces, no faster than all together may be, while the client stays."""
        if found.status != HTTPStatus.OK:  # one line, and perhaps no descriptor for an import
            await _send(send, found, more)
            return
        from otel_coach.exposition import waiting  # noqa: PLC0415 - it is there since `_answer`

        body, bandwidth = found.body, self._renders.bandwidth

        async def pieces() -> None:
            for begin in range(0, len(body) or 1, PIECE):
                end = begin + PIECE
                if seconds := bandwidth.seconds_until(min(end, len(body)) - begin):
                    await waiting.sleep(seconds)
                message = {"type": "http.response.body", "body": body[begin:end]}
                await send({**message, "more_body": end < len(body)})

        await _start(send, found, more)
        await waiting.unless_the_client_leaves(receive, pieces)

    async def beside(self, ask: Ask, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the application for its own page, and send that with ours on it.

        What the application refuses stays refused, and what is no page stays as it is.
        """
        headers = [row for row in scope["headers"] if row[0].lower() != b"accept-encoding"]
        asked = _Asked(self, scope, receive, send)
        try:
            await ask({**scope, "headers": headers}, receive, asked.send)
        finally:
            await asked.pass_on()  # an answer that was never completed

    @guarded_async  # the application's own page is there without ours, too
    async def with_ours(
        self, scope: Scope, receive: Receive, content_type: str, body: bytes
    ) -> Answer | None:
        """Its page and ours; None where ours is not to be shown."""
        if not self._allows(scope):
            return None
        try:
            return await self._answer(scope, receive, partial(ApplicationPage, content_type, body))
        except NotPrometheusError as error:
            self.say_left_alone(str(error))
            return None

    def say_left_alone(self, why: str) -> None:
        """One line for the operator, who looks for our families there."""
        if not self._is_said:
            self._is_said = True
            _logger.warning(
                "otel-coach: the application's own %s is no page for Prometheus (%s) and is left "
                "as it is; set OTEL_COACH_METRICS_PATH to another path for otel-coach's families",
                self.path,
                why,
            )

    def _allows(self, scope: Scope) -> bool:
        return is_allowed(self._token, _header(scope["headers"], b"authorization"))

    async def _answer(
        self, scope: Scope, receive: Receive, own: Callable[[], ApplicationPage] | None = None
    ) -> Answer | None:
        """None where the client left. `own` is called in the thread: a large page takes time."""
        accept, accept_encoding = (
            _header(scope["headers"], name) for name in (b"accept", b"accept-encoding")
        )
        try:
            from otel_coach.exposition import waiting  # noqa: PLC0415 - needs what Starlette brings
        except OSError as error:  # no descriptor is left to import it
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


class _Asked:
    """Takes the application's answer, and passes it on, with ours where it is a page."""

    def __init__(
        self, endpoint: MetricsEndpoint, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._endpoint = endpoint
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held: list[Message] = []
        """Messages that wait until the body is complete."""
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
        """Send what was held back, as the application sent it."""
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def _may_be_page(self, start: Message) -> bool:
        start["headers"] = headers = [*start.get("headers", ())]
        if start["status"] != HTTPStatus.OK or self._scope["method"] == "HEAD":
            return False
        self._content_type = _header(headers, b"content-type")
        if may_be_prometheus(self._content_type) and not _header(headers, b"content-encoding"):
            return True
        self._endpoint.say_left_alone(self._content_type or "it has no content type")
        return False

    async def _finish(self) -> None:
        body = b"".join(message.get("body", b"") for message in self._held)
        found = await self._endpoint.with_ours(self._scope, self._receive, self._content_type, body)
        if found is None:
            await self.pass_on()
            return
        start, self._held = self._held[0], []
        kept = [row for row in start["headers"] if row[0].lower() not in _OF_ITS_BODY]
        await self._endpoint.send(self._receive, self._send, found, kept)


async def _send(send: Send, found: Answer, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    await _start(send, found, more)
    await send({"type": "http.response.body", "body": found.body})


async def _start(send: Send, found: Answer, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in found.headers]
    headers.append((b"content-length", str(len(found.body)).encode()))
    headers.extend(more)
    # The server leaves the body of an answer to HEAD out.
    await send({"type": "http.response.start", "status": found.status.value, "headers": headers})


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)
