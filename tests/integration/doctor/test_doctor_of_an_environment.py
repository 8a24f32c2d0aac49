"""`otel-coach doctor` in the service's environment: what the service logs when it starts, too."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from otel_coach.cli.doctor import child_process
from otel_coach.core.traps import Severity
from tests.support.cli import otel_coach_here
from tests.support.doctor import diagnosis
from tests.support.serving import tcp_server
from tests.support.versions import HAS_CONFIGURATION_FILES
from tests.support.warm import forking

reads_files = pytest.mark.skipif(not HAS_CONFIGURATION_FILES, reason="the oldest SDKs read none")


@pytest.fixture(scope="module")
def forks():
    # What reads a configuration file, too, if there is any; its checks take most of a second.
    with forking("otel_coach.cli.doctor", *(["jsonschema"] * HAS_CONFIGURATION_FILES)) as found:
        yield found


@pytest.fixture(autouse=True)
def _starts_in_a_fork(forks, monkeypatch):
    monkeypatch.setattr(child_process, "subprocess", forks)


def environment(**variables):
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **variables}


def report(*arguments, **variables):
    """The exit code of the command, and what it prints."""
    done = otel_coach_here("doctor", *arguments, **environment(**variables))
    assert done.stderr == ""
    return done.returncode, done.stdout


def started(**variables):
    return diagnosis(starts=True, **environment(**variables))


# The report


def test_the_exit_code_is_0_if_nothing_or_only_a_note_is_found():
    code, text = report(OTEL_LOG_LEVEL="debug")
    assert code == 0
    assert "note: OTEL_LOG_LEVEL has no effect" in text
    assert text.endswith("nothing to mend\n")
    assert len(text.splitlines()) < 25
    code, text = report(OTEL_LOG_LEVEL="debug", OTEL_COACH_DISABLED="yes")
    assert code == 1
    assert "to mend: otel-coach is disabled by OTEL_COACH_DISABLED" in text
    assert "\n    why: " in text
    assert "\n    cure: unset OTEL_COACH_DISABLED\n" in text
    assert "\nright: variables, the page, traces," in text
    assert text.endswith("1 to mend\n")


def test_the_report_as_json_has_the_same():
    code, text = report("--json", OTEL_COACH_BUDGET_MODEL="many")
    told = json.loads(text)
    assert code == 1
    assert told["ok"] is False
    (finding,) = told["findings"]
    assert finding["trap"] == "invalid-value"
    assert finding["severity"] == Severity.ERROR.value
    assert finding.keys() == {"trap", "severity", "what", "why", "cure"}
    assert any("metrics: /metrics" in fact for fact in told["facts"])
    assert "prices" in told["right"]
    assert "variables" not in told["right"]


# What the service logs


def test_a_start_without_a_mistake_adds_nothing():
    assert started() == {}
    assert started(OTEL_COACH_DISABLED="true").keys() == {"disabled"}


@pytest.mark.parametrize(
    "variable",
    [
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    ],
)
def test_a_value_that_only_opentelemetry_reads_is_found_by_a_start(variable):
    with tcp_server(lambda connection: connection.close()) as server:
        where = f"http://127.0.0.1:{server.getsockname()[1]}"
        found = started(OTEL_EXPORTER_OTLP_ENDPOINT=where, OTEL_SERVICE_NAME="s", **{variable: "x"})
    texts = found["logged-at-start"]
    # Older exporters raise an error, whose text may have a secret in it, and so is not logged.
    is_raised = any("did not start (ValueError in" in text for text in texts)
    assert is_raised or any(f"unset {variable}" in text for text in texts), found


@pytest.mark.parametrize(
    "variable",
    ["OTEL_PYTHON_ID_GENERATOR", "OTEL_PYTHON_TRACER_CONFIGURATOR"],
)
def test_a_component_that_is_not_there_has_the_words_of_the_log(variable):
    found = started(OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="s", **{variable: "no_such"})
    assert found.keys() == {"unknown-component"}
    (text,) = found["unknown-component"]
    assert f"{variable}=no_such cannot be used" in text


@pytest.mark.parametrize("variable", ["OTEL_PYTHON_DISTRO", "OTEL_PYTHON_CONFIGURATOR"])
def test_a_distro_that_is_not_there(variable):
    found = started(**{variable: "no_such"})
    (text,) = found["distro-unknown"]
    assert f"{variable}=no_such: no installed package" in text
    assert text.endswith(f"unset {variable}")


def test_a_propagator_that_is_not_there_is_the_only_finding():
    """OpenTelemetry's API cannot even be imported then; no library has changed."""
    found = started(OTEL_PROPAGATORS="tracecontext,b4")
    assert found.keys() == {"propagator-unknown"}
    (text,) = found["propagator-unknown"]
    assert "OTEL_PROPAGATORS=tracecontext,b4: Propagator b4 not found" in text
    assert "export OTEL_PROPAGATORS=tracecontext,baggage" in text


