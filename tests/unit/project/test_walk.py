"""The walk from nothing to the first figure: README's commands, and what it takes for right."""

import pytest

from otel_coach.testing import Call, Page
from tests.support.paths import ROOT
from verification.walk.__main__ import problems, readme_commands, steps

CALLS = [
    Call("gpt-4o-mini", is_stream, (), 200, prompt, completion)
    for is_stream, prompt, completion in ((False, 1000, 500), (True, 10, 5))
]
# 1010 x 0.15 and 505 x 0.60 USD per million tokens.
PAGE = """\
# TYPE agent_llm_requests_total counter
agent_llm_requests_total{mode="invoke",model="gpt-4o-mini",status="ok",error_type=""} 2.0
# TYPE agent_llm_tokens_total counter
agent_llm_tokens_total{mode="prompt",model="gpt-4o-mini"} 1010.0
agent_llm_tokens_total{mode="completion",model="gpt-4o-mini"} 505.0
# TYPE agent_llm_cost_usd_total counter
agent_llm_cost_usd_total{model="gpt-4o-mini"} 0.0004545
# TYPE otel_coach_errors_total counter
otel_coach_errors_total{error_type="OSError"} 0.0
"""


def test_it_goes_by_the_first_commands_of_readme():
    install, serve = readme_commands()
    assert install == "pip install otel-coach"
    assert serve == "opentelemetry-instrument uvicorn app:app"


def test_the_page_has_each_of_its_steps():
    text = (ROOT / "docs" / "index.md").read_text("utf-8")
    _, _, rest = text.partition("<!-- output of `make walk` -->")
    table, end, _ = rest.partition("<!-- end of the output -->")
    rows = [line[2:-2].split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert end
    assert [what for what, _ in rows] == ["step", *steps(), "in all"]
    *seconds, whole = [float(value) for _, value in rows[1:]]
    assert sum(seconds) == pytest.approx(whole, abs=0.05 * len(seconds))
    assert whole > 0


def test_right_figures_are_no_problem():
    assert problems(Page(PAGE), CALLS) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("} 2.0", "} 1.0"),
        ("1010.0", "1011.0"),
        ("505.0", "0.0"),
        ("0.0004545", "0.0004544"),
        ('"OSError"} 0.0', '"OSError"} 1.0'),
    ],
)
def test_a_wrong_figure_is_a_problem(right, wrong):
    assert len(problems(Page(PAGE.replace(right, wrong)), CALLS)) == 1


def test_a_page_that_has_counted_nothing_is_a_problem():
    assert len(problems(Page(""), CALLS)) == 4
