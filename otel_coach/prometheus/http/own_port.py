"""Serves the page on a port of its own, and decides which requests get it."""

from __future__ import annotations

import logging
import re
import socket
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_coach.core.traps import PORT, cure_of_port
from otel_coach.core.urls import host_in_url
from otel_coach.prometheus.http.browser_page import for_browser
from otel_coach.prometheus.http.http_response import UNAUTHORIZED, is_allowed, text_answer
from otel_coach.prometheus.http.http_server import PageServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_coach.prometheus.http.bandwidth import Bandwidth
    from otel_coach.prometheus.http.http_response import Answer
    from otel_coach.prometheus.http.request_head import RequestHead
    from otel_coach.prometheus.http.shared_renders import Renders, Ticket

_logger = logging.getLogger("otel_coach")

_BACKLOG: Final = 512
"""Connections that can wait to be accepted."""
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::\d*)?")


class Address(NamedTuple):
    """Where the page is served."""

    host: str
    port: int
    path: str = "/metrics"
    """The page is served here and at /metrics, the path that scrapers expect on such a port."""


def serve(
    renders: Renders,
    address: Address,
    token: str | None,
    fault: Callable[[BaseException, str], None],
    chosen: Callable[[str], None] | None = None,
) -> Callable[[], None] | None:
    """Serves the page at `address` in a daemon thread; returns a function that stops it.

    If the system chooses the port, `chosen` is called with the URL of the page.

    If the address cannot be used, logs one line, and returns None: the service goes on without
    the page.
    """
    try:
        listener = listen(address.host, address.port)
        try:
            page = _ProtectedPage(renders, address, token, is_local=_is_local(listener))
            server = PageServer(page, listener, fault)
            server.start()
        except BaseException:
            listener.close()
            raise
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        # ValueError: the UnicodeError of an invalid host. RuntimeError: no thread can be started.
        cure = cure_of_port(error)
        line = PORT.found(host=address.host, port=address.port, reason=error, cure=cure)
        _logger.error("otel-coach: %s", line)  # noqa: TRY400 - one line with the cure, no traceback
        return None
    port = listener.getsockname()[1]
    host = host_in_url(address.host)
    url = f"http://{host}:{port}{address.path}"
    _logger.info("otel-coach: metrics on %s", url)
    if address.port == 0 and chosen is not None:
        chosen(url)
    return server.stop


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens at the host's first address.

    Raises:
        OSError: the host is not known, or the port cannot be had.
        ValueError, OverflowError: the host or the port is invalid.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return socket.create_server(
        address,
        family=family,
        backlog=_BACKLOG,
        # `::` means every address of the machine, IPv4 included, as for other servers.
        dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
    )


def _is_local(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


class _ProtectedPage:
    """The page, for the requests that may have it."""

    def __init__(
        self, renders: Renders, address: Address, token: str | None, *, is_local: bool
    ) -> None:
        self._renders = renders
        self._token = token
        self._paths = {f"{path}{end}" for path in ("/metrics", address.path) for end in ("", "/")}
        named = host_in_url(address.host).lower()
        self._hosts = {"localhost", "127.0.0.1", "[::1]", named} if is_local else None
        """The Host headers that are accepted on a loopback address; None accepts all.

        This prevents DNS rebinding: a browser in which an attacker's name resolves to 127.0.0.1
        sends that name.
        """

    def immediate_answer(self, head: RequestHead) -> Answer | None:
        """Returns an error, or the page for a browser; None if the page has to be rendered."""
        if self._hosts is not None and not all(map(self._is_accepted, head.hosts)):
            text = (
                "only this machine is served, by the name localhost; to serve others, set "
                "OTEL_EXPORTER_PROMETHEUS_HOST to another address"
            )
            return text_answer(HTTPStatus.MISDIRECTED_REQUEST, text)
        if head.path not in self._paths:
            return text_answer(HTTPStatus.NOT_FOUND, "the page is at /metrics")
        if head.method not in {"GET", "HEAD"}:
            text = "the page can only be read"
            return text_answer(HTTPStatus.METHOD_NOT_ALLOWED, text, ("allow", "GET, HEAD"))
        may_read = is_allowed(self._token, head.get("authorization"))
        page = for_browser(head.get("accept"), head.query, is_allowed=may_read)
        if page is not None:
            return page
        return None if may_read else UNAUTHORIZED

    @property
    def bandwidth(self) -> Bandwidth:
        """The bandwidth that all pages share."""
        return self._renders.bandwidth

    def ask(self, head: RequestHead, ready: Callable[[], object]) -> Ticket | None:
        """Requests the page in the format that `head` accepts; None if too many requests wait."""
        return self._renders.ask(head.get("accept"), head.get("accept-encoding"), ready)

    def _is_accepted(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and found[1].lower() in (self._hosts or ())
