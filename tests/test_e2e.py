"""The parts of the end-to-end suite that need no back end: what it says, and to whom."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from demo.checks import at_rest
from e2e.backends import Ports
from e2e.jaeger import Span, Trace
from e2e.report import Report
from e2e.tools import TOOLS, ToolError, find

ROOT = Path(__file__).parent.parent


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No tool is here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("e2e.tools.BUILT", tmp_path)
    for name in TOOLS:
        monkeypatch.delenv(name.upper(), raising=False)


def program(folder, name):
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_tool_is_what_its_variable_says_then_what_is_on_the_path_then_what_was_built(
    nowhere, monkeypatch, tmp_path
):
    built, on_path, given = (tmp_path / name for name in ("built", "path", "given"))
    for folder in (built, on_path, given):
        folder.mkdir()
        program(folder, "otelcol")
    monkeypatch.setattr("e2e.tools.BUILT", built)
    assert find("otelcol") == built / "otelcol"
    monkeypatch.setenv("PATH", str(on_path))
    assert find("otelcol") == on_path / "otelcol"
    monkeypatch.setenv("OTELCOL", str(given / "otelcol"))
    assert find("otelcol") == given / "otelcol"


@pytest.mark.parametrize(
    ("name", "cure"), [("otelcol", "make e2e-tools"), ("promtool", "package `prometheus`")]
)
def test_a_tool_that_is_not_here_is_named_with_its_cure(nowhere, name, cure):
    with pytest.raises(ToolError, match=name) as error:
        find(name)
    assert cure in str(error.value)


def test_a_variable_that_names_no_program_is_named(nowhere, monkeypatch):
    monkeypatch.setenv("JAEGER", "/no/such/program")
    with pytest.raises(ToolError, match="JAEGER=/no/such/program"):
        find("jaeger")


def test_a_port_that_is_taken_is_named_with_what_it_is_for():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (line,) = Ports(**{**vars(Ports.free()), "prometheus": port}).taken()
    assert f"port {port}, for prometheus," in line


@pytest.mark.parametrize("module", ["e2e", "e2e.up"])
def test_without_its_tools_it_says_so_in_one_line_and_ends(module, tmp_path):
    environment = {**os.environ, "PATH": str(tmp_path), "OTELCOL": "/no/such/program"}
    command = [sys.executable, "-m", module]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "OTELCOL=/no/such/program is no program" in done.stdout
    assert not done.stderr


def span(name, span_id, parent_id, start):
    return Span(name, span_id, parent_id, start, 1, {})


def test_a_trace_in_pieces_has_several_roots_and_a_whole_one_is_a_tree():
    spans = (
        span("chat", "c", "b", 3),
        span("POST /x", "a", "", 1),
        span("agent", "b", "a", 2),
        span("tool", "d", "b", 4),
    )
    assert Trace("t", spans).tree() == ("POST /x", "  agent", "    chat", "    tool")
    assert [root.name for root in Trace("t", spans[:2]).roots] == ["chat", "POST /x"]


def test_a_wrong_answer_is_in_the_report_with_the_right_one():
    report = Report(Console(quiet=True))
    report.chapter("Counts")
    report.equal("calls", 3.0, 3.0)
    report.equal("a | b", "x", "y")
    assert [finding.question for finding in report.wrong] == ["a | b"]
    assert "| calls | 3 |" in report.markdown()
    assert "y, not x" in report.markdown()


def test_what_comes_to_rest_is_looked_at_until_it_is_right():
    looks = iter([1, 2, 3])
    assert at_rest(lambda: next(looks), lambda found: found == 2, 5) == 2
    assert at_rest(lambda: "wrong", lambda _: False, 0) == "wrong"
