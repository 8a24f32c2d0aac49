"""`otel-coach doctor -- uvicorn app:app`: the application is imported, and not served."""

import json
import os
import socket
import subprocess
import sys
import venv

import pytest

from otel_coach.cli.doctor import application, child_process
from otel_coach.cli.doctor.examined import Examined, Fact
from otel_coach.core.traps import Severity
from otel_coach.settings import Settings
from tests.support.cli import otel_coach, otel_coach_here
from tests.support.doctor import findings
from tests.support.paths import APPS
from tests.support.stack import bin_path
from tests.support.warm import forking

INSTRUMENT = "opentelemetry-instrument"
PATH = f"{bin_path('')}{os.pathsep}{os.environ['PATH']}"
PAGE = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/v1/chat/{thread}")
def chat(thread): ...
"""


@pytest.fixture
def doctor(monkeypatch):
    """The exit code, and the report, of the command, which `by` runs in the folder."""

    def run(folder, *command, by=otel_coach_here):
        monkeypatch.chdir(folder)
        done = by("doctor", "--json", "--", *command, PATH=PATH, HOME=os.environ["HOME"])
        return done.returncode, json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def forks():
    """Stands for `subprocess`, by which the application is imported in a process of its own."""
    with forking("fastapi", "otel_coach.cli.doctor", "otel_coach.setup.installation") as found:
        yield found


@pytest.fixture
def told(tmp_path, monkeypatch, forks):
    """Says what is found about an application of a text, by name, and the facts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(child_process, "subprocess", forks)

    def look(text, command=f"{INSTRUMENT} uvicorn app:app", **environ):
        (tmp_path / "app.py").write_text(text)
        environ = {"PATH": PATH, **environ}
        examined = Examined(Settings.from_env(environ), environ)
        results = [*application.look(examined, command.split())]
        found = {one.trap.name: one for one in findings(results)}
        facts = "\n".join(one.text for one in results if isinstance(one, Fact))
        return found, facts

    return look


def test_the_routes_and_the_bound_of_the_page_are_told(doctor):
    code, report = doctor(APPS, *["uvicorn", "plain_app:app", "--port", "1"], by=otel_coach)
    assert code == 0, report
    facts = "\n".join(report["facts"])
    # /health, /hello/{name}, and of FastAPI /openapi.json, /docs, /docs/oauth2-redirect, /redoc
    assert "with 6 routes" in facts
    assert "the page has at most " in facts
    assert "GET /metrics is answered with otel-coach's page" in facts
    assert "the application" in report["right"]


@pytest.mark.parametrize(
    "command",
    [
        *("python -m uvicorn app:app", "gunicorn -k uvicorn.workers.UvicornWorker app:app"),
        *("hypercorn app", "fastapi run", "fastapi run app.py --app app", "uvicorn app:app"),
    ],
)
def test_the_application_is_found_for_each_server(told, command):
    found, facts = told(PAGE, f"{INSTRUMENT} {command}")
    assert found == {}
    assert "with 5 routes" in facts
    assert "\nGET /metrics is answered with otel-coach's page" in facts


@pytest.mark.parametrize("prefix", ["otel-coach run", "python -m otel_coach run"])
def test_otel_coach_run_instruments_too(told, prefix):
    found, facts = told(PAGE, f"{prefix} uvicorn app:app")
    assert found == {}
    assert "\nGET /metrics is answered with otel-coach's page" in facts


def test_a_command_that_does_not_instrument_is_a_note(told):
    found, facts = told(PAGE, "uvicorn app:app")
    assert found.keys() == {"command-not-instrumented"}
    note = found["command-not-instrumented"]
    assert note.trap.severity is Severity.NOTE
    assert note.cure == "opentelemetry-instrument uvicorn app:app"
    assert "\nunder opentelemetry-instrument, GET /metrics is answered" in facts


def test_a_folder_on_the_python_path_instruments_too(told, tmp_path):
    site = tmp_path / "auto_instrumentation"
    site.mkdir()
    (site / "sitecustomize.py").write_text("")
    found, _ = told(PAGE, "uvicorn app:app", PYTHONPATH=f"{tmp_path}:{site}")
    assert found == {}


