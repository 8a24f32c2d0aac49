"""`otel-coach doctor -- uvicorn app:app`: which application the command serves, and under what."""

import os
import subprocess
import sys
import venv
from itertools import chain

import pytest

from otel_coach.cli.doctor import diagnosed
from otel_coach.core.traps import Severity
from otel_coach.setup import site
from tests.support.doctor import APPLICATION, INSTRUMENT, PATH, findings
from tests.support.otlp import Receiver
from tests.support.programs import free_port
from tests.support.stack import bin_path

NEEDS_A_VARIABLE = f"import os; os.environ['DATABASE']\n{APPLICATION}"


@pytest.mark.parametrize(
    "command",
    [
        *("python -m uvicorn app:app", "gunicorn -k uvicorn.workers.UvicornWorker app:app"),
        *("hypercorn app", "fastapi run", "fastapi run app.py --app app", "uvicorn app:app"),
    ],
)
def test_the_application_is_found_for_each_server(told, command):
    found, facts = told(APPLICATION, f"{INSTRUMENT} {command}")
    assert found == {}
    assert "with 5 routes" in facts
    assert "\nGET /metrics is answered with otel-coach's page" in facts


@pytest.mark.parametrize("prefix", ["otel-coach run", "python -m otel_coach run"])
def test_otel_coach_run_instruments_too(told, prefix):
    found, facts = told(APPLICATION, f"{prefix} uvicorn app:app")
    assert found == {}
    assert "\nGET /metrics is answered with otel-coach's page" in facts


def test_a_command_that_does_not_instrument_is_a_note(told):
    found, facts = told(APPLICATION, "uvicorn app:app")
    assert found.keys() == {"command-not-instrumented"}
    note = found["command-not-instrumented"]
    assert note.trap.severity is Severity.NOTE
    assert note.cure == "opentelemetry-instrument uvicorn app:app"
    assert "\nunder opentelemetry-instrument, GET /metrics is answered" in facts


def test_a_folder_on_the_python_path_instruments_too(told, tmp_path):
    site = tmp_path / "auto_instrumentation"
    site.mkdir()
    (site / "sitecustomize.py").write_text("")
    found, _ = told(APPLICATION, "uvicorn app:app", PYTHONPATH=f"{tmp_path}:{site}")
    assert found == {}


