"""The lines that a real server says when it starts, and when something changes what is measured."""

import os
import socket
import subprocess
import sys

import httpx
import pytest

from tests.support.paths import APPS
from tests.support.programs import ALONE
from tests.support.small_service import plain_service, small_service
from tests.support.stack import BARE, INSTRUMENTED
from tests.support.waiting import eventually

START = "otel-coach: version "
OWN_PAGE = "otel-coach: the application has a page of its own at /metrics"


def lines(service, beginning):
    return [line for line in service.log.splitlines() if beginning in line]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_service_says_once_what_is_measured(tmp_path, workers):
    command = (*INSTRUMENTED[:2], "--workers", workers, "app")
    start = small_service if workers == "1" else plain_service
    with start(tmp_path, command) as service:
        eventually(lambda: service.log.count("Application startup complete") == int(workers))
        (line,) = lines(service, START)
        assert line.startswith("INFO:     otel-coach: version ")
        assert "metrics at /metrics; traces to http://127.0.0.1:" in line
        assert "watching FastAPI " in line
        service.page()
        assert not lines(service, OWN_PAGE)


def test_workers_that_only_push_say_it_once(tmp_path):
    folder = tmp_path / "shared"
    variables = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_COACH_SHARED_DIR": str(folder)}
    command = (*INSTRUMENTED[:2], "--workers", "2", "app")
    with plain_service(tmp_path, command, **variables) as service:
        eventually(lambda: service.log.count("Application startup complete") == 2)
        (line,) = lines(service, START)
        assert "metrics to http://127.0.0.1:" in line
        assert list(folder.rglob("*.once"))
    assert not list(folder.iterdir())


def test_a_port_that_is_taken_is_not_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables = {
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        }
        with plain_service(tmp_path, **variables) as service:
            (line,) = lines(service, START)
            assert "no metrics; traces to" in line
            assert f"OTEL_EXPORTER_PROMETHEUS_PORT={port} cannot be used" in service.log


def test_a_port_that_the_system_chose_is_named(tmp_path):
    variables = {
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
    }
    with plain_service(tmp_path, **variables) as service:
        (line,) = lines(service, "metrics at http://127.0.0.1:")
        page = httpx.get(line.rpartition(" ")[2].strip())
        assert "otel_coach_errors_total" in page.text


@pytest.mark.parametrize(
    ("options", "variables"),
    [([], {"OTEL_COACH_QUIET": "true"}), (["--log-level", "warning"], {})],
)
def test_a_service_that_is_to_be_quiet_says_nothing(tmp_path, options, variables):
    command = (*INSTRUMENTED[:2], *options, "app")
    with plain_service(tmp_path, command, **variables) as service:
        service.page()
        assert not lines(service, START)


ALL_OTHERS_DISABLED = """{"version": 1, "disable_existing_loggers": true,
"handlers": {"console": {"class": "logging.StreamHandler"}},
"root": {"handlers": ["console"], "level": "INFO"}}"""


def test_a_logging_configuration_that_does_not_name_otel_coach_hides_nothing_of_it(tmp_path):
    config = tmp_path / "logging.json"
    config.write_text(ALL_OTHERS_DISABLED)
    command = (*INSTRUMENTED[:2], "--log-config", str(config), "app")
    with plain_service(tmp_path, command, OTEL_COACH_BUDGET_MODEL="7") as service:
        assert len(lines(service, START)) == 1
        assert not lines(service, TOO_LATE)


TOO_LATE = "set only after otel-coach had started"


def test_variables_of_uvicorns_env_file_come_too_late_and_that_is_said_without_their_values(
    tmp_path,
):
    pytest.importorskip("dotenv", reason="without it, uvicorn reads no such file")
    (tmp_path / "my.env").write_text(
        "OTEL_COACH_METRICS_TOKEN=sesame\nOTEL_SERVICE_NAME=late\nDATABASE=x\n"
        "OTEL_PYTHON_REDIS_EXCLUDED_URLS=x\nOTEL_PYTHON_DISABLED_INSTRUMENTATIONS=x\n"
    )
    command = (*INSTRUMENTED[:2], "--env-file", str(tmp_path / "my.env"), "app")
    given = {"OTEL_SERVICE_NAME": "early", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ""}
    with plain_service(tmp_path, command, **given) as service:
        (line,) = lines(service, TOO_LATE)
        names = "OTEL_COACH_METRICS_TOKEN, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
        assert f"otel-coach: {names}: set only after" in line
        assert "Cure: set -a; . ./.env; set +a # " in line
        assert "sesame" not in service.log
        service.page()


def test_workers_start_with_the_variables_of_uvicorns_env_file(tmp_path):
    pytest.importorskip("dotenv", reason="without it, uvicorn reads no such file")
    (tmp_path / "my.env").write_text("OTEL_COACH_METRICS_TOKEN=sesame\n")
    options = ("--env-file", str(tmp_path / "my.env"), "--workers", "2")
    with plain_service(tmp_path, (*INSTRUMENTED[:2], *options, "app")) as service:
        assert not lines(service, TOO_LATE)
        assert service.client.get("/metrics").status_code == 401


def test_a_bare_service_says_nothing(tmp_path):
    with plain_service(tmp_path, BARE) as service:
        assert "otel-coach" not in service.log


def test_a_script_says_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import plain_app; print('done')")
    done = subprocess.run(
        [f"{os.path.dirname(sys.executable)}/opentelemetry-instrument", sys.executable, script],  # noqa: PTH120
        env={**os.environ, **ALONE, "PYTHONPATH": str(APPS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "done\n"
    assert START not in done.stderr


def test_a_script_with_a_test_client_says_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import otel_coach, logging\n"
        "from fastapi import FastAPI\n"
        "from fastapi.testclient import TestClient\n"
        "app = FastAPI()\n"
        "otel_coach.instrument(app)\n"
        "with TestClient(app) as client: print(client.get('/metrics').status_code)\n"
        "logging.basicConfig(level='INFO', force=True)\n"
        "with TestClient(app) as client: print(client.get('/metrics').status_code)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "200\n200\n"
    assert "otel-coach: " not in done.stderr


def test_the_applications_own_page_is_one_line(tmp_path):
    with plain_service(tmp_path, SMALL_APP="own page") as service:
        for _ in range(3):
            service.client.get("/metrics/").raise_for_status()
        assert len(lines(service, OWN_PAGE)) == 1