IN_CODE = f"""
import otel_coach
{PAGE}
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


NEEDS_A_VARIABLE = f"import os; os.environ['DATABASE']\n{PAGE}"


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
    found, _ = told(f"import dotenv; dotenv.load_dotenv('.env')\n{PAGE}")
    assert found["variable-too-late"].cure.startswith("set -a; . ./.env; set +a")


def test_a_command_of_another_interpreter_is_named_and_nothing_else_is_said(told, tmp_path):
    venv.create(tmp_path / "other", with_pip=False)
    python = tmp_path / "other" / "bin" / "python"
    script = python.with_name("uvicorn")
    for head in (f"#!{python}\n", f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"):
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
    found, _ = told(PAGE, f"{python} -m uvicorn app:app")
    assert found.keys() == {"other-interpreter"}
    assert told(PAGE, f"{INSTRUMENT} {sys.executable} -m uvicorn app:app")[0] == {}
    assert told(PAGE, f"{INSTRUMENT} {bin_path('uvicorn')} app:app")[0] == {}


def test_variables_of_env_are_those_of_the_service(doctor, tmp_path):
    (tmp_path / "app.py").write_text(PAGE)
    command = ["env", "OTEL_COACH_METRICS_PATH=/figures", "OTEL_COACH_METRIC_PATH=/x"]
    code, report = doctor(tmp_path, *command, INSTRUMENT, "uvicorn", "app:app")
    assert code == 1
    assert "misspelt-variable" in [finding["trap"] for finding in report["findings"]]
    assert "GET /figures is answered with otel-coach's page" in report["facts"]


@pytest.mark.parametrize(
    "options", ["--port 9464", "--port=9464", "-b 127.0.0.1:9464", "--bind=[::1]:9464"]
)
def test_a_port_of_the_page_that_the_application_has(told, options):
    command = f"{INSTRUMENT} gunicorn {options} app:app"
    found, _ = told(PAGE, command, OTEL_EXPORTER_PROMETHEUS_PORT="9464")
    assert found.keys() == {"port-taken"}
    assert "the command serves the application there" in found["port-taken"].what
    assert told(PAGE, command, OTEL_EXPORTER_PROMETHEUS_PORT="9465")[0] == {}


def test_what_is_logged_while_the_application_is_imported_is_told(told):
    text = f"import logging; logging.getLogger('opentelemetry.x').error('it is odd'){PAGE}"
    found, _ = told(text)
    assert found.keys() == {"logged-at-start"}
    assert found["logged-at-start"].what == "it is odd"


def test_it_is_imported_and_not_served(told, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        text = f"import os; open('imported', 'a').write(f'{{os.getpid()}} ')\n{PAGE}"
        found, _ = told(text, f"{INSTRUMENT} uvicorn app:app --port {port}")
    assert found == {}
    assert len((tmp_path / "imported").read_text().split()) == 1


def test_what_the_application_prints_is_not_in_the_report(told):
    found, _ = told(f"print('noise')\n{PAGE}")
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)",
    ],
)
def test_what_the_import_starts_keeps_nobody_waiting(told, line):
    """Neither a thread that goes on, nor a process that has the same output."""
    found, _ = told(f"{PAGE}\n{line}\n")
    assert found == {}


@pytest.mark.parametrize(
    ("text", "command", "said"),
    [
        ("import no_such_module\n", "uvicorn app:app", "ModuleNotFoundError: No module named"),
        (PAGE, "uvicorn app:application", "has no attribute 'application'"),
        (PAGE, "uvicorn other:app", "No module named 'other'"),
        ("raise RuntimeError('hunter2')\n", "uvicorn app:app", "RuntimeError at app.py:1"),
        ("import sys\nsys.exit('hunter2')\n", "uvicorn app:app", "SystemExit at app.py:2"),
        ("import os\nos._exit(3)\n", "uvicorn app:app", "the process ended with 3"),
    ],
)
def test_what_cannot_be_imported_says_why_and_where(told, text, command, said):
    found, _ = told(text, command)
    assert found.keys() == {"application-not-imported"}
    finding = found["application-not-imported"]
    assert said in finding.what
    assert "hunter2" not in str(finding)


def test_a_command_of_no_known_server(told):
    found, _ = told(PAGE, "python app.py")
    assert found.keys() == {"command-unknown"}


def test_what_is_no_application_of_starlettes(told):
    text = "async def app(scope, receive, send): ...\n"
    found, _ = told(text)
    assert found.keys() == {"application-not-watched"}


def test_more_routes_than_the_label_has_values(told):
    text = f"{PAGE}\nfor n in range(10):\n    app.get(f'/r{{n}}')(lambda: n)\n"
    found, _ = told(text, OTEL_COACH_BUDGET_ENDPOINT="10")
    finding = found["more-routes-than-budget"]
    assert "15 routes" in finding.what
    assert finding.cure == "export OTEL_COACH_BUDGET_ENDPOINT=18"


def test_a_stopped_endpoint_that_no_route_has(told):
    text = f"{PAGE}\napp.get('/v1/chat/{{id}}')(lambda id: id)\n"
    found, _ = told(text, OTEL_COACH_STOP_ABANDONED="/v1/chat/{name},/v1/chat/{id}")
    finding = found["stopped-endpoint-unknown"]
    assert "'/v1/chat/{name}'" in finding.what
    assert finding.cure.startswith("export OTEL_COACH_STOP_ABANDONED='/v1/chat/{id}' # ")
    found, _ = told(text, OTEL_COACH_STOP_ABANDONED="/v1/chat/{id}")
    assert not found


OWN_PAGE = f"""{PAGE}
from fastapi import Response
@app.get("/metrics")
def metrics():
"""
PROMETHEUS = "    return Response('up 1\\n', media_type='text/plain')\n"


def test_a_page_of_its_own_in_a_prometheus_format_is_right(told):
    text = OWN_PAGE + PROMETHEUS
    found, facts = told(text)
    assert found == {}
    assert "has a /metrics of its own, which is asked first" in facts
    assert "answered with otel-coach's page" in facts


def test_a_page_of_its_own_in_another_format_has_the_words_of_the_log(told):
    found, _ = told(OWN_PAGE + "    return {'up': 1}\n")
    assert found.keys() == {"own-page-not-prometheus"}
    finding = found["own-page-not-prometheus"]
    assert "is not a Prometheus page (application/json)" in finding.what
    assert "export OTEL_COACH_METRICS_PATH=" in finding.cure


MIDDLEWARE = """
from starlette.responses import PlainTextResponse
@app.middleware("http")
async def refuse(request, call_next):
    return PlainTextResponse("no", 403)
