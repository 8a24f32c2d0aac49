"""The HTTP server of the page's own port; clients cannot exhaust its threads or its sockets.

One thread serves all connections, and their number is limited. Each serves one request, which must
arrive soon and whose answer must be read soon. If there are too many, the connection that least
looks like a scraper's is closed, so that a new one is always accepted.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_coach.core.forks import in_each_child
from otel_coach.core.guard import OwnThread
from otel_coach.prometheus.http.http_response import BUSY, FAILED, text_answer
from otel_coach.prometheus.http.request_head import BadRequestError, read_head
from otel_coach.workers.log_once import NO_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.prometheus.http.bandwidth import Bandwidth
    from otel_coach.prometheus.http.http_response import Answer
    from otel_coach.prometheus.http.request_head import RequestHead
    from otel_coach.prometheus.http.shared_renders import Ticket

_MAX_CONNECTIONS: Final = 32
_MAX_HEAD: Final = 16 << 10
"""Bytes; Prometheus sends about 400."""
_MAX_ASKING: Final = 5.0
"""Seconds from the connection to the end of the request's head."""
_MAX_TAKING: Final = 10.0
"""Seconds until the client has read the answer; Prometheus' default timeout for a whole scrape."""
_MAX_LEAVING: Final = 1.0
"""Seconds until the client closes the connection after the answer."""
_PAUSE: Final = 0.1
"""Seconds between a failure to accept a connection and the next attempt."""
_END: Final = b"\r\n\r\n"


class PageHandler(Protocol):
    """Answers requests for the page."""

    def immediate_answer(self, head: RequestHead) -> Answer | None:
        """Returns the response if it takes no rendering: an error, or the page for a browser.

        None if the page has to be rendered. It is called in the server's thread.
        """
        ...

    def ask(self, head: RequestHead, ready: Callable[[], object]) -> Ticket | None:
        """Requests the page; None if too many requests wait. `ready` runs in another thread."""
        ...

    @property
    def bandwidth(self) -> Bandwidth:
        """The bandwidth that all pages share."""
        ...


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    address: str
    is_waiting: bool = False
    """Whether the client waits for the page to be rendered."""


