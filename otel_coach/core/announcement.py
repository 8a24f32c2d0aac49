"""Lines for the operator at level INFO, by the server's logger if it has one.

Without a configuration, Python's logging shows warnings and errors only, but a server configures a
logger of its own.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

AnnounceOnce: TypeAlias = "Callable[[str, Callable[[], str]], None]"
"""Logs the line that a function returns, once for each topic in a service."""
_SERVERS: Final = ("uvicorn.error", "gunicorn.error", "hypercorn.error", "_granian")
"""The loggers by which servers say that they have started."""
_logger = logging.getLogger("otel_coach")


def announce(line: str) -> None:
    """Logs `line`; a service without any logging gets it on stderr.

    Logs nothing if the server, or the application's own configuration, hides INFO, or if there is
    no server's logger and this is not the main thread: a TestClient runs applications in another.
    """
    is_hidden = _logger.disabled or _logger.level > logging.INFO
    if is_hidden or logging.root.manager.disable >= logging.INFO:
        return
    known = logging.root.manager.loggerDict
    servers = (logging.getLogger(name) for name in _SERVERS if name in known)
    logger = next((one for one in servers if one.hasHandlers() and not one.disabled), _logger)
    if logger is _logger and threading.current_thread() is not threading.main_thread():
        return
    if logger.hasHandlers():
        logger.info("otel-coach: %s", line)
    else:
        record = _logger.makeRecord(
            _logger.name, logging.INFO, __file__, 0, "otel-coach: %s", (line,), None
        )
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        handler.handle(record)
