"""The servers: how each is started with several workers, and which accidents it survives."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import psutil

from tests.support.paths import APPS
from tests.support.programs import ALONE, CHOSEN, Program, free_port
from tests.support.stack import bin_path

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

APP_FOLDER: Final = APPS
APP: Final = "small_app:app"
CLOCK: Final = Path(__file__).parent / "clock"
_START_UP: Final = 120.0
_STOPS: Final = {"OTEL_COACH_STOP_ABANDONED": "true", "OTEL_COACH_STOP_AFTER": "0"}
WORKERS: Final = 4
"""The number of workers, unless a test needs fewer."""

KILL, TERM, STOP, RELOAD = "kill", "terminate", "stop", "reload"


@dataclass(frozen=True)
class Server:
    """One way to serve an application with several processes."""

    name: str
    command: tuple[str, ...]
    """`{port}` stands for the port."""
    accidents: frozenset[str]
    """The accidents after which its supervisor replaces the workers that ended."""
    recycles: tuple[str, ...] = ()
    """Options with which workers end after some requests and are replaced."""
    crash_loop: float = 0.0
    """Seconds: if a worker ends sooner after its start or a reload, the whole server ends."""
    stops: bool = False
    """Whether the work of clients who have left is stopped."""


_ALL = frozenset({KILL, TERM, STOP, RELOAD})
_GUNICORN = (
    *("gunicorn", "--workers", "{workers}", "--worker-class", "uvicorn_worker.UvicornWorker"),
    *("--bind", "127.0.0.1:{port}", "--graceful-timeout", "5", APP),
)
_GUNICORN_RECYCLES = ("--max-requests", "200", "--max-requests-jitter", "100")

_SERVERS: Final[Mapping[str, Server]] = {
    server.name: server
    for server in (
        Server(
            "uvicorn",
            ("uvicorn", "--workers", "{workers}", "--port", "{port}", "--no-access-log", APP),
            _ALL,
            ("--limit-max-requests", "200"),
        ),
        Server(
            "fastapi",
            ("fastapi", "run", "--workers", "{workers}", "--port", "{port}", "small_app.py"),
            _ALL,
        ),
        Server("gunicorn", _GUNICORN, _ALL, _GUNICORN_RECYCLES),
        Server(
            "gunicorn --preload",
            (*_GUNICORN[:1], "--preload", *_GUNICORN[1:]),
            frozenset({KILL, TERM, STOP}),
            _GUNICORN_RECYCLES,
        ),
        # hypercorn ends if one of its workers ends.
        Server(
            "hypercorn",
            ("hypercorn", "--workers", "{workers}", "--bind", "127.0.0.1:{port}", APP),
            frozenset({STOP}),
        ),
        Server(
            "granian",
            (
                *("granian", "--interface", "asgi", "--workers", "{workers}"),
                *("--respawn-failed-workers", "--port", "{port}", APP),
            ),
            frozenset({KILL, STOP, RELOAD}),
            crash_loop=25,
        ),
    )
}


SERVERS: Final[Mapping[str, Server]] = {
    name: server
    for name, server in _SERVERS.items()
    if bin_path(server.command[0]).exists()  # FastAPI has a command line since 0.111
}


@dataclass
class Running:
    """A running server."""

    server: Server
    url: str
    program: Program
    shared: Path
    """The folder that its workers share."""
    count: int
    """The number of workers that it was started with."""
    reloaded: float = 0.0
    """The time of the last reload, in seconds since the epoch."""

    def wait(self) -> None:
        """Waits until all its workers share their metrics.

        Raises:
            TimeoutError: They do not.
        """
        deadline = time.monotonic() + _START_UP
        while len(list(self.shared.rglob("*.lock"))) < self.count:
            if time.monotonic() > deadline:
                message = f"the workers do not serve; the log ends:\n{self.program.last_lines()}"
                raise TimeoutError(message)
            time.sleep(0.05)

    def wait_for_all(self) -> None:
        """Waits until there are enough workers, and all that live now share their metrics.

        Raises:
            TimeoutError: There are too few, or not all do.
        """
        deadline = time.monotonic() + _START_UP
        while True:
            living = {str(worker.pid) for worker in self.workers()}
            shared = {path.name.partition("-")[0] for path in self.shared.rglob("*.snapshot")}
            if len(living) >= self.count and living <= shared:
                return
            if time.monotonic() > deadline:
                message = f"not all workers serve; the log ends:\n{self.program.last_lines()}"
                raise TimeoutError(message)
            time.sleep(0.05)

    def reload(self) -> None:
        """Makes the server replace its workers one by one."""
        self.reloaded = time.time()
        os.kill(self.program.process.pid, signal.SIGHUP)

    def flush(self) -> None:
        """Waits until a reload is over, during which the server would ignore a signal to stop."""
        time.sleep(max(0.0, self.reloaded + self.server.crash_loop - time.time()))

    def can_die(self, worker: psutil.Process) -> bool:
        """Whether the server would replace `worker` if it ended now."""
        begun = max(worker.create_time(), self.reloaded)
        return time.time() - begun > self.server.crash_loop

    def holder(self, task: str) -> psutil.Process:
        """Returns the worker that holds the lock file `task`, as /proc/locks lists it."""
        inode = str(next(self.shared.rglob(task)).stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[5].rpartition(":")[2] == inode:
                return psutil.Process(int(fields[4]))
        raise LookupError(task)

    def workers(self) -> list[psutil.Process]:
        """Returns the server's worker processes."""
        found: list[psutil.Process] = []
        for child in psutil.Process(self.program.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # the process has just ended
                if "resource_tracker" not in " ".join(child.cmdline()):
                    found.append(child)
        return found


@contextmanager
def running(
    server: Server,
    *options: str,
    environment: Mapping[str, str] | None = None,
    workers: int = WORKERS,
    prefix: Sequence[str | os.PathLike[str]] = (),
    clock: Path | None = None,
) -> Generator[Running]:
    """Starts `server`, instrumented, with `prefix` before its command; stops it after the block.

    `clock` is a file with the number of seconds that its wall clock is ahead of the machine's.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(argument.format(port=port, workers=workers) for argument in server.command),
        *options,
    ]
    instrument, by_clock = [bin_path("opentelemetry-instrument")], dict[str, str]()
    if clock is not None:  # sitecustomize sets the clock, then initialises as that command does
        by_clock = {"PYTHONPATH": str(CLOCK), "SOAK_CLOCK": str(clock), **CHOSEN}
        instrument.clear()
    with TemporaryDirectory(prefix="otel-coach-soak-") as folder:
        shared = Path(folder) / "shared"
        variables = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
        program = Program(
            [*prefix, *instrument, bin_path(command[0]), *command[1:]],
            cwd=APP_FOLDER,
            ready=f"{url}/health",
            environment={
                **variables,
                **ALONE,
                "PATH": f"{bin_path('')}{os.pathsep}{os.environ['PATH']}",
                "OTEL_COACH_SHARED_DIR": str(shared),
                "SMALL_APP": "says who answers",
                **by_clock,
                **(_STOPS if server.stops else {}),
                **(environment or {}),
            },
            log=Path(folder) / "server.log",
        )
        try:
            yield Running(server, url, program, shared, workers)
        finally:
            program.stop()
