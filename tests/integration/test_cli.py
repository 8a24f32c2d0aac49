"""`otel-coach doctor` and `otel-coach metrics`, run as a person runs them."""

import signal
import subprocess
import sys
from importlib.metadata import version

import pytest
from fastapi import FastAPI

from tests.support.cli import otel_coach, otel_coach_here
from tests.support.programs import free_port
from tests.support.serving import serving


def test_doctor_finds_nothing_to_mend_where_nothing_is_wrong():
    answer = otel_coach("doctor")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "nothing to mend" in answer.stdout
    assert "metrics: /metrics in the application" in answer.stdout


def test_doctor_names_each_thing_to_mend_with_its_cure():
    answer = otel_coach_here(
        "doctor",
        "--url",
        f"http://127.0.0.1:{free_port()}/metrics",
        OTEL_COACH_DEPENDENCIES=f"db=tcp://127.0.0.1:{free_port()},x=mysql://u:hunter2@h/d",
        OTEL_COACH_BUDGET_MODEL="many",
        OTEL_TRACES_EXPORTER="zipkin",
    )
    assert answer.returncode == 1
    findings = [line for line in answer.stdout.splitlines() if line.startswith("to mend: ")]
    assert len(findings) == 5
    for named in ("OTEL_COACH_BUDGET_MODEL", "zipkin", "dependency db", "mysql", "/metrics"):
        assert sum(named in line for line in findings) == 1
    assert "hunter2" not in answer.stdout + answer.stderr


def test_doctor_reads_what_a_running_service_reports(measured):
    from otel_coach.metrics.catalogue import LLM_UNMEASURED

    recorder = measured.installation.providers.recorder
    recorder.record(LLM_UNMEASURED, 3, ("gpt-x", "no_price"))
    with serving(FastAPI()) as client:
        answer = otel_coach("doctor", "--url", f"{client.base_url}/metrics")
    assert answer.returncode == 1
    assert "error_type=no_price model=gpt-x: 3" in answer.stdout
    assert "OTEL_COACH_PRICES" in answer.stdout


def test_a_reader_that_has_gone_is_no_error():
    command = [sys.executable, "-m", "otel_coach", "dashboard"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 128 + signal.SIGPIPE


def test_its_version_is_the_packages():
    answer = otel_coach("--version")
    assert (answer.returncode, answer.stdout) == (0, f"otel-coach {version('otel-coach')}\n")


def test_python_runs_it_as_a_module():
    command = [sys.executable, "-m", "otel_coach", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"otel-coach {version('otel-coach')}\n"


def test_metrics_writes_and_checks_its_page(tmp_path):
    page = tmp_path / "metrics.md"
    assert otel_coach("metrics", "--check", str(page)).returncode == 1
    assert otel_coach("metrics", "--write", str(page)).returncode == 0
    assert otel_coach("metrics", "--check", str(page)).returncode == 0
    page.write_text(page.read_text() + "drifted\n")
    answer = otel_coach("metrics", "--check", str(page))
    assert answer.returncode == 1
    assert "make docs" in answer.stderr


@pytest.mark.parametrize("arguments", [(), ("heal",)])
def test_a_wrong_call_says_how_it_is_called(arguments):
    answer = otel_coach(*arguments)
    assert answer.returncode == 2
    assert "usage: otel-coach" in answer.stderr
