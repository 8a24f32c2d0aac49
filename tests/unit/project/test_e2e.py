"""The parts of the end-to-end suite that need no back end: what it says, and to whom."""

import socket

import pytest
from rich.console import Console

from examples.coaching.demo.checks import at_rest
from verification.end_to_end.backends import Ports
from verification.end_to_end.jaeger import Span, Trace
from verification.end_to_end.report import Report
from verification.end_to_end.tools import TOOLS, ToolError, find


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No tool is here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("verification.end_to_end.tools.BUILT", tmp_path)
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
    monkeypatch.setattr("verification.end_to_end.tools.BUILT", built)
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
