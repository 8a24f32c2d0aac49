"""What the tests share: measuring in this process, a real uvicorn, a real PostgreSQL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import uvicorn

from demo.programs import free_port, postgres
from demo.stack import Provider
from otel_coach.testing import measuring

ROOT = Path(__file__).parent.parent


@pytest.fixture
def measured():
    from conservation import conserved  # it waits with `eventually`, below

    with measuring() as measurements, conserved(measurements):
        yield measurements


@pytest.fixture(scope="session")
def database_url():
    with postgres() as url:
        yield url


@pytest.fixture
def provider():
    with Provider() as running:
        yield running


class Server(uvicorn.Server):
    """A real uvicorn on a real socket, in a thread."""

    def install_signal_handlers(self):
        """Signals are the main thread's."""


@contextmanager
def serving(app, **options):
    """An httpx client of `app`, served by uvicorn."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="warning", **options)
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive(), "uvicorn did not start"
        assert time.monotonic() < deadline, "uvicorn did not start in time"
        time.sleep(0.005)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "uvicorn did not stop"


def eventually(check, *, within=5.0):
    """Wait until `check()` is true; what happens after a client left takes its time."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)


def open_to_all(place, *more):
    """The beginning of a command, which then sees the machine with other mounts; root's to use.

    Where Python or this repository lie in a folder that only root can look into, all can there.
    `place` is for what that needs; `more` are commands of a shell that follow.
    """
    lines = ["set -e", "umask 022"]
    for number, needed in enumerate(dict.fromkeys((Path(sys.base_prefix), ROOT))):
        closed = [folder for folder in needed.parents if not folder.stat().st_mode & 0o001]
        if closed:
            aside = place / f"aside-{number}"
            lines += [
                f"mkdir {aside}",
                f"mount --bind {needed} {aside}",
                f"mount -t tmpfs -o mode=755 none {closed[-1]}",
                f"mkdir -p {needed}",
                f"mount --move {aside} {needed}",
            ]
    return ["unshare", "--mount", "sh", "-c", "\n".join([*lines, *more, 'exec "$@"']), "sh"]


def alone(function):
    """What `function` returns in a process of its own; it travels as JSON.

    For what counts objects or bytes: here, threads of other tests would add theirs, and Python's
    table of interned strings, which grows once in a long suite, takes megabytes at that moment.
    """
    module, name = function.__module__, function.__name__
    script = f"import json; from {module} import {name}; print(json.dumps({name}()))"
    tests = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tests.parent,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert not found.returncode, found.stderr
    return json.loads(found.stdout)


@contextmanager
def tcp_server(answer):
    """Answers each connection by `answer(connection)`."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = []

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                accepted.append(connection)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # else the thread would wait for ever
            for connection in accepted:
                connection.close()
