"""`otel-coach doctor --url`, run as a person runs it."""

import time
from itertools import repeat

import pytest
from fastapi import FastAPI

from otel_coach.cli.doctor.page import look as page_look
from otel_coach.settings import Settings
from otel_coach.testing import measuring
from tests.support.cli import otel_coach, otel_coach_here
from tests.support.doctor import ERRORS, OK, examined, findings, hostile, page, reported
from tests.support.serving import serving
from tests.support.small_service import plain_service, small_service
from tests.support.stack import BARE

# A person's command


@pytest.mark.long
def test_a_page_that_drips_ends_the_doctor_in_time_with_one_line():
    with hostile([OK, b"\r\n", *repeat(b"#", 1000)], pause=0.1) as (url, _):
        started = time.monotonic()
        answer = otel_coach("doctor", "--url", url)
    assert time.monotonic() - started < 60
    assert answer.returncode == 1
    (finding,) = [line for line in answer.stdout.splitlines() if line.startswith("to mend: ")]
    assert "within 10 s" in finding
    assert answer.stderr == ""


def test_what_a_server_says_reaches_no_terminal_raw():
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\u2028\x9b31m"
    text = f'{ERRORS}{{error_type="{evil}"}} 1\n{ERRORS}{{error_type="b\\nto mend: c"}} 1\n'
    with hostile(page(text)) as (url, _):
        answer = otel_coach_here("doctor", "--url", url)
    assert answer.returncode == 1
    assert answer.stderr == ""
    assert all(one.isprintable() for one in answer.stdout.replace("\n", ""))
    findings = [line for line in answer.stdout.splitlines() if line.startswith("to mend: ")]
    assert len(findings) == 2
    assert "\\x1b]0;owned\\x07" in findings[0]


def test_a_terminal_without_the_letters_gets_their_escapes():
    with hostile(page(f'{ERRORS}{{error_type="müde"}} 1\n')) as (url, _):
        answer = otel_coach_here("doctor", "--url", url, PYTHONIOENCODING="ascii")
    assert "error_type=m\\xfcde" in answer.stdout
    assert answer.stderr == ""


# Servers that mean ill


@pytest.mark.parametrize(
    ("token", "cure"),
    [
        (None, "export OTEL_COACH_METRICS_TOKEN"),
        ("other", "has another OTEL_COACH_METRICS_TOKEN"),
        ("sesame", None),
    ],
)
def test_a_closed_page_is_opened_by_the_token_of_the_environment(token, cure):
    with measuring(Settings(metrics_token="sesame")), serving(FastAPI()) as client:
        found = reported(f"{client.base_url}/metrics", token)
    assert [cure in one for one in found] == ([True] if cure else [])


# Real services


def test_the_budgets_are_the_services_and_not_those_of_the_doctors_environment():
    settings = Settings(budgets={"endpoint": 5})
    app = FastAPI(openapi_url=None)
    for number in range(4):
        app.get(f"/r{number}")(lambda: 0)
    with measuring(settings), serving(app) as client:
        for number in range(4):
            client.get(f"/r{number}")
        url = f"{client.base_url}/metrics"
        assert client.get("/metrics").text.endswith(
            "# otel-coach: budgets that differ from their defaults: endpoint=5\n"
        )
        (told,) = reported(url, None)
    assert "4 of 5 values of label endpoint" in told
    assert "export OTEL_COACH_BUDGET_ENDPOINT=10" in told


def test_a_service_that_was_started_without_the_command_has_no_page(tmp_path):
    with plain_service(tmp_path, command=BARE) as service:
        (told,) = reported(f"{service.client.base_url}/metrics", None)
    assert "answers with 404" in told
    assert "opentelemetry-instrument uvicorn app:app" in told


@pytest.mark.long
@pytest.mark.fleet
def test_workers_that_cannot_share_are_told_by_the_page_and_by_the_doctor_beforehand(tmp_path):
    in_the_way = tmp_path / "in-the-way"
    in_the_way.write_text("")
    command = ("opentelemetry-instrument", "uvicorn", "--workers", "2", "app:app")
    environ = {"OTEL_COACH_SHARED_DIR": str(in_the_way)}
    with small_service(tmp_path, command=command, **environ) as service:
        told = reported(f"{service.client.base_url}/metrics", None)
        log = service.log
    (told,) = (one for one in told if "the workers cannot share" in one)
    assert "export OTEL_COACH_SHARED_DIR=" in told
    (beforehand,) = findings(page_look(examined(**environ)))
    assert beforehand.trap.name == "shared-folder"
    assert beforehand.what in log
