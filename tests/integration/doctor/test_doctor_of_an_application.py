"""`otel-coach doctor -- uvicorn app:app`: the application is imported, and not served."""

import socket

import pytest

from tests.support.cli import otel_coach
from tests.support.doctor import APPLICATION, INSTRUMENT
from tests.support.paths import APPS


def test_the_routes_and_the_bound_of_the_page_are_told(doctor):
    code, report = doctor(APPS, *["uvicorn", "plain_app:app", "--port", "1"], by=otel_coach)
    assert code == 0, report
    facts = "\n".join(report["facts"])
    # /health, /hello/{name}, and of FastAPI /openapi.json, /docs, /docs/oauth2-redirect, /redoc
    assert "with 6 routes" in facts
    assert "the page has at most " in facts
    assert "GET /metrics is answered with otel-coach's page" in facts
    assert "the application" in report["right"]


def test_what_is_logged_while_the_application_is_imported_is_told(told):
    text = f"import logging; logging.getLogger('opentelemetry.x').error('it is odd'){APPLICATION}"
    found, _ = told(text)
    assert found.keys() == {"logged-at-start"}
    assert found["logged-at-start"].what == "it is odd"


def test_it_is_imported_and_not_served(told, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        text = f"import os; open('imported', 'a').write(f'{{os.getpid()}} ')\n{APPLICATION}"
        found, _ = told(text, f"{INSTRUMENT} uvicorn app:app --port {port}")
    assert found == {}
    assert len((tmp_path / "imported").read_text().split()) == 1


def test_what_the_application_prints_is_not_in_the_report(told):
    found, _ = told(f"print('noise')\n{APPLICATION}")
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
    found, _ = told(f"{APPLICATION}\n{line}\n")
    assert found == {}


@pytest.mark.parametrize(
    ("text", "command", "said"),
    [
        ("import no_such_module\n", "uvicorn app:app", "ModuleNotFoundError: No module named"),
        (APPLICATION, "uvicorn app:application", "has no attribute 'application'"),
        (APPLICATION, "uvicorn other:app", "No module named 'other'"),
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


def test_what_is_no_application_of_starlettes(told):
    text = "async def app(scope, receive, send): ...\n"
    found, _ = told(text)
    assert found.keys() == {"application-not-watched"}


def test_more_routes_than_the_label_has_values(told):
    text = f"{APPLICATION}\nfor n in range(10):\n    app.get(f'/r{{n}}')(lambda: n)\n"
    found, _ = told(text, OTEL_COACH_BUDGET_ENDPOINT="10")
    finding = found["more-routes-than-budget"]
    assert "15 routes" in finding.what
    assert finding.cure == "export OTEL_COACH_BUDGET_ENDPOINT=18"


def test_a_stopped_endpoint_that_no_route_has(told):
    text = f"{APPLICATION}\napp.get('/v1/chat/{{id}}')(lambda id: id)\n"
    found, _ = told(text, OTEL_COACH_STOP_ABANDONED="/v1/chat/{name},/v1/chat/{id}")
    finding = found["stopped-endpoint-unknown"]
    assert "'/v1/chat/{name}'" in finding.what
    assert finding.cure.startswith("export OTEL_COACH_STOP_ABANDONED='/v1/chat/{id}' # ")
    found, _ = told(text, OTEL_COACH_STOP_ABANDONED="/v1/chat/{id}")
    assert not found


OWN_PAGE = f"""{APPLICATION}
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


def test_a_long_page_of_its_own_is_read_to_its_end(told):
    answer = "''.join('up{n=\"%d\"} 1\\n' % n for n in range(10_000))"
    found, facts = told(f"{OWN_PAGE}    return Response({answer}, media_type='text/plain')\n")
    assert found == {}
    assert "answered with otel-coach's page" in facts


def test_a_page_of_its_own_in_another_format_has_the_words_of_the_log(told):
    found, _ = told(OWN_PAGE + "    return {'up': 1}\n")
    assert found.keys() == {"own-page-not-prometheus"}
    finding = found["own-page-not-prometheus"]
    assert "cannot be combined with otel-coach's (application/json)" in finding.what
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
    found, facts = told(APPLICATION + MIDDLEWARE)
    assert found == {}
    assert "answered with otel-coach's page" in facts


def test_what_is_around_the_application_and_refuses(told):
    text = f"""{APPLICATION}
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
    found, facts = told(APPLICATION, OTEL_COACH_METRICS_TOKEN="sesame")
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
    found, facts = told(APPLICATION, **environ)
    assert found == {}
    assert "with 5 routes" in facts
    assert "GET /metrics" not in facts
