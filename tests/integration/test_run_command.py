"""`otel-coach run` does what `opentelemetry-instrument` does, and imports less for it."""

import json
import os
import subprocess
import sys

import pytest

from tests.integration.test_command import check_spans
from tests.support.environment import without_settings
from tests.support.paths import ROOT
from tests.support.programs import ALONE
from tests.support.small_service import HTTP, check, plain_service, small_service
from tests.support.stack import bin_path

RUN = ("otel-coach", "run", "uvicorn", "app:app")
OTHERS = "opentelemetry.instrumentation.auto_instrumentation._load"
"""The module by which OpenTelemetry's command loads all instrumentations."""
INSTRUMENTORS = (
    "from otel_coach.setup.installation import INSTRUMENTORS, installed; "
    "active = [name for name in sorted(INSTRUMENTORS) "
    "if INSTRUMENTORS[name]().is_instrumented_by_opentelemetry]; "
)


def state(command="otel-coach", statements=INSTRUMENTORS, **environment):
    """What a Python program that `command` starts finds in itself."""
    script = (
        f"import json, sys; {statements}"
        "print(json.dumps({'modules': sorted(sys.modules), 'active': active}))"
    )
    words = {
        "otel-coach": [bin_path("otel-coach"), "run"],
        "opentelemetry-instrument": [bin_path("opentelemetry-instrument")],
    }[command]
    done = subprocess.run(
        [*words, sys.executable, "-c", script],
        env={**without_settings(), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("environment", [ALONE, {}], ids=["alone", "with others"])
def test_its_series_and_spans_are_those_of_the_stock_command(tmp_path, environment):
    with small_service(tmp_path, RUN, **environment) as service:
        page = check(service)
        check_spans(service, health=page.sum(HTTP, endpoint="/health"))


def test_its_workers_are_exact(tmp_path):
    command = (*RUN[:-1], "--workers", "2", RUN[-1])
    with plain_service(tmp_path, command) as service:
        for _ in range(30):
            service.client.get("/hello/anna")
        assert service.page().sum(HTTP, endpoint="/hello/{name}") == 30


def test_what_only_other_instrumentations_need_is_not_imported():
    ours, said = state(**ALONE)
    stock, _ = state("opentelemetry-instrument", **ALONE)
    assert said == ""
    assert ours["active"] == stock["active"] != []
    assert {OTHERS, "packaging", "opentelemetry.instrumentation.dependencies"} <= {
        *stock["modules"]
    }
    gone = {*stock["modules"]} - {*ours["modules"]}
    assert {OTHERS, "packaging.requirements"} <= gone


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**ALONE, "OTEL_PYTHON_DISTRO": "distro"},
        {**ALONE, "OTEL_PYTHON_CONFIGURATOR": "configurator"},
        {**ALONE, "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH": "none"},
    ],
    ids=["others", "distro", "configurator", "gevent"],
)
def test_whatever_else_is_to_be_loaded_is_loaded_by_opentelemetry(environment):
    ours, _ = state(**environment)
    stock, _ = state("opentelemetry-instrument", **environment)
    assert OTHERS in ours["modules"]
    assert ours["active"] == stock["active"]
    assert {name for name in stock["modules"] if ".instrumentation." in name} <= {*ours["modules"]}


@pytest.mark.parametrize("switch", ["OTEL_COACH_DISABLED", "OTEL_SDK_DISABLED"])
def test_disabled_it_imports_nothing(switch):
    found, said = state(statements="active = []; ", **ALONE, **{switch: "true"})
    assert said == ""
    heavy = ("opentelemetry.sdk", "otel_coach.setup.installation", "prometheus_client", "wrapt")
    assert [name for name in found["modules"] if name.startswith(heavy)] == []


def test_single_instrumentations_can_be_disabled():
    disabled = f"{ALONE['OTEL_PYTHON_DISABLED_INSTRUMENTATIONS']}, otel_coach_langchain"
    found, _ = state(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled)
    assert "otel_coach_langchain" not in found["active"]
    assert "otel_coach_asgi" in found["active"]


def test_psycopg_is_instrumented_when_it_is_imported():
    found, _ = state(
        statements="import psycopg; active = [hasattr(psycopg.connect, '__wrapped__')]; ",
        **ALONE,
    )
    assert found["active"] == [True]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["no-such-program"], 127, "No such file or directory. Give the command"),
        (["/"], 126, "Permission denied"),
        ([], 2, "give the command that starts the service"),
        (["--"], 2, "give the command that starts the service"),
        (["--", sys.executable, "-c", "print('hi')"], 0, ""),
        (["--help"], 0, ""),
    ],
)
def test_a_command_that_cannot_start_is_told_in_one_line(words, code, said):
    done = subprocess.run(
        [bin_path("otel-coach"), "run", *words],
        env={**without_settings(), **ALONE},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_without_otel_coach_goes_on_and_says_the_cure(tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    done = subprocess.run(
        [bin_path("otel-coach"), "run", bare / "bin" / "python", "-c", "print('served')"],
        env={**without_settings(), **ALONE},
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout == "served\n"
    assert "Install otel-coach into the environment of that Python" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_folder_is_on_the_path_once(monkeypatch):
    from otel_coach.setup import launch

    started = []
    monkeypatch.setattr(os, "execvp", lambda *words: started.append(words))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/a", "/b"]))
    for _ in range(2):
        launch.launch(["uvicorn", "app:app"])
    assert started == [("uvicorn", ["uvicorn", "app:app"])] * 2
    first, *rest = os.environ["PYTHONPATH"].split(os.pathsep)
    assert os.listdir(first)  # noqa: PTH208
    assert rest == [os.getcwd(), "/a", "/b"]  # noqa: PTH109
