"""Renders one page for all requests that wait for it.

The cost of a page depends on its content, not on the request. So one thread renders one page at a
time. Each page answers all requests for its format that came before its rendering began. So it has
the figures of every response that the application sent before the page was requested. A page that
includes the application's own page is rendered for one request only. However many requests there
are, this process never renders two pages at the same time.
"""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from otel_coach.core.forks import in_each_child
from otel_coach.core.guard import OwnThread
from otel_coach.prometheus.http.bandwidth import Bandwidth
from otel_coach.prometheus.http.http_response import (
    FAILED,
    answer,
    unavailable,
    without_thread,
)
from otel_coach.prometheus.negotiation import accepts_gzip, format_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.prometheus.application_page import ApplicationPage
    from otel_coach.prometheus.http.http_response import Answer
    from otel_coach.prometheus.page_renderer import PageRenderer

    Own = Callable[[], ApplicationPage]
    _Wanted = tuple[str, bool, Own | None]
    """The format, whether it is compressed, and what returns the application's own page."""

_MAX_WAITING: Final = 500
"""Requests; further ones get a 503."""
_SHARE: Final = 0.2
"""The share of the time that rendering may take in the long run, if `_MAX_PAUSE` is long enough."""
_AT_ONCE: Final = 1.0
"""Seconds of rendering without a pause, after a time in which little was rendered."""
_MAX_PAUSE: Final = 0.5
"""Seconds; a scrape by Prometheus has to wait for this pause too."""


class Ticket:
    """A request that waits for a page.

    Args:
        ready: called in the rendering thread when the page is rendered.
    """

    def __init__(self, ready: Callable[[], object]) -> None:
        self.ready = ready
        self.is_gone = False
        """Whether the client has disconnected: no page is rendered for it alone."""
        self._found: Answer | None = None
        self._fault: BaseException | None = None

    def found(self) -> Answer:
        """Returns the response.

        Raises:
            BaseException: what rendering raised.
        """
        if self._fault is not None:
            raise self._fault
        return self._found or FAILED

    def end(self, found: Answer | None, fault: BaseException | None) -> None:
        """Ends the wait with the response, or with the `fault` that rendering raised."""
        self._found, self._fault = found, fault
        self.ready()


class Renders:
    """Renders the page of this process for the requests that wait for it.

    Args:
        page: the page to render.
        fault: called with exceptions in the rendering thread, other than those of rendering.
    """

    def __init__(self, page: PageRenderer, fault: Callable[[BaseException, str], None]) -> None:
        self._page = page
        self._fault = fault
        self._reset()
        in_each_child(self._reset)

    def _reset(self) -> None:
        self.bandwidth = Bandwidth()
        """Shared by all responses with a page."""
        self._lock = threading.Lock()
        self._waiting: dict[_Wanted, list[Ticket]] = {}
        """The tickets by the page that they wait for, in the order of the first requests."""
        self._is_working = False
        self._credit, self._credited = _AT_ONCE, monotonic()

    def ask(
        self,
        accept: str,
        accept_encoding: str,
        ready: Callable[[], object],
        own: Own | None = None,
    ) -> Ticket | None:
        """Returns a ticket for the page; None if too many requests wait.

        If no thread can be started for it, the ticket has the response that says so. A page that
        includes the application's `own` is never shared with other requests.
        """
        wanted = (format_of(accept), accepts_gzip(accept_encoding), own)
        ticket = Ticket(ready)
        with self._lock:
            if sum(map(len, self._waiting.values())) >= _MAX_WAITING:
                return None
            self._waiting.setdefault(wanted, []).append(ticket)
            if self._is_working:
                return ticket
            self._is_working = True
        try:
            OwnThread(self._work, "otel-coach-page", self._fault).start()
        except RuntimeError as error:
            self._give_up(without_thread(self._page, error))
        return ticket

    def unavailable(self, error: OSError) -> Answer:
        """Returns the response if no page can be rendered because of `error`."""
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
                # The debt is limited. A larger one would not lengthen any pause, which is
                # _MAX_PAUSE at most, but more pages would have to wait for one.
                self._credit = max(-_AT_ONCE, self._credit - (monotonic() - began))
        except BaseException:
            self._give_up(FAILED)
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
        except BaseException as raised:  # noqa: BLE001 - raised again by `Ticket.found`
            fault = raised
        for ticket in waiting:
            self._end(ticket, found, fault)

    def _pause(self) -> None:
        now = monotonic()
        earned = _SHARE * (now - self._credited)
        self._credit, self._credited = min(_AT_ONCE, self._credit + earned), now
        if self._credit < 0:
            sleep(min(-self._credit / _SHARE, _MAX_PAUSE))

    def _end(self, ticket: Ticket, found: Answer | None, fault: BaseException | None) -> None:
        try:
            ticket.end(found, fault)
        except RuntimeError:
            pass  # the event loop of the request has ended
        except BaseException as raised:  # noqa: BLE001 - other tickets have to be served too
            self._fault(raised, "Renders")

    def _give_up(self, found: Answer) -> None:
        with self._lock:
            self._is_working = False
            waiting, self._waiting = self._waiting, {}
        for tickets in waiting.values():
            for ticket in tickets:
                self._end(ticket, found, None)
