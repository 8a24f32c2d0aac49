"""`opentelemetry-instrument SERVER ...` or `otel-coach run SERVER ...`, until the page is there.

Or `uvicorn ...` by itself, until it serves. The real one, on a free port. Whatever else
`otel-coach` is asked for, the real one does.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tests.support.programs import Program, free_port
from tests.support.stack import bin_path

name, *words = sys.argv[1:]
starter = [bin_path(name)]
if name == "otel-coach":
    if words[:1] != ["run"]:
        os.execv(starter[0], [name, *words])
    starter.append(words.pop(0))
if name == "uvicorn":
    starter, words = [], [name, *words]
server, *arguments = words
port = free_port()
where = ("--bind", f"127.0.0.1:{port}") if server == "gunicorn" else ("--port", str(port))
with TemporaryDirectory() as folder:
    log = Path(folder) / "log"
    program = Program(
        [*starter, bin_path(server), *arguments, *where],
        cwd=Path.cwd(),
        ready=f"http://127.0.0.1:{port}/openapi.json",
        environment=os.environ,
        log=log,
    )
    try:
        if not starter:
            sys.exit()
        page = httpx.get(f"http://127.0.0.1:{port}/metrics")
        page.raise_for_status()
        assert "otel_coach_errors_total" in page.text
    finally:
        program.stop()
    assert "Traceback" not in log.read_text(), log.read_text()