def test_such_a_folder_does_not_instrument_the_doctors_own_processes(tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    environ = {
        "PYTHONPATH": os.path.dirname(site.__file__),  # noqa: PTH120 - as a user has it
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(free_port()),
        "OTEL_SERVICE_NAME": "coach",
    }
    report = diagnosed({"PATH": PATH, **environ}, command=["uvicorn", "app:app"])
    assert findings(chain.from_iterable(report.values())) == []


IN_CODE = f"""
import otel_coach
{APPLICATION}
otel_coach.instrument(app, settings=otel_coach.Settings(
    metrics_path="/figures", metrics_token="sesame", trace_exporters=("otlp",),
    budgets={{"endpoint": 3}},
))
"""


def test_an_application_that_starts_otel_coach_itself_has_its_own_settings(told):
    found, facts = told(IN_CODE, "uvicorn app:app")
    assert found.keys() == {"more-routes-than-budget"}
    assert "the application calls otel_coach.instrument()" in facts
    assert "\nGET /figures is answered with otel-coach's page" in facts


def test_settings_in_code_that_come_too_late(told):
    found, facts = told(IN_CODE)
    assert found.keys() == {"settings-unused"}
    what, cure = found["settings-unused"].what, found["settings-unused"].cure
    assert what.endswith(": trace_exporters, metrics_path, metrics_token, budgets")
    assert cure.startswith("export OTEL_TRACES_EXPORTER=... OTEL_COACH_METRICS_PATH=... OTEL_COA")
    assert "sesame" not in what + cure
    assert "GET /metrics is answered" in facts


def test_settings_of_a_second_call_in_code_that_differ_from_the_firsts(told):
    second = "otel_coach.instrument(settings=otel_coach.Settings(metrics_path='/second'))"
    found, facts = told(f"{IN_CODE}{second}\n", "uvicorn app:app")
    assert "the application calls otel_coach.instrument()" in facts
    unused = found["settings-unused"]
    assert "metrics_path" in unused.what
    assert "the first call of otel_coach.instrument()" in unused.cure


def test_variables_of_an_env_file_are_there_and_those_that_come_too_late_are_named(told, tmp_path):
    pytest.importorskip("dotenv", reason="without it, uvicorn reads no such file")
    (tmp_path / "my.env").write_text("DATABASE=x\nOTEL_COACH_METRICS_TOKEN=sesame\n")
    command = f"{INSTRUMENT} uvicorn --env-file my.env app:app"
    found, _ = told(NEEDS_A_VARIABLE, command)
    assert found.keys() == {"variable-too-late"}
    late = found["variable-too-late"]
    assert late.what.startswith("OTEL_COACH_METRICS_TOKEN: set only after")
    assert late.cure.startswith("set -a; . ./my.env; set +a # ")
    assert "sesame" not in str(late)
    # In time for workers, and for an application that starts otel-coach itself.
    assert not told(NEEDS_A_VARIABLE, f"{command} --workers 2")[0]
    assert not told(NEEDS_A_VARIABLE, command, WEB_CONCURRENCY="2")[0]
    in_code = f"{NEEDS_A_VARIABLE}\nimport otel_coach; otel_coach.instrument(app)\n"
    assert not told(in_code, "uvicorn --env-file my.env app:app")[0]


def test_variables_that_gunicorn_or_the_application_sets_come_too_late(told, tmp_path):
    pytest.importorskip("dotenv", reason="without it, uvicorn reads no such file")
    found, _ = told(
        NEEDS_A_VARIABLE,
        f"{INSTRUMENT} gunicorn -e DATABASE=x --env OTEL_SERVICE_NAME=coach app:app",
    )
    assert found["variable-too-late"].what.startswith("OTEL_SERVICE_NAME: ")
    (tmp_path / ".env").write_text("OTEL_SERVICE_NAME=coach\n")
    found, _ = told(f"import dotenv; dotenv.load_dotenv('.env')\n{APPLICATION}")
    assert found["variable-too-late"].cure.startswith("set -a; . ./.env; set +a")


def test_a_command_of_another_interpreter_is_named_and_nothing_else_is_said(told, tmp_path):
    venv.create(tmp_path / "other", with_pip=False)
    python = tmp_path / "other" / "bin" / "python"
    script = python.with_name("uvicorn")
    by_shell = "#!/bin/sh\n'''exec' {0}{1}{0} \"$0\" \"$@\"\n' '''\n"
    for head in (f"#!{python}\n", *(by_shell.format(quote, python) for quote in ("", '"', "'"))):
        script.write_text(head)
        script.chmod(0o755)
        found, facts = told("raise RuntimeError", f"{INSTRUMENT} {script} app:app")
        assert found.keys() == {"other-interpreter"}
        assert f"{script} runs under {python}, but" in found["other-interpreter"].what
        assert not facts
        assert found["other-interpreter"].cure == (
            f"{python} -m pip install otel-coach && {python} -m otel_coach doctor -- "
            f"{INSTRUMENT} {script} app:app"
        )
    found, _ = told(APPLICATION, f"{python} -m uvicorn app:app")
    assert found.keys() == {"other-interpreter"}
    assert told(APPLICATION, f"{INSTRUMENT} {sys.executable} -m uvicorn app:app")[0] == {}
    assert told(APPLICATION, f"{INSTRUMENT} {bin_path('uvicorn')} app:app")[0] == {}


def test_variables_of_env_are_those_of_the_service(doctor, tmp_path):
    (tmp_path / "app.py").write_text(APPLICATION)
    command = ["env", "OTEL_COACH_METRICS_PATH=/figures", "OTEL_COACH_METRIC_PATH=/x"]
    code, report = doctor(tmp_path, *command, INSTRUMENT, "uvicorn", "app:app")
    assert code == 1
    assert "misspelt-variable" in [finding["trap"] for finding in report["findings"]]
    assert "GET /figures is answered with otel-coach's page" in report["facts"]


def test_what_libraries_read_of_the_environment_is_the_services_too(doctor, tmp_path):
    (tmp_path / "app.py").write_text(APPLICATION)
    with Receiver() as proxy:
        command = ["env", f"http_proxy={proxy.endpoint}", "no_proxy="]
        command.append("OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.invalid:4318")
        doctor(tmp_path, *command, INSTRUMENT, "uvicorn", "app:app")
    assert proxy.requests == [("http://collector.invalid:4318/v1/traces", b"")]
    assert os.environ.get("http_proxy") != proxy.endpoint


@pytest.mark.parametrize(
    "options", ["--port 9464", "--port=9464", "-b 127.0.0.1:9464", "--bind=[::1]:9464"]
)
def test_a_port_of_the_page_that_the_application_has(told, options):
    command = f"{INSTRUMENT} gunicorn {options} app:app"
    found, _ = told(APPLICATION, command, OTEL_EXPORTER_PROMETHEUS_PORT="9464")
    assert found.keys() == {"port-taken"}
    assert "the command serves the application there" in found["port-taken"].what
    assert told(APPLICATION, command, OTEL_EXPORTER_PROMETHEUS_PORT="9465")[0] == {}


def test_a_command_of_no_known_server(told):
    found, _ = told(APPLICATION, "python app.py")
    assert found.keys() == {"command-unknown"}


def test_the_arguments_of_a_factory_are_passed_on(told):
    text = "from fastapi import FastAPI\n\ndef create(env, *, debug):\n    app = FastAPI()\n"
    text += "    app.get(f'/{env}/{debug}')(lambda: 1)\n    return app\n"
    command = f"{INSTRUMENT} gunicorn -k uvicorn_worker.UvicornWorker"
    found, facts = told(text, f"{command} app:create('production',debug=False)")
    assert not found
    assert "5 routes" in facts  # four are FastAPI's documentation


def test_a_factory_in_another_folder(told, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(f"{APPLICATION}\ndef create():\n    return app\n")
    found, facts = told("", f"{INSTRUMENT} uvicorn --app-dir src --factory shop:create")
    assert found == {}
    assert "with 5 routes" in facts


@pytest.mark.parametrize(
    ("redactor", "is_found"), [("of_the_app:mask", True), ("of_the_app:masc", False)]
)
def test_a_redactor_is_looked_for_where_the_application_is(told, tmp_path, redactor, is_found):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "of_the_app.py").write_text("mask = str.upper\n")
    (tmp_path / "src" / "main.py").write_text(APPLICATION)
    found, facts = told(
        APPLICATION,
        f"{INSTRUMENT} uvicorn --app-dir src main:app",
        OTEL_COACH_CONTENT_REDACTOR=redactor,
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
    )
    assert found.keys() == (set() if is_found else {"redactor-not-found"})
    assert (f"captured, redacted by {redactor}" in facts) == is_found


def test_options_of_the_command_are_looked_at_too(doctor, tmp_path):
    (tmp_path / "app.py").write_text("import no_such_module\n")
    command = "opentelemetry-instrument --traces_sampler always_off uvicorn app:app"
    code, report = doctor(tmp_path, *command.split())
    assert code == 1
    names = {finding["trap"] for finding in report["findings"]}
    assert names == {"sampled-out", "application-not-imported"}


def test_its_help_has_examples():
    done = subprocess.run(
        [sys.executable, "-m", "otel_coach", "doctor", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "otel-coach doctor -- uvicorn app:app" in done.stdout
    assert "--url http://localhost:8000/metrics" in done.stdout


def test_an_interpreter_whose_path_has_a_space_is_found(told, tmp_path):
    venv.create(tmp_path / "an other", with_pip=False)
    python = tmp_path / "an other" / "bin" / "python"
    script = python.with_name("uvicorn")
    for quote in ('"', "'"):
        script.write_text(f"#!/bin/sh\n'''exec' {quote}{python}{quote} \"$0\" \"$@\"\n' '''\n")
        script.chmod(0o755)
        environ = {"PATH": str(python.parent)}
        assert told("", f"{INSTRUMENT} uvicorn app:app", **environ)[0].keys() == {
            "other-interpreter"
        }


@pytest.mark.parametrize("socket", ["uvicorn --uds /run/a.sock", "gunicorn -b unix:/run/a.sock"])
def test_behind_a_unix_socket_no_port_is_taken(told, socket):
    assert told(APPLICATION, f"{INSTRUMENT} {socket} app:app")[0] == {}
