"""The HTTP server of the page's own port: strangers can fill neither its threads nor its sockets.

One thread holds all connections, of which there are few. Each is for one request, which must be
there soon, and whose answer must be taken soon. Where there are too many, the one that looks most
like a stranger's makes room, so that a new one is always let in.
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

from otel_coach.exposition.answer import BUSY, plain
from otel_coach.exposition.request_head import BadRequestError, read_head
from otel_coach.guards import OwnThread
from otel_coach.workers.outage import NO_DESCRIPTOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.exposition.answer import Answer
    from otel_coach.exposition.renders import Ticket
    from otel_coach.exposition.request_head import RequestHead

_MAX_CONNECTIONS: Final = 32
_MAX_HEAD: Final = 16 << 10
"""Bytes. Prometheus sends some 400."""
_LONGEST_ASKING: Final = 5.0
"""Seconds from the connection to the end of the request's head."""
_LONGEST_TAKING: Final = 10.0
"""Seconds until the answer is taken; Prometheus' own default for all of it."""
_LONGEST_LEAVING: Final = 1.0
"""Seconds until the client hangs up."""
_PAUSE: Final = 0.1
"""Seconds until a connection is asked for again that could not be accepted."""
_END: Final = b"\r\n\r\n"


class Page(Protocol):
    """What is served."""

    def refusal(self, head: RequestHead) -> Answer | None:
        """Why this request gets no page, if so. Asked in the thread that holds the connections."""
        ...

    def ask(self, head: RequestHead, ready: Callable[[], object]) -> Ticket | None:
        """Wait for the page; `ready` is called in another thread. None where too many wait."""
        ...

    def seconds_until_sent(self, size: int) -> float:
        """How long an answer of so many bytes has to wait for those before it."""
        ...


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    address: str
    is_waiting: bool = False
    """Whether its answer is not sent yet: the client has done its part."""


class PageServer:
    """Answers requests for `page` that come to `listener`, from `start` to `stop`.

    Args:
        page: what is served.
        listener: a socket that listens.
        fault: told of what fails in us.

    Raises:
        OSError: no descriptor is left for an event loop.
    """

    def __init__(
        self,
        page: Page,
        listener: socket.socket,
        fault: Callable[[BaseException, str], None],
    ) -> None:
        self._page = page
        self._listener = listener
        self._fault = fault
        listener.settimeout(0)
        # Of its own, whatever loop the host's policy makes.
        self._loop = asyncio.SelectorEventLoop()
        self._open: dict[asyncio.Task[None], _Connection] = {}
        """By age, the oldest first."""
        self._thread = OwnThread(self._run, "otel-coach-port", fault)
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Let nobody in any more, and hang up; waits a second for the thread at most."""
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
                # Without a descriptor for it a connection stays in the queue, and would be asked
                # for at once again, and again. A stranger may have the one that is missing.
                if error.errno in NO_DESCRIPTOR:
                    self._make_room()
                await asyncio.sleep(_PAUSE)
                continue
            if len(self._open) >= _MAX_CONNECTIONS:
                self._make_room()
            self._open_one(_Connection(connected, address[0]))
            # Not before it was read from, and the one that made room has closed: where many
            # wait in the queue, `sock_accept` alone would let no other task run.
            await asyncio.sleep(0)

    def _open_one(self, connection: _Connection) -> None:
        task = self._loop.create_task(self._serve(connection))
        self._open[task] = connection

        def close(task: asyncio.Task[None]) -> None:
            self._open.pop(task, None)
            connection.socket.close()

        task.add_done_callback(close)

    def _make_room(self) -> None:
        """Hang up on one: of the address that has most, one that is not waiting, the oldest."""
        if not self._open:
            return
        of_address = Counter(one.address for one in self._open.values())

        def is_strange(task: asyncio.Task[None]) -> tuple[int, bool]:
            connection = self._open[task]
            return of_address[connection.address], not connection.is_waiting

        victim = max(self._open, key=is_strange)
        del self._open[victim]
        victim.cancel()

    async def _serve(self, connection: _Connection) -> None:
        with suppress(OSError):  # it left, or was too slow, which is a TimeoutError
            async with asyncio.timeout(_LONGEST_ASKING):
                data = await self._head(connection.socket)
            method, found = await self._answer(data, connection)
            if seconds := self._page.seconds_until_sent(len(found.body)):
                await asyncio.sleep(seconds)
            connection.is_waiting = False
            async with asyncio.timeout(_LONGEST_TAKING):
                await self._loop.sock_sendall(connection.socket, _head_of(found))
                if method != "HEAD":
                    await self._loop.sock_sendall(connection.socket, found.body)
            connection.socket.shutdown(socket.SHUT_WR)
            # A socket that is closed with something unread takes the answer back.
            async with asyncio.timeout(_LONGEST_LEAVING):
                while await self._loop.sock_recv(connection.socket, 4096):
                    pass

    async def _head(self, connected: socket.socket) -> bytes | None:
        """The first bytes up to an empty line; None if they are too many."""
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
        """The method and what is answered."""
        if data is None:
            text = f"the request has more than {_MAX_HEAD} bytes"
            return "", plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        try:
            head = read_head(data)
        except BadRequestError:
            return "", plain(HTTPStatus.BAD_REQUEST, "this is no request by HTTP/1.1")
        found = self._page.refusal(head)
        if found is None:
            connection.is_waiting = True
            found = await self._make(head)
        return head.method, found

    async def _make(self, head: RequestHead) -> Answer:
        """The page, which a thread makes for all who wait for it."""
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
        except BaseException as raised:  # noqa: BLE001 - it goes no further in this thread
            self._fault(raised, "PageServer")
            text = "the page failed; the service's log, or otel_coach_errors_total, has more"
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, text)


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
