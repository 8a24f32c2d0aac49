"""Sends SIGTERM to a server with thousands of open streams: it must end as without otel-coach."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.programs import ALONE, Program, free_port
from tests.support.stack import bin_path
from verification.soak.parts import Outcome
from verification.soak.servers import APP, APP_FOLDER

_STREAMS: Final = 2000
_TIME_FOR_MORE: Final = 20.0
"""Seconds: if there is more time than this, more streams are opened too."""
_GRACE: Final = 2
_MAX_DIFFERENCE: Final = 15.0
"""Seconds: the last flush may take three, and the machine may be busy with other work."""
_END: Final = 60.0


def run(seconds: float, _seed: int) -> Outcome:
    """Compares the ends with 2,000 open streams, and with 4,000 if `seconds` suffice."""
    outcome = Outcome()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for streams in (_STREAMS, 2 * _STREAMS)[: 2 if seconds > _TIME_FOR_MORE else 1]:
            bare, bare_seconds, _ = _ended((), streams)
            command = (str(bin_path("opentelemetry-instrument")),)
            measured, measured_seconds, log = _ended(command, streams)
            outcome.figures[f"seconds with {streams} streams"] = round(measured_seconds, 2)
            outcome.figures[f"seconds with {streams} streams, bare"] = round(bare_seconds, 2)
            outcome.figures["exit code"] = measured
            outcome.check(f"exit code {measured}, bare {bare}", unless=measured == bare)
            is_in_time = measured_seconds <= bare_seconds + _MAX_DIFFERENCE
            outcome.check(f"{measured_seconds:.1f} s, bare {bare_seconds:.1f}", unless=is_in_time)
            lines = [line for line in log.splitlines() if "otel-coach" in line]
            outcome.check(f"{len(lines)} lines in the log", unless=len(lines) < 10)  # noqa: PLR2004
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return outcome


def _ended(command: tuple[str, ...], streams: int) -> tuple[int, float, str]:
    """Returns the exit code after SIGTERM, the seconds that the end took, and the log."""
    port = free_port()
    server = (
        *(str(bin_path("uvicorn")), "--port", str(port), "--no-access-log"),
        *("--backlog", str(2 * streams), "--timeout-graceful-shutdown", str(_GRACE), APP),
    )
    variables = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
    with ExitStack() as end:
        folder = Path(end.enter_context(TemporaryDirectory(prefix="oc-")))
        program = Program(
            [*command, *server],
            cwd=APP_FOLDER,
            ready=f"http://127.0.0.1:{port}/health",
            environment={**variables, **ALONE},
            log=folder / "log",
        )
        end.callback(program.stop, signal.SIGKILL)
        for _ in range(streams):
            client = end.enter_context(socket.create_connection(("127.0.0.1", port), _END))
            client.sendall(b"GET /stream?pause=30 HTTP/1.1\r\nhost: x\r\n\r\n")
            if not client.recv(100):
                message = "a stream did not begin"
                raise ConnectionError(message)
        begun = time.monotonic()
        program.process.send_signal(signal.SIGTERM)
        code = program.process.wait(_END)
        took = time.monotonic() - begun
        return code, took, program.log.read_text("utf-8", errors="replace")
