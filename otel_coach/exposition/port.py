"""The page on a port of its own, by prometheus_client's server."""

from __future__ import annotations

import logging
from time import sleep
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, start_http_server

from otel_coach.exposition.answer import UNAUTHORIZED, is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.simple_server import WSGIServer

    from otel_coach.exposition.renders import Renders

_logger = logging.getLogger("otel_coach")

_PAUSE: Final = 0.1
"""Seconds until a connection is asked for again that could not be accepted."""


def serve(renders: Renders, host: str, port: int, token: str | None = None) -> Callable[[], None]:
    """Serve the page on `host`:`port` in a daemon thread; the function returned stops it.

    A port that is taken is one line in the log; the service goes on without the page.
    """
    try:
        server, thread = start_http_server(port, host, CollectorRegistry())
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
    server.set_app(_application(renders, token))
    _pause_where_nobody_can_connect(server)
    _logger.info("otel-coach: metrics on http://%s:%d/metrics", host, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1)

    return stop


def _pause_where_nobody_can_connect(server: WSGIServer) -> None:
    # Without a descriptor for it a connection stays in the queue, and the server would ask for it
    # again at once, and again.
    accept = server.get_request

    def get_request() -> Any:
        try:
            return accept()
        except OSError:
            sleep(_PAUSE)
            raise

    server.get_request = get_request


def _application(renders: Renders, token: str | None) -> Callable[..., Iterable[bytes]]:
    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = UNAUTHORIZED
        if is_allowed(token, environ.get("HTTP_AUTHORIZATION", "")):
            accept, encodings = (
                environ.get(name, "") for name in ("HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING")
            )
            found = renders.answer(accept, encodings)
        start_response(f"{found.status.value} {found.status.phrase}", list(found.headers))
        return [found.body]

    return respond