@reads_files
@pytest.mark.parametrize("text", [None, "file_format: '1.0'\ntracer_provider: [\n", "{}\n"])
def test_a_configuration_file_that_cannot_be_used(text, tmp_path):
    path = tmp_path / "otel.yaml"
    if text is not None:
        path.write_text(text)
    found = started(OTEL_CONFIG_FILE=str(path))
    assert found.keys() <= {"configuration-file", "logged-at-start"}
    (told,) = found["configuration-file"]
    assert f"OTEL_CONFIG_FILE='{path}' cannot be used" in told
    assert "; unset OTEL_CONFIG_FILE # " in told


@reads_files
def test_the_port_that_a_configuration_file_names_is_not_opened(tmp_path):
    """The service that the doctor is run beside has it."""
    path = tmp_path / "otel.yaml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        exporter = f"{{host: 127.0.0.1, port: {taken.getsockname()[1]}}}"
        path.write_text(
            "file_format: '1.0'\nmeter_provider:\n  readers:\n    - pull:\n        exporter:\n"
            f"          prometheus/development: {exporter}\n"
        )
        assert "configuration-file" not in started(OTEL_CONFIG_FILE=str(path))


@reads_files
def test_a_configuration_file_that_switches_all_off(tmp_path):
    path = tmp_path / "otel.yaml"
    path.write_text("file_format: '1.0'\ndisabled: true\n")
    found = started(OTEL_CONFIG_FILE=str(path))
    assert found.keys() == {"disabled-by-file"}
    (told,) = found["disabled-by-file"]
    assert "nothing is measured" in told
    command = told.rpartition("; ")[2].partition(", or: ")[0]
    subprocess.run(["sh", "-c", command], check=True)
    code, text = report("--json", OTEL_CONFIG_FILE=str(path))
    assert code == 0
    assert [finding["trap"] for finding in json.loads(text)["findings"]] == [
        "configuration-file-providers"
    ]


def test_a_price_file_that_cannot_be_used_is_reported_once_though_the_start_logs_it(tmp_path):
    (tmp_path / "prices.json").write_text("{")
    found = started(OTEL_COACH_PRICES=str(tmp_path / "prices.json"))
    assert found.keys() == {"price-file"}


def test_the_start_exports_nothing_and_opens_no_port():
    """With an exporter of every signal, and intervals of which many pass while it starts."""
    asked = []
    with tcp_server(lambda connection: asked.append(connection.recv(100))) as server:
        where = f"http://127.0.0.1:{server.getsockname()[1]}"
        with tcp_server(lambda connection: None) as taken:
            program = [sys.executable, "-m", "otel_coach.cli.doctor.start_child", os.devnull]
            subprocess.run(
                program,
                check=True,
                env=environment(
                    OTEL_EXPORTER_OTLP_ENDPOINT=where,
                    OTEL_TRACES_EXPORTER="otlp",
                    OTEL_METRICS_EXPORTER="otlp,prometheus",
                    OTEL_LOGS_EXPORTER="otlp",
                    OTEL_METRIC_EXPORT_INTERVAL="1",
                    OTEL_BSP_SCHEDULE_DELAY="1",
                    OTEL_BLRP_SCHEDULE_DELAY="1",
                    OTEL_EXPORTER_PROMETHEUS_PORT=str(taken.getsockname()[1]),
                    OTEL_COACH_DEPENDENCIES=f"api={where}/health",
                ),
            )
        time.sleep(0.2)
    assert asked == []
