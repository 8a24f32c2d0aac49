"""The page on a port of its own, by prometheus_client's server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server

from otel_coach.exposition.answer import UNAUTHORIZED, answer, is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_coach.exposition.page import Page

_logger = logging.getLogger("otel_coach")


def serve(page: Page, host: str, port: int, token: str | None = None) -> Callable[[], None]:
    """Serve `page` on `host`:`port` in a daemon thread; the function returned stops it.

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
    server.set_app(_application(page, token))
    _logger.info("otel-coach: metrics on http://%s:%d/metrics", host, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1)

    return stop


def _application(page: Page, token: str | None) -> Callable[..., Iterable[bytes]]:
    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = UNAUTHORIZED
        if is_allowed(token, environ.get("HTTP_AUTHORIZATION", "")):
            accept, encodings = (
                environ.get(name, "") for name in ("HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING")
            )
            found = answer(page, accept, encodings)
        start_response(f"{found.status.value} {found.status.phrase}", list(found.headers))
        return [found.body]

    return respond
