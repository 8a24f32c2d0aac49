"""Every shell and Python block of the documentation, run as a reader runs it."""

import json
import re
from contextlib import contextmanager

import pytest

from otel_coach.testing import ScriptedProvider
from tests.support.documentation import Place, blocks
from tests.support.environment import without_settings
from tests.support.invoices import page_text
from tests.support.paths import COACHING
from tests.support.programs import Program, free_port
from tests.support.small_service import send_one_of_each, small_service
from tests.support.stack import bin_path
from tests.support.warm import warm_python

SERVED = "http://localhost:8000"
# What the documentation's examples name, and no machine but the reader's has.
NOT_HERE = {"otlp-unreachable"}
# The calls of the small application name no model, and have no usage.
USAGE = "model,day,input_tokens,output_tokens,usd\ngpt-4o-mini,2026-11-28,0,0,0.000001\n"

# What tests.support.stand_ins.curl says that each provider has billed, as a page has it.
BILLED = {
    "OPENAI_ADMIN_KEY": page_text(
        {"gpt-4o": {"prompt": 1000, "completion": 500}}, {"gpt-4o": 0.0075}
    ),
    "ANTHROPIC_ADMIN_KEY": page_text(
        {"claude-sonnet-4-5": {"prompt": 2000, "completion": 700}}, {"claude-sonnet-4-5": 0.0165}
    ),
}

PRELUDE = """
from app import app

class agent:
    invoke = staticmethod(lambda _question: None)

def agent_tokens(question):
    yield question
"""
CONFTEST = """
import pytest
from fastapi.testclient import TestClient
from app import app

@pytest.fixture
def client():
    return TestClient(app)
"""
SHELL = list(blocks("shell"))
PYTHON = list(blocks("python"))


def test_there_are_blocks():
    assert len(SHELL) > 10
    assert len(PYTHON) > 5


def run(place, script):
    return place.run("bash", "-eu", "-o", "pipefail", text=script)


@contextmanager
def reference_service(tmp_path):
    """The address of the service of examples/coaching, started as its page says."""
    port = free_port()
    program = Program(
        [bin_path("uvicorn"), "app:app", "--port", str(port)],
        cwd=COACHING,
        ready=f"http://127.0.0.1:{port}/health",
        environment=without_settings(),
        log=tmp_path / "service.log",
    )
    try:
        yield f"localhost:{port}"
    finally:
        program.stop()


@pytest.mark.long
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_block_does_what_it_says(block, tmp_path):
    place = Place(tmp_path, block.page)
    (tmp_path / "usage.json").write_text(USAGE)
    script = block.text
    for key in BILLED.keys() & set(re.findall(r"\w+", script)):
        (tmp_path / "page.txt").write_text(BILLED[key])
        (tmp_path / "usage.json").unlink()
        script += "\notel-coach reconcile *.json --page page.txt\n"
    if "export " in script:
        script += "\npython -m tests.support.stand_ins.doctor > found.json\n"
    if SERVED in script:
        with small_service(tmp_path) as service:
            send_one_of_each(service)
            url = str(service.client.base_url).rstrip("/")
            done = run(place, script.replace(SERVED, url))
    elif "localhost:8000" in script:
        with reference_service(tmp_path) as address:
            done = run(place, script.replace("localhost:8000", address))
        chat, plan = done.stdout.strip().rsplit("\n", 1)
        kinds = [json.loads(line)["type"] for line in chat.splitlines()]
        assert list(dict.fromkeys(kinds)) == ["tool", "token", "end"], done.stdout
        assert json.loads(plan)["plan"]
    else:
        done = run(place, script)
    differs = "otel-coach reconcile" in script and "NOT reconciled: gpt-4o-mini" in done.stdout
    assert done.returncode == differs, done.stdout + done.stderr
    if (tmp_path / "found.json").exists():
        found = json.loads((tmp_path / "found.json").read_text())
        wanted = {"disabled"} if "OTEL_COACH_DISABLED" in script else set()
        assert set(found) - NOT_HERE == wanted


@pytest.fixture(scope="module")
def warm():
    with warm_python("tests.support.apps.documented_app") as run:
        yield run


@pytest.fixture
def python(warm, monkeypatch):
    """Runs Python at a place; what it prints is said if it fails."""

    def run(place, *words, text=None):
        monkeypatch.chdir(place.folder)
        done = warm(*words, text=text, environment=place.environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.mark.parametrize("block", [one for one in PYTHON if not one.is_test], ids=str)
def test_a_python_block_does_what_it_says(block, tmp_path, python):
    python(Place(tmp_path), "-", text=PRELUDE + block.text)


def test_the_tests_in_the_documentation_pass(tmp_path, python):
    tests = [one for one in PYTHON if one.is_test]
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for block in tests:
        (tmp_path / f"test_line_{block.line}.py").write_text(block.text)
    with ScriptedProvider(*["Hello."] * len(tests)) as provider:
        place = Place(tmp_path, OPENAI_BASE_URL=provider.base_url, OPENAI_API_KEY="none")
        said = python(place, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert f"{len(tests)} passed" in said
