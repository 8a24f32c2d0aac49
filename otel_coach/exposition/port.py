"""The page on a port of its own: who is let in there, and what for."""

from __future__ import annotations

import logging
import re
import socket
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.exposition.answer import UNAUTHORIZED, is_allowed, plain
from otel_coach.exposition.page_server import PageServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.exposition.answer import Answer
    from otel_coach.exposition.renders import Renders, Ticket
    from otel_coach.exposition.request_head import RequestHead

_logger = logging.getLogger("otel_coach")

_BACKLOG: Final = 512
"""Connections that wait to be accepted."""
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::\d*)?")


class Address(NamedTuple):
    """Where the page is served."""

    host: str
    port: int
    path: str = "/metrics"
    """/metrics is answered too: on a port of its own that is what scrapers are told to ask for."""


def serve(
    renders: Renders,
    address: Address,
    token: str | None,
    fault: Callable[[BaseException, str], None],
) -> Callable[[], None]:
    """Serve the page at `address` in a daemon thread; the function returned stops it.

    A port that is taken is one line in the log; the service goes on without the page.
    """
    try:
        listener = _listen(address)
        try:
            door = _Door(renders, address, token, is_local=_is_local(listener))
            server = PageServer(door, listener, fault)
            server.start()
        except BaseException:
            listener.close()
            raise
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        # A UnicodeError is a ValueError: a host that is none. No thread is a RuntimeError.
        _logger.error(  # noqa: TRY400 - one line with the cure, no traceback
            "otel-coach: OTEL_EXPORTER_PROMETHEUS_HOST=%s with OTEL_EXPORTER_PROMETHEUS_PORT=%d "
            "cannot be used (%s); there is no page for Prometheus. Choose a free port, or unset "
            "both to serve the page inside the application.",
            address.host,
            address.port,
            error,
        )
        return lambda: None
    port = listener.getsockname()[1]
    _logger.info("otel-coach: metrics on http://%s:%d%s", address.host, port, address.path)
    return server.stop


def _listen(address: Address) -> socket.socket:
    """A socket at the first address that the host has."""
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, where = found[0]
    return socket.create_server(
        where,
        family=family,
        backlog=_BACKLOG,
        # `::` is every address of the machine, as it is for other servers.
        dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
    )


def _is_local(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


class _Door:
    """Who gets the page, by the head of a request."""

    def __init__(
        self, renders: Renders, address: Address, token: str | None, *, is_local: bool
    ) -> None:
        self._renders = renders
        self._token = token
        self._paths = {f"{path}{end}" for path in ("/metrics", address.path) for end in ("", "/")}
        named = f"[{address.host}]" if ":" in address.host else address.host
        self._hosts = {"localhost", "127.0.0.1", "[::1]", named.lower()} if is_local else None
        """A browser that was told that a stranger's name is at 127.0.0.1 asks for that name."""

    def refusal(self, head: RequestHead) -> Answer | None:
        """Why this request gets no page, if so."""
        if self._hosts is not None and not all(map(self._is_ours, head.hosts)):
            text = "only this machine is served; ask for localhost (OTEL_EXPORTER_PROMETHEUS_HOST)"
            return plain(HTTPStatus.MISDIRECTED_REQUEST, text)
        if head.path not in self._paths:
            return plain(HTTPStatus.NOT_FOUND, "the page is at /metrics")
        if head.method not in {"GET", "HEAD"}:
            text = "the page can only be read"
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, text, ("allow", "GET, HEAD"))
        if not is_allowed(self._token, head.get("authorization")):
            return UNAUTHORIZED
        return None

    def seconds_until_sent(self, size: int) -> float:
        """How long an answer of so many bytes has to wait for those before it."""
        return self._renders.bandwidth.seconds_until(size)

    def ask(self, head: RequestHead, ready: Callable[[], object]) -> Ticket | None:
        """Wait for the page as it is asked for; None where too many do."""
        return self._renders.ask(head.get("accept"), head.get("accept-encoding"), ready)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and found[1].lower() in (self._hosts or ())
