"""The page on a port of its own, by prometheus_client's own server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

_logger = logging.getLogger("otel_coach")


def serve(registry: CollectorRegistry, host: str, port: int) -> Callable[[], None]:
    """Serve `registry` on `host`:`port` in a daemon thread; the function returned stops it.

    A port that is taken is one line in the log; the service goes on without the page.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, ValueError) as error:  # a UnicodeError is one too: a host that is none
        _logger.error(  # noqa: TRY400 - one line with the cure, no traceback
            "otel-coach: OTEL_EXPORTER_PROMETHEUS_HOST=%s with OTEL_EXPORTER_PROMETHEUS_PORT=%d "
            "cannot be used (%s); there is no page for Prometheus. Choose a free port, or unset "
            "both to serve the page inside the application.",
            host,
            port,
            error,
        )
        return lambda: None
    _logger.info("otel-coach: metrics on http://%s:%d/metrics", host, server.server_port)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1)

    return stop