class PageServer:
    """Serves `page` to the clients that connect to `listener`, from `start` to `stop`.

    Args:
        page: answers the requests.
        listener: a listening socket.
        fault: called with each fault in the server, and its place.

    Raises:
        OSError: no descriptor is left for an event loop.
    """

    def __init__(
        self,
        page: PageHandler,
        listener: socket.socket,
        fault: Callable[[BaseException, str], None],
    ) -> None:
        self._page = page
        self._listener = listener
        self._fault = fault
        listener.settimeout(0)
        # A loop of its own, independent of the host's event loop policy.
        self._loop = asyncio.SelectorEventLoop()
        self._open: dict[asyncio.Task[None], _Connection] = {}
        """The open connections, the oldest first."""
        self._thread = OwnThread(self._run, "otel-coach-port", fault)
        # A forked child would keep the port: after the end of this process, clients would connect
        # to it, and nobody would answer.
        in_each_child(self._listener.close)

    def start(self) -> None:
        """Starts the server's thread.

        Raises:
            RuntimeError: no thread can be started.
        """
        try:
            self._thread.start()
        except BaseException:
            self._loop.close()
            raise

    def stop(self) -> None:
        """Stops listening and closes all connections; waits at most a second for the thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(1)

    def _stop(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    def _run(self) -> None:
        with self._listener, asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().set_exception_handler(self._report)
            with suppress(asyncio.CancelledError):
                runner.run(self._accept())

    def _report(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if (raised := context.get("exception")) is not None:
            self._fault(raised, "PageServer")

    async def _accept(self) -> None:
        while True:
            try:
                connected, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                # Without a descriptor, the connection stays in the queue, and each further
                # `sock_accept` would fail immediately. An idle client may hold the descriptor.
                if error.errno in NO_DESCRIPTOR:
                    self._make_room()
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._open) >= _MAX_CONNECTIONS:
                self._make_room()
            self._open_one(_Connection(connected, address[0]))
            # Lets other tasks run, to read the new connection and to close an evicted one: while
            # connections are queued, `sock_accept` returns without letting any task run.
            await asyncio.sleep(0)

    def _open_one(self, connection: _Connection) -> None:
        task = self._loop.create_task(self._serve(connection))
        self._open[task] = connection

        def close(task: asyncio.Task[None]) -> None:
            self._open.pop(task, None)
            connection.socket.close()

        task.add_done_callback(close)

    def _make_room(self) -> None:
        """Closes the connection that least looks like a scraper's.

        That is the oldest connection that is not waiting for the page, of the address with the most
        connections; if all of these are waiting, the oldest.
        """
        if not self._open:
            return
        per_address = Counter(connection.address for connection in self._open.values())

        def suspicion(task: asyncio.Task[None]) -> tuple[int, bool]:
            connection = self._open[task]
            return per_address[connection.address], not connection.is_waiting

        evicted = max(self._open, key=suspicion)
        del self._open[evicted]
        evicted.cancel()

    async def _serve(self, connection: _Connection) -> None:
        with suppress(OSError):  # the client disconnected, or was too slow (TimeoutError)
            async with asyncio.timeout(_MAX_ASKING):
                data = await self._head(connection.socket)
            method, found = await self._answer(data, connection)
            if found.status == HTTPStatus.OK:  # errors are short, and always sent at once
                await self._page.bandwidth.until_free(len(found.body), asyncio.sleep)
            connection.is_waiting = False
            async with asyncio.timeout(_MAX_TAKING):
                await self._loop.sock_sendall(connection.socket, _head_of(found))
                if method != "HEAD":
                    await self._loop.sock_sendall(connection.socket, found.body)
            connection.socket.shutdown(socket.SHUT_WR)
            # Closing a socket with unread data resets the connection; the answer may be lost.
            async with asyncio.timeout(_MAX_LEAVING):
                while await self._loop.sock_recv(connection.socket, 4096):
                    pass

    async def _head(self, connected: socket.socket) -> bytes | None:
        """Returns the bytes before the first empty line; None if there are too many."""
        data = bytearray()
        while (end := data.find(_END)) < 0:
            if not (left := _MAX_HEAD - len(data)):
                return None
            piece = await self._loop.sock_recv(connected, left)
            if not piece:
                raise ConnectionResetError
            data += piece
        return bytes(data[:end])

    async def _answer(self, data: bytes | None, connection: _Connection) -> tuple[str, Answer]:
        """Returns the request's method, and the response."""
        if data is None:
            text = f"the request has more than {_MAX_HEAD} bytes"
            return "", text_answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        try:
            head = read_head(data)
        except BadRequestError:
            return "", text_answer(HTTPStatus.BAD_REQUEST, "this is not an HTTP/1.1 request")
        found = self._page.immediate_answer(head)
        if found is None:
            connection.is_waiting = True
            found = await self._make(head)
        return head.method, found

    async def _make(self, head: RequestHead) -> Answer:
        """Returns the page, which another thread renders for all requests that wait for it."""
        made: asyncio.Future[None] = self._loop.create_future()

        def ready() -> None:
            if not made.done():
                made.set_result(None)

        ticket = self._page.ask(head, lambda: self._loop.call_soon_threadsafe(ready))
        if ticket is None:
            return BUSY
        try:
            await made
        finally:
            ticket.is_gone = True
        try:
            return ticket.found()
        except BaseException as raised:  # noqa: BLE001 - the server's thread must go on
            self._fault(raised, "PageServer")
            return FAILED


def _head_of(answer: Answer) -> bytes:
    headers = [
        *answer.headers,
        ("content-length", str(len(answer.body))),
        ("date", formatdate(usegmt=True)),
        ("connection", "close"),
    ]
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1")
