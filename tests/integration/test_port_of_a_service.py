"""The page's port and token of a service."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from fastapi import FastAPI

from otel_coach.settings import Settings
from otel_coach.testing import Page, measuring
from tests.support.environment import without_settings
from tests.support.page_port import ask, connect, many_files, served
from tests.support.paths import APPS
from tests.support.programs import ALONE, Program, free_port
from tests.support.serving import serving
from tests.support.stack import bin_path
from tests.support.waiting import eventually

# Crowds


def test_a_thousand_idle_connections_cost_a_service_with_256_descriptors_nothing(tmp_path):
    app, page = free_port(), free_port()
    limited = ["sh", "-c", 'ulimit -n 256 && exec "$@"', "sh"]
    command = [bin_path("opentelemetry-instrument"), "uvicorn", "small_app:app", "--port", str(app)]
    environment = {
        **without_settings(),
        **ALONE,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(APPS),
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(page),
    }
    program = Program(
        [*limited, *command],
        cwd=tmp_path,
        ready=f"http://127.0.0.1:{app}/health",
        environment=environment,
        log=tmp_path / "log.txt",
    )
    process = psutil.Process(program.process.pid)
    with ExitStack() as held, many_files():
        held.callback(program.stop)
        before = process.num_threads()
        for _ in range(1000):
            held.enter_context(connect(page))
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{app}/health", timeout=5).json() == "ok"
            scraped = Page(httpx.get(f"http://127.0.0.1:{page}/metrics", timeout=5).text)
            assert scraped.sum("otel_coach_errors_total") == 0
            assert process.num_threads() <= before + 5
            assert process.num_fds() < 128
    assert "Too many open files" not in program.log.read_text()


# On both pages


@pytest.mark.parametrize("has_port", [False, True], ids=["inside", "own port"])
@pytest.mark.parametrize("token", [None, "sesame", ""], ids=["open", "closed", "empty token"])
def test_nothing_between_keeps_a_page(has_port, token):
    port = free_port() if has_port else None
    settings = Settings(metrics_port=port, metrics_token=token)
    with measuring(settings), serving(FastAPI(), server_header=False) as client:
        client.get("/")
        url = f"http://localhost:{port}/metrics" if port else f"{client.base_url}/metrics"
        bearing = {"authorization": "Bearer sesame", "accept-encoding": "gzip"}
        for headers in ({}, bearing):
            answer = httpx.get(url, headers=headers)
            let_in = token is None or (token == "sesame" and headers is bearing)
            assert answer.status_code == (200 if let_in else 401)
            assert answer.headers["cache-control"] == "no-store"
            assert "server" not in answer.headers


@pytest.mark.parametrize("blank", ["", " ", "\t\n", " \r\n "])
@pytest.mark.parametrize("has_port", [False, True], ids=["inside", "own port"])
def test_an_empty_token_closes_the_page_and_says_what_to_do(blank, has_port, caplog):
    environment = {"OTEL_COACH_METRICS_TOKEN": blank}
    if has_port:
        environment["OTEL_EXPORTER_PROMETHEUS_HOST"] = "127.0.0.1"
        environment["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(port := free_port())
    with measuring(Settings.from_env(environment)), serving(FastAPI()) as client:
        client.get("/")
        port = port if has_port else client.base_url.port
        request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        for authorization in ("", "Bearer", "Bearer ", "Bearer  \t", "Bearer None", "Bearer x"):
            header = f"Authorization: {authorization}\r\n" if authorization else ""
            status, _, body = ask(port, f"{request}{header}\r\n".encode())
            assert status == 401
            assert body.startswith(
                b"otel-coach: this page needs the header `Authorization: Bearer "
            )
    (record,) = (one for one in caplog.records if one.name == "otel_coach")
    assert "OTEL_COACH_METRICS_TOKEN" in record.getMessage()
    assert "unset" in record.getMessage()


def test_a_forked_child_does_not_keep_the_port():
    read, write = os.pipe()
    with served() as port:
        if (child := os.fork()) == 0:
            os.close(write)
            os.read(read, 1)  # until the parent closes its end
            os._exit(0)
        os.close(read)
        assert ask(port)[0] == 200
    try:
        eventually(lambda: refuses(port))
    finally:
        os.close(write)
        os.waitpid(child, 0)


def refuses(port):
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False
