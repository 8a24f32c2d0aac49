"""The page on a port of its own, by the standard library's server."""

from __future__ import annotations

import logging
import socket
import threading
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from otel_coach.exposition.endpoint import is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_coach.exposition.page import Page

_logger = logging.getLogger("otel_coach")


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing: a scrape is no news."""


def serve(page: Page, host: str, port: int, token: str | None = None) -> Callable[[], None]:
    """Serve `page` on `host`:`port` in a daemon thread; the function returned stops it.

    A port that is taken is one line in the log; the service goes on without the page.
    """
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        server = type("_Server", (_Server,), {"address_family": family})((host, port), _Quiet)
    except (OSError, ValueError, OverflowError) as error:
        # A UnicodeError is a ValueError: a host that is none.
        _logger.error(  # noqa: TRY400 - one line with the cure, no traceback
            "otel-coach: OTEL_EXPORTER_PROMETHEUS_HOST=%s with OTEL_EXPORTER_PROMETHEUS_PORT=%d "
            "cannot be used (%s); there is no page for Prometheus. Choose a free port, or unset "
            "both to serve the page inside the application.",
            host,
            port,
            error,
        )
        return lambda: None
    server.set_app(_application(page, token))
    thread = threading.Thread(
        target=server.serve_forever, args=(0.1,), name="otel-coach-port", daemon=True
    )
    thread.start()
    _logger.info("otel-coach: metrics on http://%s:%d/metrics", host, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1)

    return stop


def _application(page: Page, token: str | None) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not is_allowed(token, environ.get("HTTP_AUTHORIZATION", "")):
            start_response(_line(HTTPStatus.UNAUTHORIZED), [("WWW-Authenticate", "Bearer")])
            return [b""]
        body, content_type = page.render(environ.get("HTTP_ACCEPT", ""))
        start_response(_line(HTTPStatus.OK), [("Content-Type", content_type)])
        return [body]

    return answer


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"
