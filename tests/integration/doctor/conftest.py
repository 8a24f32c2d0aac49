"""The doctor as a command, and its look at an application in a process of its own."""

import json
import os

import pytest

from otel_coach.cli.doctor import application, child_process
from otel_coach.cli.doctor.examined import Examined, Fact
from otel_coach.settings import Settings
from tests.support.cli import otel_coach_here
from tests.support.doctor import INSTRUMENT, PATH, findings
from tests.support.warm import forking


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