"""


def test_a_middleware_that_refuses_the_applications_own_page(told):
    own = OWN_PAGE + PROMETHEUS
    found, _ = told(own + MIDDLEWARE)
    finding = found["page-refused"]
    assert "answers GET /metrics with 403" in finding.what


def test_without_a_page_of_its_own_no_middleware_inside_refuses(told):
    found, facts = told(PAGE + MIDDLEWARE)
    assert found == {}
    assert "answered with otel-coach's page" in facts


def test_what_is_around_the_application_and_refuses(told):
    text = f"""{PAGE}
inner = app
class Guard:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        await send({{"type": "http.response.start", "status": 401, "headers": []}})
        await send({{"type": "http.response.body", "body": b""}})
app = Guard(inner)
"""
    found, _ = told(text)
    finding = found["page-refused"]
    assert "with 401, by what is around it (a app.Guard)" in finding.what


def test_the_token_is_used_and_not_shown(told):
    found, facts = told(PAGE, OTEL_COACH_METRICS_TOKEN="sesame")
    assert found == {}
    assert "answered with otel-coach's page" in facts
    assert "sesame" not in facts


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_COACH_DISABLED": "true"},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_PROMETHEUS_PORT": "9464"},
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "otel_coach_asgi"},
    ],
)
def test_where_the_application_has_no_page_none_is_asked_for(told, environ):
    found, facts = told(PAGE, **environ)
    assert found == {}
    assert "with 5 routes" in facts
    assert "GET /metrics" not in facts


def test_a_factory_in_another_folder(told, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop.py").write_text(f"{PAGE}\ndef create():\n    return app\n")
    found, facts = told("", f"{INSTRUMENT} uvicorn --app-dir src --factory shop:create")
    assert found == {}
    assert "with 5 routes" in facts


@pytest.mark.parametrize(
    ("redactor", "is_found"), [("of_the_app:mask", True), ("of_the_app:masc", False)]
)
def test_a_redactor_is_looked_for_where_the_application_is(told, tmp_path, redactor, is_found):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "of_the_app.py").write_text("mask = str.upper\n")
    (tmp_path / "src" / "main.py").write_text(PAGE)
    found, facts = told(
        PAGE,
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
