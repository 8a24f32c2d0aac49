"""`opentelemetry-instrument SERVER ...`: the real one, on a free port, until its page is there."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.support.programs import Program, free_port
from tests.support.stack import bin_path

port = free_port()
server, *arguments = sys.argv[1:]
where = ("--bind", f"127.0.0.1:{port}") if server == "gunicorn" else ("--port", str(port))
command = [bin_path("opentelemetry-instrument"), bin_path(server), *arguments, *where]
with TemporaryDirectory() as folder:
    log = Path(folder) / "log"
    program = Program(
        command,
        cwd=Path.cwd(),
        ready=f"http://127.0.0.1:{port}/openapi.json",
        environment=os.environ,
        log=log,
    )
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics")
        page.raise_for_status()
        assert "otel_coach_errors_total" in page.text
    finally:
        program.stop()
    assert "Traceback" not in log.read_text(), log.read_text()
