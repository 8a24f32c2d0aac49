"""One page for all who wait for it.

A page costs what is on it, whoever asks. So it is made by one thread, one page at a time, each for
all who asked for its format before it was begun: it has all that was answered before they asked.
Nobody makes this process do more than that, however often it is asked.
"""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from otel_coach.exposition.answer import BUSY, answer, unavailable
from otel_coach.exposition.bandwidth import Bandwidth
from otel_coach.exposition.negotiation import accepts_gzip, format_of
from otel_coach.forks import in_each_child
from otel_coach.guards import OwnThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.exposition.answer import Answer
    from otel_coach.exposition.application_page import ApplicationPage
    from otel_coach.exposition.page import Page

    Own = Callable[[], ApplicationPage]
    _Wanted = tuple[str, bool, Own | None]
    """A format, whether it is compressed, and the application's own page."""

_MOST_WAITING: Final = 500
"""Who comes later is told to come again."""
_SHARE: Final = 0.2
"""Of the time, which pages may take for long."""
_AT_ONCE: Final = 1.0
"""Seconds of work that may be done without a pause; they are earned again by not being used."""
_LONGEST_PAUSE: Final = 0.5
"""Seconds: Prometheus, too, waits for it."""


class Ticket:
    """Of one who waits.

    Args:
        ready: called in the thread that made the page, when it is there.
    """

    def __init__(self, ready: Callable[[], object]) -> None:
        self.ready = ready
        self.is_gone = False
        """The client has left: nothing is made for it alone."""
        self._found: Answer | None = None
        self._fault: BaseException | None = None

    def found(self) -> Answer:
        """What was made.

        Raises:
            BaseException: what making it raised.
        """
        if self._fault is not None:
            raise self._fault
        return self._found or BUSY

    def end(self, found: Answer | None, fault: BaseException | None) -> None:
        """It was made, or making it raised `fault`."""
        self._found, self._fault = found, fault
        self.ready()


class Renders:
    """The pages of this process that are waited for.

    Args:
        page: what is rendered.
        fault: told of what fails in the thread that makes them, beside the page itself.
    """

    def __init__(self, page: Page, fault: Callable[[BaseException, str], None]) -> None:
        self._page = page
        self._fault = fault
        self._begin_anew()
        in_each_child(self._begin_anew)

    def _begin_anew(self) -> None:
        self.bandwidth = Bandwidth()
        """Of all answers with a page."""
        self._lock = threading.Lock()
        self._waiting: dict[_Wanted, list[Ticket]] = {}
        """By what they wait for, the longest first."""
        self._is_working = False
        self._credit, self._credited = _AT_ONCE, monotonic()

    def ask(
        self,
        accept: str,
        accept_encoding: str,
        ready: Callable[[], object],
        own: Own | None = None,
    ) -> Ticket | None:
        """Wait for a page; None where too many do.

        With a page of the application's `own`, nobody else can have the same.
        """
        wanted = (format_of(accept), accepts_gzip(accept_encoding), own)
        ticket = Ticket(ready)
        with self._lock:
            if sum(map(len, self._waiting.values())) >= _MOST_WAITING:
                return None
            self._waiting.setdefault(wanted, []).append(ticket)
            if self._is_working:
                return ticket
            self._is_working = True
        try:
            OwnThread(self._work, "otel-coach-page", self._fault).start()
        except RuntimeError:  # no thread is left
            self._give_up()
            return None
        return ticket

    def unavailable(self, error: OSError) -> Answer:
        """The answer where no page can be made because of `error`."""
        return unavailable(self._page, error)

    def _work(self) -> None:
        try:
            while (wanted := self._next()) is not None:
                self._pause()
                with self._lock:
                    waiting = self._waiting.pop(wanted)
                if all(ticket.is_gone for ticket in waiting):
                    continue
                began = monotonic()
                self._make(wanted, waiting)
                self._credit -= monotonic() - began
        except BaseException:
            self._give_up()
            raise

    def _next(self) -> _Wanted | None:
        with self._lock:
            self._is_working = bool(self._waiting)
            return next(iter(self._waiting), None)

    def _make(self, wanted: _Wanted, waiting: list[Ticket]) -> None:
        accept, gzip, own = wanted
        found, fault = None, None
        try:
            found = answer(self._page, accept, gzip=gzip, own=None if own is None else own())
        except BaseException as raised:  # noqa: BLE001 - it is raised where it is waited for
            fault = raised
        for ticket in waiting:
            self._tell(ticket, found, fault)

    def _pause(self) -> None:
        now = monotonic()
        earned = _SHARE * (now - self._credited)
        self._credit, self._credited = min(_AT_ONCE, self._credit + earned), now
        if self._credit < 0:
            sleep(min(-self._credit / _SHARE, _LONGEST_PAUSE))

    def _tell(self, ticket: Ticket, found: Answer | None, fault: BaseException | None) -> None:
        try:
            ticket.end(found, fault)
        except RuntimeError:
            pass  # its event loop has ended, and who waited with it
        except BaseException as raised:  # noqa: BLE001 - the others wait, too
            self._fault(raised, "Renders")

    def _give_up(self) -> None:
        with self._lock:
            self._is_working = False
            waiting, self._waiting = self._waiting, {}
        for tickets in waiting.values():
            for ticket in tickets:
                self._tell(ticket, None, None)
